package words

import (
	"fmt"
	"io"
	"unicode/utf8"
)

// Cleaner is the last thing that a command's output passes: whatever was
// overlooked before, no terminal and no viewer gets a rune that is not visible.
// An unfinished rune waits for the rest of it, which the next Write brings.
type Cleaner struct {
	w     io.Writer
	json  bool
	space rune   // one more that may pass, 0: none
	rest  []byte // the beginning of a rune
	out   []byte
}

// TextWriter cleans text for people, as Clean does; line breaks and tabs pass.
func TextWriter(w io.Writer) *Cleaner { return &Cleaner{w: Raw(w)} }

// JSONWriter cleans a JSON text. An escape there is one of JSON, so what is read
// from it is what was written. Nothing but strings can have such runes in it.
func JSONWriter(w io.Writer) *Cleaner { return &Cleaner{w: Raw(w), json: true} }

// PageWriter cleans a page with JSON in it. The no-break space is the page's own.
func PageWriter(w io.Writer) *Cleaner { return &Cleaner{w: Raw(w), json: true, space: '\u00a0'} }

// Raw returns what w cleans for, for those who clean by themselves, or write no
// text; w itself where it is no Cleaner.
func Raw(w io.Writer) io.Writer {
	if c, ok := w.(*Cleaner); ok {
		return c.w
	}
	return w
}

func (c *Cleaner) Write(p []byte) (int, error) {
	if len(c.rest) == 0 && c.clean(p) {
		return c.w.Write(p)
	}
	text := append(c.rest, p...)
	c.out = c.out[:0]
	for len(text) > 0 && utf8.FullRune(text) {
		r, n := utf8.DecodeRune(text)
		switch {
		case r == utf8.RuneError && n == 1:
			c.out = c.invalid(c.out, text[0])
		case c.passes(r):
			c.out = append(c.out, text[:n]...)
		case c.json:
			c.out = appendJSONEscape(c.out, r)
		default:
			c.out = append(c.out, escapeRune(r)...)
		}
		text = text[n:]
	}
	c.rest = append(c.rest[:0:0], text...)
	if _, err := c.w.Write(c.out); err != nil {
		return 0, err
	}
	return len(p), nil
}

// clean reports whether all of p may pass as it is.
func (c *Cleaner) clean(p []byte) bool {
	for i := 0; i < len(p); {
		if p[i] < utf8.RuneSelf {
			if !c.passes(rune(p[i])) {
				return false
			}
			i++
			continue
		}
		r, n := utf8.DecodeRune(p[i:])
		if r == utf8.RuneError && n == 1 || !c.passes(r) {
			return false
		}
		i += n
	}
	return true
}

func (c *Cleaner) passes(r rune) bool {
	return r >= ' ' && r <= '~' || r == '\n' || r == '\t' || r == c.space && r != 0 || visible(r)
}

func (c *Cleaner) invalid(out []byte, b byte) []byte {
	if c.json {
		return append(out, "\ufffd"...)
	}
	return fmt.Appendf(out, `\x%02x`, b)
}

// appendJSONEscape appends r as RFC 8259 has it: beyond U+FFFF as two.
func appendJSONEscape(out []byte, r rune) []byte {
	if r < 0x10000 {
		return fmt.Appendf(out, `\u%04x`, r)
	}
	r -= 0x10000
	return fmt.Appendf(out, `\u%04x\u%04x`, 0xd800+r>>10, 0xdc00+r&0x3ff)
}
