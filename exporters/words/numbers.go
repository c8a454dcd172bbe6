package words

import (
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/bootrace/bootrace/tracer/event"
)

func itoa(n int) string { return strconv.Itoa(n) }

// Seconds is an instant, in seconds since boot as in the kernel's log.
func Seconds(t event.Time) string { return fixed(t.Seconds(), 3) + " s" }

func fixed(v float64, decimals int) string { return strconv.FormatFloat(v, 'f', decimals, 64) }

// Duration is d, which is not negative, with about three digits.
func (s *Signs) Duration(d event.Duration) string {
	switch {
	case d < time.Microsecond:
		return itoa(int(d)) + " ns"
	case d < time.Millisecond:
		return digits(float64(d)/1e3) + " " + s.Micro + "s"
	case d < time.Second:
		return digits(float64(d)/1e6) + " ms"
	case d < 100*time.Second:
		return fixed(d.Seconds(), 3) + " s"
	}
	return Long(d)
}

// Round is a duration that is known to be round, such as one that a person chose:
// without the zeros that only a measurement has.
func (s *Signs) Round(d event.Duration) string {
	number, unit, ok := strings.Cut(s.Duration(d), " ")
	if !ok || !strings.Contains(number, ".") {
		return s.Duration(d)
	}
	return strings.TrimRight(strings.TrimRight(number, "0"), ".") + " " + unit
}

func digits(v float64) string {
	switch {
	case v < 10:
		return fixed(v, 2)
	case v < 100:
		return fixed(v, 1)
	}
	return fixed(v, 0)
}

// Long is a duration that people count in minutes or more.
func Long(d event.Duration) string {
	switch d = d.Round(time.Second); {
	case d < time.Minute:
		return itoa(int(d/time.Second)) + " s"
	case d < time.Hour:
		return two(d, time.Minute, "min", time.Second, "s")
	case d < 48*time.Hour:
		return two(d, time.Hour, "h", time.Minute, "min")
	}
	return two(d, 24*time.Hour, "days", time.Hour, "h")
}

// two is d in two units, the second only where there is any of it.
func two(d, large event.Duration, largeName string, small event.Duration, smallName string) string {
	text := itoa(int(d/large)) + " " + largeName
	if rest := int(d % large / small); rest > 0 {
		text += " " + itoa(rest) + " " + smallName
	}
	return text
}

// Count is "1 race", "2 races".
func Count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return itoa(n) + " " + many
}

// Bytes is a size, for people and exactly: two that differ never look alike.
func Bytes(n int64) string {
	text := humanize.IBytes(uint64(max(n, 0)))
	if n < 1024 {
		return text
	}
	return text + " (" + strconv.FormatInt(n, 10) + " bytes)"
}

// Capital returns s with a large first letter, as a sentence begins. A path stays
// as it is, and so does the name of an image with a protocol, as nbd://host/disk.
func Capital(s string) string {
	word, _, _ := strings.Cut(s, " ")
	if s == "" || s[0] < 'a' || s[0] > 'z' || strings.ContainsAny(strings.TrimSuffix(word, ":"), ":/.=") {
		return s
	}
	return string(s[0]-'a'+'A') + s[1:]
}
