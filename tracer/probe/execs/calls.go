package execs

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/bootrace/bootrace/tracer/probe/ftrace"
)

// hit is one record.
type hit struct {
	at    uint64
	tid   int
	event string
	old   int // the thread that executed, of evExec: it takes its process's id
	file  slot
	slots [portion]slot
}

// slot is an element of the list of arguments.
type slot struct {
	null bool
	text string
	ok   bool // the text could be read, to its end
}

// maxText is how much of a string the kernel records (PATH_MAX), its end
// included.
const maxText = 4096

func readHit(r *ftrace.Record) hit {
	h := hit{at: r.Time, tid: r.TID, event: r.Format.Name}
	if h.event == evExec {
		h.old = int(r.Int("old_pid"))
	}
	if isCall(h.event) {
		h.file = readText(r, fieldFile)
		for i := range h.slots {
			h.slots[i] = readText(r, fieldText(i))
			h.slots[i].null = r.Uint(fieldPointer(i)) == 0
		}
	}
	return h
}

// readText reads a string. From Linux 5.8 on an empty one is recorded as one
// that could not be read is: it is taken for empty, since what a caller passes is
// in its memory.
func readText(r *ftrace.Record, field string) slot {
	text, _ := r.String(field)
	return slot{text: strings.Clone(text), ok: len(text) < maxText-1}
}

func isCall(event string) bool { return event != evExec && event != evExit }

// calls are those under way, by thread.
type calls map[int]*Call

// take takes a hit. They come in the order of time.
func (c calls) take(h *hit) {
	switch {
	case h.event == evExec:
		delete(c, h.tid)
		delete(c, h.old)
	case h.event == evExit:
		delete(c, h.tid)
	case portionOf(h.event) == 0:
		call := &Call{TID: h.tid, at: h.at, Filename: h.file.text}
		if !h.file.ok {
			call.broken = "the name of the program"
		}
		c[h.tid] = call
		call.append(h)
	case c[h.tid] != nil:
		call := c[h.tid]
		if first := portionOf(h.event) * portion; first != len(call.Args) && !call.done {
			call.broken = fmt.Sprintf("arguments %d to %d", len(call.Args), first-1)
			return
		}
		call.append(h)
	}
}

// portionOf is the number behind an event's name.
func portionOf(event string) int {
	_, number, _ := strings.Cut(event, "_")
	n, err := strconv.Atoi(number)
	if err != nil {
		return -1
	}
	return n
}

// append adds the next arguments, up to the end of the list.
func (c *Call) append(h *hit) {
	for _, s := range h.slots {
		if c.done || s.null {
			c.done = true
			return
		}
		if !s.ok {
			c.broken = fmt.Sprintf("argument %d", len(c.Args))
		}
		c.Args = append(c.Args, s.text)
	}
}

// newest returns the last call of these threads.
func (c calls) newest(tids []int) *Call {
	var found *Call
	for _, tid := range tids {
		if call := c[tid]; call != nil && (found == nil || call.at > found.at) {
			found = call
		}
	}
	return found
}

const (
	// maxCalls is how many calls may be under way before old ones are dropped:
	// those that failed stay until their thread calls again, or ends.
	maxCalls = 4096
	// staleAfter is when a call is not under way any more, or has been asked for
	// long ago: from its entry to the open of the file it takes no time.
	staleAfter = uint64(60e9)
)

func (c calls) prune() {
	if len(c) <= maxCalls {
		return
	}
	var newest uint64
	for _, call := range c {
		newest = max(newest, call.at)
	}
	for tid, call := range c {
		if newest-call.at > staleAfter {
			delete(c, tid)
		}
	}
}
