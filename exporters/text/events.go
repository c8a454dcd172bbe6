package text

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/exporters/words"
	"github.com/bootrace/bootrace/tracer/event"
)

// Events writes events, a paragraph each: when, its number in the record, what it is,
// who did it, and all that the record has of it.
type Events struct {
	p *printer
	// wall is the boot's wall time in nanoseconds, 0 where times count from the boot.
	wall int64
}

// NewEvents returns a writer of events to w. With a wall time of the boot, in
// nanoseconds since 1970, instants are told as wall times.
func NewEvents(w io.Writer, opts Options, wall int64) *Events {
	return &Events{newPrinter(w, opts), wall}
}

// Write writes e, and all before it that waits.
func (w *Events) Write(e *event.Event) error {
	var t paragraph
	t.Add(padLeft(w.at(e.At), 12), plain)
	t.Add(pad("#"+strconv.FormatUint(e.ID, 10), 6), strong)
	t.Add(string(e.Kind), info)
	if e.Proc != nil {
		t.Add(w.p.name(e.Proc.Comm, words.NameCols)+"["+strconv.Itoa(e.Proc.PID)+"]", plain)
	}
	if e.From != 0 && e.From < e.At {
		t.Say("(or up to "+w.p.teller.Signs.Duration(e.At.Sub(e.From))+" before)", dim)
	}
	for _, f := range payload(e) {
		t.Say(f.name+"="+w.p.clean(f.value), plain)
	}
	w.p.write(t, 4)
	return w.p.flush()
}

func (w *Events) at(at event.Time) string {
	if w.wall == 0 {
		return fmt.Sprintf("%.6f s", at.Seconds())
	}
	return time.Unix(0, w.wall+int64(at)).In(w.p.opts.location()).Format("2006-01-02 15:04:05.000000 MST")
}

// part is a field of an event, as the record has it.
type part struct{ name, value string }

// own are the fields that have a place of their own in the line.
var own = map[string]bool{"id": true, "t_ns": true, "from_ns": true, "kind": true, "src": true}

// payload is all that e says, in the order of the record; what lies deeper stays JSON.
func payload(e *event.Event) []part {
	text, err := json.Marshal(e)
	if err != nil {
		return []part{{"error", err.Error()}}
	}
	var parts []part
	each(text, func(name string, value json.RawMessage) {
		switch {
		case own[name]:
		case len(value) > 0 && value[0] == '{':
			each(value, func(inner string, value json.RawMessage) {
				if name == "proc" && (inner == "pid" || inner == "comm") {
					return
				}
				parts = append(parts, part{inner, plainValue(inner, value)})
			})
		default:
			parts = append(parts, part{name, plainValue(name, value)})
		}
	})
	return parts
}

// each calls f for each field of a JSON object, in order.
func each(object []byte, f func(name string, value json.RawMessage)) {
	in := json.NewDecoder(bytes.NewReader(object))
	if _, err := in.Token(); err != nil {
		return
	}
	for in.More() {
		name, err := in.Token()
		key, ok := name.(string)
		var value json.RawMessage
		if err != nil || !ok || in.Decode(&value) != nil {
			return
		}
		f(key, value)
	}
}

// plainValue is a JSON value as a person reads it: a text without its quotes, a
// command line with blanks, an errno with its name.
func plainValue(name string, value json.RawMessage) string {
	var s string
	if json.Unmarshal(value, &s) == nil {
		return s
	}
	var list []string
	if json.Unmarshal(value, &list) == nil {
		return strings.Join(list, " ")
	}
	var n int
	if name == "errno" && json.Unmarshal(value, &n) == nil && unix.ErrnoName(unix.Errno(n)) != "" {
		return unix.ErrnoName(unix.Errno(n))
	}
	return string(value)
}
