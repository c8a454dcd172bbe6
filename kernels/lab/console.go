package lab

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"time"

	"github.com/bootrace/bootrace/tracer/emulate"
)

// console keeps what a machine's console says.
type console struct {
	f     *os.File
	start time.Time
}

func openConsole(path string, fresh bool) (*console, error) {
	flags := os.O_WRONLY | os.O_CREATE | os.O_APPEND
	if fresh {
		flags |= os.O_TRUNC
	}
	f, err := os.OpenFile(path, flags, 0o644)
	if err != nil {
		return nil, fmt.Errorf("keep the console: %w", err)
	}
	return &console{f, time.Now()}, nil
}

func (c *console) Close() error { return c.f.Close() }

// line returns what takes the console's lines. It ends the machine with kill
// when it will not go on by itself.
func (c *console) line(kill context.CancelCauseFunc) func(string) {
	return func(line string) {
		fmt.Fprintf(c.f, "%8.3f %s\n", time.Since(c.start).Seconds(), line)
		if why := emulate.Stuck(line); why != "" {
			kill(fmt.Errorf("%s: look at %s", why, c.f.Name()))
		}
	}
}

// pipes are the ends of what a program writes by lines on further descriptors.
type pipes struct {
	remote  []*os.File
	readers sync.WaitGroup
}

// readPipes gives cmd a descriptor for each taker, from 3 on.
func readPipes(cmd *exec.Cmd, takers ...func(line string)) (*pipes, error) {
	p := &pipes{}
	for _, take := range takers {
		r, w, err := os.Pipe()
		if err != nil {
			p.closeRemote()
			return nil, fmt.Errorf("make a pipe: %w", err)
		}
		p.remote = append(p.remote, w)
		p.readers.Go(func() {
			defer r.Close()
			emulate.Lines(r, take)
		})
	}
	cmd.ExtraFiles = p.remote
	return p, nil
}

// closeRemote closes the program's ends here, so that reading ends with it.
func (p *pipes) closeRemote() {
	for _, f := range p.remote {
		f.Close()
	}
}

func (p *pipes) wait() { p.readers.Wait() }
