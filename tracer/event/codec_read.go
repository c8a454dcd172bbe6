package event

import (
	"bytes"
	"encoding/binary"
	"hash/maphash"
	"slices"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

const (
	// internSlots is the number of strings a Decoder remembers: enough for the
	// names and paths of a large host, 128 KiB of string headers.
	internSlots = 8192
	// internMax is the longest string worth remembering, in bytes.
	internMax = 128
	// maxDepth bounds the nesting of values that are skipped.
	maxDepth = 1000
)

// internSeed is shared so that reader stays small; hashes leave no process.
var internSeed = maphash.MakeSeed()

// reader reads JSON from in. After an error it is at its end: nothing is read
// any more, and err says what was wrong first.
type reader struct {
	in   []byte
	pos  int
	seen *[internSlots]string // nil: do not share strings
	// clean is set where no string has an escape or needs another look.
	clean bool

	// The member that is being read: its value begins at pos. end is set
	// between an object's last member and the next name.
	key []byte
	end bool

	scratch []byte
	err     error
}

func (r *reader) event(e *Event) error {
	if !r.clean && !utf8.Valid(r.in) {
		return &SyntaxError{firstInvalid(r.in), "not UTF-8"}
	}
	r.object(e)
	if r.space(); r.err == nil && r.pos < len(r.in) {
		r.fail("something follows the event")
	}
	return r.err
}

// clean reports whether b is printable ASCII without a backslash, as nearly
// all events are. It looks at eight bytes at a time: a byte of v is below 0x20
// where subtracting that borrows into a high bit that v has not.
func clean(b []byte) bool {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	var bad uint64
	for ; len(b) >= 8; b = b[8:] {
		v := binary.LittleEndian.Uint64(b)
		backslash := v ^ ones*'\\'
		bad |= v | (v - ones*' ') | (backslash - ones)
	}
	for _, c := range b {
		if !plain[c] && c != '"' {
			return false
		}
	}
	return bad&highs == 0
}

func firstInvalid(b []byte) int {
	for i := 0; i < len(b); {
		c, size := utf8.DecodeRune(b[i:])
		if c == utf8.RuneError && size <= 1 {
			return i
		}
		i += size
	}
	return len(b)
}

func (r *reader) fail(reason string) {
	if r.err == nil {
		r.err = &SyntaxError{r.pos, reason}
	}
	r.end, r.key = true, nil
	r.pos = len(r.in)
}

func (r *reader) space() {
	for r.pos < len(r.in) {
		switch r.in[r.pos] {
		case ' ', '\t', '\n', '\r':
			r.pos++
		default:
			return
		}
	}
}

// accept steps over white space and c, or tells that c is not next.
func (r *reader) accept(c byte) bool {
	if r.pos < len(r.in) && r.in[r.pos] == c {
		r.pos++
		return true
	}
	r.space()
	if r.pos < len(r.in) && r.in[r.pos] == c {
		r.pos++
		return true
	}
	return false
}

// literal steps over s where it is next.
func (r *reader) literal(s string) bool {
	r.space()
	if len(r.in)-r.pos < len(s) || string(r.in[r.pos:r.pos+len(s)]) != s {
		return false
	}
	r.pos += len(s)
	return true
}

// null steps over a null that begins at pos.
func (r *reader) null() bool {
	return r.pos < len(r.in) && r.in[r.pos] == 'n' && r.literal("null")
}

// at reports whether name is the member to be read.
func (r *reader) at(name string) bool { return string(r.key) == name && !r.end }

// object reads an object's members into v, in whatever order they come. One
// visit reads all that come in v's own order, which is how they were written.
func (r *reader) object(v fielder) {
	if !r.accept('{') {
		r.fail("expected an object")
		return
	}
	r.first()
	for !r.end {
		before := r.pos
		if v.fields(form{r: r}); r.pos == before && !r.end {
			r.skip(0)
			r.next()
		}
	}
}

// first goes to an object's first member.
func (r *reader) first() {
	if r.end = false; r.accept('}') {
		r.end = true
		return
	}
	r.member()
}

// next goes to the member that follows a value.
func (r *reader) next() {
	r.end = false
	switch {
	case r.err != nil:
		r.end = true
	case r.accept(','):
		r.member()
	case r.accept('}'):
		r.end = true
	default:
		r.fail("expected , or }")
	}
}

func (r *reader) member() {
	if r.plainName() {
		return
	}
	r.key = r.quoted()
	if !r.accept(':') {
		r.fail("expected :")
		return
	}
	r.space() // so that a value's first byte is at pos
}

// plainName reads a name as it is nearly always written: no escapes, no white
// space. Names are short, a loop finds their end faster than a search.
func (r *reader) plainName() bool {
	if r.pos >= len(r.in) || r.in[r.pos] != '"' {
		return false
	}
	start := r.pos + 1
	end := start
	for end < len(r.in) && verbatim[r.in[end]] {
		end++
	}
	if end+2 >= len(r.in) || r.in[end] != '"' || r.in[end+1] != ':' || r.in[end+2] <= ' ' {
		return false
	}
	r.key, r.pos = r.in[start:end], end+2
	return true
}

func readObject[T any, P pointer[T]](r *reader, v **T) {
	if !r.null() {
		if *v == nil {
			*v = new(T)
		}
		r.object(P(*v))
	}
	r.next()
}

// element reads an object in a list.
func (r *reader) element(v fielder) {
	if r.space(); !r.null() {
		r.object(v)
	}
}

// list reads an array, one element at a time.
func list[T any](r *reader, v *[]T, read func(*T)) {
	if !r.null() {
		*v = elements(r, (*v)[:0], read)
	}
	r.next()
}

func elements[T any](r *reader, v []T, read func(*T)) []T {
	if !r.accept('[') {
		r.fail("expected a list")
		return nil
	}
	if v == nil {
		v = []T{}
	}
	if r.accept(']') {
		return v
	}
	for {
		var x T
		if read(&x); r.err != nil {
			return nil
		}
		v = append(v, x)
		if r.accept(']') {
			return slices.Clip(v)
		}
		if !r.accept(',') {
			r.fail("expected , or ]")
			return nil
		}
	}
}

func (r *reader) textMap(v *map[string]string) {
	if r.null() {
		r.next()
		return
	}
	if !r.accept('{') {
		r.fail("expected an object")
		return
	}
	if *v == nil {
		*v = make(map[string]string)
	}
	for r.first(); !r.end; r.next() {
		k := r.share(r.key)
		var s string
		r.value(&s)
		(*v)[k] = s
	}
	r.next()
}

func (r *reader) boolean(v *bool) {
	switch {
	case r.literal("true"):
		*v = true
	case r.literal("false"):
		*v = false
	case r.null():
	default:
		r.fail("expected true or false")
	}
	r.next()
}

func readInteger[T ~int | ~int64 | ~uint32 | ~uint64](r *reader, v *T) {
	if r.null() {
		r.next()
		return
	}
	start := r.pos
	negative := r.pos < len(r.in) && r.in[r.pos] == '-'
	if negative {
		r.pos++
	}
	n, ok := r.digits()
	x := T(n)
	if negative {
		x = -x
	}
	switch {
	case !ok || !r.delimited():
		r.pos = start
		r.fail("expected a whole number")
	case n != 0 && (negative != (x < 0) || magnitude(x) != n):
		r.pos = start
		r.fail("number out of range")
	default:
		*v = x
		r.next()
	}
}

func magnitude[T ~int | ~int64 | ~uint32 | ~uint64](x T) uint64 {
	if x < 0 {
		return -uint64(x)
	}
	return uint64(x)
}

// digits reads a run of digits as JSON has them: no leading zero, and no more
// than fit.
func (r *reader) digits() (n uint64, ok bool) {
	start, i := r.pos, r.pos
	for i < len(r.in) && r.in[i]-'0' <= 9 {
		n = n*10 + uint64(r.in[i]-'0')
		i++
	}
	r.pos = i
	switch length := i - start; {
	case length == 0 || length > 1 && r.in[start] == '0':
		return 0, false
	case length > 19: // more than surely fits
		n, err := strconv.ParseUint(string(r.in[start:i]), 10, 64)
		return n, err == nil
	}
	return n, true
}

// delimited reports whether a number ends here.
func (r *reader) delimited() bool {
	if r.pos == len(r.in) {
		return true
	}
	switch r.in[r.pos] {
	case '.', 'e', 'E':
		return false
	}
	return true
}

// text reads a member's string.
func (r *reader) text(v *string) {
	r.value(v)
	r.next()
}

// value reads a string; null leaves v as it is.
func (r *reader) value(v *string) {
	if r.space(); r.null() {
		return
	}
	if s := r.quoted(); r.err == nil {
		*v = r.share(s)
	}
}

// share returns b as a string, the same one as before if it still knows it.
func (r *reader) share(b []byte) string {
	if r.seen == nil {
		return string(b)
	}
	return share(r.seen, b)
}

func share(seen *[internSlots]string, b []byte) string {
	if len(b) == 0 || len(b) > internMax {
		return string(b)
	}
	slot := &seen[maphash.Bytes(internSeed, b)%internSlots]
	if *slot != string(b) {
		*slot = string(b)
	}
	return *slot
}

// quoted reads a string. The bytes are valid until the next call.
func (r *reader) quoted() []byte {
	if !r.accept('"') {
		r.fail("expected a string")
		return nil
	}
	start := r.pos
	if r.clean {
		if n := bytes.IndexByte(r.in[start:], '"'); n >= 0 {
			r.pos += n + 1
			return r.in[start : start+n]
		}
	}
	for i := start; i < len(r.in); i++ {
		switch c := r.in[i]; {
		case verbatim[c]:
		case c == '"':
			r.pos = i + 1
			return r.in[start:i]
		case c == '\\':
			r.pos = i
			return r.unescape(start)
		default:
			r.pos = i
			r.fail("control character in a string")
			return nil
		}
	}
	r.fail("string without an end")
	return nil
}

// verbatim marks the bytes that stand for themselves when reading.
var verbatim = func() (t [256]bool) {
	for i := range t {
		t[i] = i >= ' ' && i != '"' && i != '\\'
	}
	return t
}()

// unescape reads the string from start on, whose first escape is at pos.
func (r *reader) unescape(start int) []byte {
	out := append(r.scratch[:0], r.in[start:r.pos]...)
	for r.pos < len(r.in) {
		c := r.in[r.pos]
		r.pos++
		switch {
		case c == '"':
			r.scratch = out
			return out
		case c == '\\':
			out = r.escape(out)
		case c < ' ':
			r.fail("control character in a string")
		default:
			out = append(out, c)
		}
	}
	r.fail("string without an end")
	return nil
}

// escape reads the escape whose backslash has been read.
func (r *reader) escape(out []byte) []byte {
	if r.pos == len(r.in) {
		return out
	}
	c := r.in[r.pos]
	r.pos++
	switch c {
	case '"', '\\', '/':
		return append(out, c)
	case 'b':
		return append(out, '\b')
	case 'f':
		return append(out, '\f')
	case 'n':
		return append(out, '\n')
	case 'r':
		return append(out, '\r')
	case 't':
		return append(out, '\t')
	case 'u':
		return r.codeUnit(out)
	}
	r.fail("unknown escape")
	return out
}

// codeUnit reads what follows \u: a character, half of one, or a foreign byte.
func (r *reader) codeUnit(out []byte) []byte {
	c, ok := hex4(r.in[r.pos:])
	if !ok {
		r.fail("expected four hexadecimal digits")
		return out
	}
	r.pos += 4
	if !utf16.IsSurrogate(c) {
		return utf8.AppendRune(out, c)
	}
	if rest := r.in[r.pos:]; len(rest) > 6 && rest[0] == '\\' && rest[1] == 'u' {
		low, ok := hex4(rest[2:])
		if pair := utf16.DecodeRune(c, low); ok && pair != utf8.RuneError {
			r.pos += 6
			return utf8.AppendRune(out, pair)
		}
	}
	if c >= surrogateBase|0x80 && c <= surrogateBase|0xff {
		return append(out, byte(c))
	}
	return utf8.AppendRune(out, utf8.RuneError)
}

func hex4(b []byte) (rune, bool) {
	if len(b) < 4 {
		return 0, false
	}
	var n rune
	for _, c := range b[:4] {
		switch {
		case c >= '0' && c <= '9':
			n = n<<4 | rune(c-'0')
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			n = n<<4 | rune(c|0x20-'a'+10)
		default:
			return 0, false
		}
	}
	return n, true
}

// skip steps over one value of any kind.
func (r *reader) skip(depth int) {
	r.space()
	if r.pos == len(r.in) || depth > maxDepth {
		r.fail("expected a value")
		return
	}
	switch c := r.in[r.pos]; {
	case c == '"':
		r.quoted()
	case c == '{':
		r.skipList('{', '}', depth, true)
	case c == '[':
		r.skipList('[', ']', depth, false)
	case c == '-' || c >= '0' && c <= '9':
		r.skipNumber()
	case !r.literal("true") && !r.literal("false") && !r.literal("null"):
		r.fail("expected a value")
	}
}

func (r *reader) skipList(opening, closing byte, depth int, named bool) {
	r.accept(opening)
	if r.accept(closing) {
		return
	}
	for r.err == nil {
		if named {
			if r.quoted(); !r.accept(':') {
				r.fail("expected :")
			}
		}
		r.skip(depth + 1)
		if r.accept(closing) {
			return
		}
		if !r.accept(',') {
			r.fail("expected , or the end of a list")
		}
	}
}

func (r *reader) skipNumber() {
	if r.in[r.pos] == '-' {
		r.pos++
	}
	start := r.pos
	n := r.skipDigits()
	ok := n == 1 || n > 1 && r.in[start] != '0'
	if r.pos < len(r.in) && r.in[r.pos] == '.' {
		r.pos++
		ok = r.skipDigits() > 0 && ok
	}
	if r.pos < len(r.in) && r.in[r.pos]|0x20 == 'e' {
		r.pos++
		if r.pos < len(r.in) && (r.in[r.pos] == '+' || r.in[r.pos] == '-') {
			r.pos++
		}
		ok = r.skipDigits() > 0 && ok
	}
	if !ok {
		r.fail("malformed number")
	}
}

// skipDigits steps over digits and returns how many.
func (r *reader) skipDigits() int {
	start := r.pos
	for r.pos < len(r.in) && r.in[r.pos]-'0' <= 9 {
		r.pos++
	}
	return r.pos - start
}
