package main

import (
	"fmt"
	"io"
	"iter"
	"os"
	"time"

	"github.com/dustin/go-humanize"
	"golang.org/x/term"

	"github.com/bootrace/bootrace/exporters/words"
)

// progress tells a person at a terminal how far long work has come. Everywhere
// else it says nothing, and neither does it of work that is soon done.
type progress struct {
	to         io.Writer // nil: nobody looks
	verb, what string
	count      int64
	next       time.Time
	shown      bool
}

// progressEvery is also how long work may take without a word.
const progressEvery = 500 * time.Millisecond

// newProgress returns a progress like "read 1,000 events".
func newProgress(w io.Writer, verb, what string) *progress {
	p := &progress{verb: verb, what: what, next: time.Now().Add(progressEvery)}
	if f, ok := words.Raw(w).(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		p.to = f
	}
	return p
}

func (p *progress) add(n int) {
	p.count += int64(n)
	if p.to == nil || p.count%256 != 0 && n == 1 {
		return
	}
	if now := time.Now(); now.After(p.next) {
		p.next, p.shown = now.Add(progressEvery), true
		fmt.Fprintf(p.to, "\r\x1b[K%s %s %s", p.verb, humanize.Comma(p.count), p.what)
	}
}

// done takes the line away.
func (p *progress) done() {
	if p.shown {
		fmt.Fprint(p.to, "\r\x1b[K")
		p.shown = false
	}
}

// counted counts what passes.
func counted[T any](seq iter.Seq2[T, error], p *progress) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for v, err := range seq {
			p.add(1)
			if !yield(v, err) {
				return
			}
		}
	}
}
