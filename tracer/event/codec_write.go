package event

import (
	"strconv"
	"unicode/utf8"
)

// writer appends JSON to out.
type writer struct {
	out   []byte
	inner bool // the next member or element is not the first
}

func (w *writer) open(c byte) {
	w.out = append(w.out, c)
	w.inner = false
}

func (w *writer) close(c byte) {
	w.out = append(w.out, c)
	w.inner = true
}

func (w *writer) comma() {
	if w.inner {
		w.out = append(w.out, ',')
	}
	w.inner = true
}

// name begins a member; names need no escapes.
func (w *writer) name(name string) {
	w.comma()
	w.out = append(w.out, '"')
	w.out = append(w.out, name...)
	w.out = append(w.out, '"', ':')
}

func (w *writer) object(v fielder) {
	w.open('{')
	v.fields(form{w: w})
	w.close('}')
}

func (w *writer) null() { w.out = append(w.out, "null"...) }

func (w *writer) boolean(v bool) { w.out = strconv.AppendBool(w.out, v) }

func writeInteger[T ~int | ~int64 | ~uint32 | ~uint64](w *writer, v T) {
	if v < 0 {
		w.out = strconv.AppendInt(w.out, int64(v), 10)
	} else {
		w.out = strconv.AppendUint(w.out, uint64(v), 10)
	}
}

func (w *writer) texts(list []string) {
	w.open('[')
	for _, s := range list {
		w.comma()
		w.text(s)
	}
	w.close(']')
}

func (w *writer) textMap(m map[string]string, keys []string) {
	w.open('{')
	for _, k := range keys {
		w.comma()
		w.text(k)
		w.out = append(w.out, ':')
		w.text(m[k])
	}
	w.close('}')
}

func (w *writer) text(s string) {
	w.out = append(w.out, '"')
	done := 0
	for i := 0; i < len(s); {
		c := s[i]
		if plain[c] {
			i++
			continue
		}
		r, size := rune(c), 1
		if c >= utf8.RuneSelf {
			r, size = utf8.DecodeRuneInString(s[i:])
			if size > 1 && r > lastC1 {
				i += size
				continue
			}
		}
		w.out = append(w.out, s[done:i]...)
		w.escape(r, size, c)
		i += size
		done = i
	}
	w.out = append(w.out, s[done:]...)
	w.out = append(w.out, '"')
}

// lastC1 is the last of the C1 control characters, which begin at U+0080.
const lastC1 = 0x9f

// escape writes r, or c where r is what utf8 returns for an invalid byte.
func (w *writer) escape(r rune, size int, c byte) {
	switch {
	case size == 1 && r == utf8.RuneError:
		w.hex(surrogateBase | rune(c))
	case r == '"' || r == '\\':
		w.out = append(w.out, '\\', c)
	case r == '\n':
		w.out = append(w.out, `\n`...)
	case r == '\t':
		w.out = append(w.out, `\t`...)
	default:
		w.hex(r)
	}
}

// surrogateBase plus an invalid byte is the surrogate that stands for it.
const surrogateBase = 0xdc00

func (w *writer) hex(r rune) {
	const digits = "0123456789abcdef"
	w.out = append(w.out, '\\', 'u', digits[r>>12&15], digits[r>>8&15], digits[r>>4&15], digits[r&15])
}

// plain marks the bytes that stand for themselves in a JSON string.
var plain = func() (t [256]bool) {
	for c := byte(' '); c < 0x7f; c++ {
		t[c] = c != '"' && c != '\\'
	}
	return t
}()
