// Package execs tells what a task has asked execve for while it is still in it,
// from probes at the entry of the system call.
//
// It is for whoever must not look at such a task. Before Linux 5.7 a task in
// execve owns a lock (cred_guard_mutex) that readers of its memory, and of the
// system call that it is in, wait for: until the exec is done. Like the probes
// of package tracefs these use nothing that Linux 3.10 lacks.
package execs

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/bootrace/bootrace/tracer/probe/ftrace"
	"github.com/bootrace/bootrace/tracer/probe/procs"
)

// Call is one execve that has not come to its end.
type Call struct {
	TID      int
	Filename string // as given
	Args     []string
	at       uint64 // of the trace clock
	done     bool   // the list of arguments has been read to its end
	broken   string // what of it could not be read
}

var (
	// ErrNone is that the task is in no execve, or in that of a 32-bit program.
	ErrNone = errors.New("the task is not in the execve of a 64-bit program")
	// ErrUnread is that it is in one, and its arguments are not known.
	ErrUnread = errors.New("the arguments of an execve were not recorded in full")
)

// Source records the arguments of every execve on the host until it is closed.
type Source struct {
	stop  chan struct{}
	ended sync.WaitGroup

	dir ftrace.Dir
	abi ftrace.ABI

	mu    sync.Mutex
	trace *ftrace.Instance
	lost  uint64 // records, as of the last look
	calls calls
	err   error // of reading in the background
}

const (
	// bufferKB holds what a processor executes between two looks.
	bufferKB = 512
	// tick is how often records are taken from the kernel.
	tick = 100 * time.Millisecond
	// inspection is how many ticks there are between two looks after the probes.
	inspection = 10
)

// Open attaches the probes.
func Open() (*Source, error) {
	s, err := open()
	if err != nil {
		return nil, fmt.Errorf("probe the entry of execve: %w", err)
	}
	return s, nil
}

func open() (*Source, error) {
	a, err := ftrace.ThisABI()
	if err != nil {
		return nil, err
	}
	dir, err := ftrace.Find()
	if err != nil {
		return nil, err
	}
	if dir.HasProbes() {
		_ = dir.RemoveStale() // what stays does no harm, or dir.Open says that somebody is tracing
	}
	s := &Source{stop: make(chan struct{}), dir: dir, abi: a, calls: calls{}}
	if err := s.attach(); err != nil {
		return nil, err
	}
	s.ended.Go(s.follow)
	return s, nil
}

// attach makes an instance and the probes in it.
func (s *Source) attach() error {
	trace, err := s.dir.Open(ftrace.Options{BufferKB: bufferKB})
	if err != nil {
		return err
	}
	if err := enable(trace, s.abi); err != nil {
		return errors.Join(err, trace.Close())
	}
	s.trace, s.lost = trace, 0
	return nil
}

// enable probes execve, and execveat where the kernel has it (Linux 3.19).
func enable(trace *ftrace.Instance, a ftrace.ABI) error {
	wrappings := a.Wrappings()
	for _, call := range systemCalls {
		var err error
		for _, wrapped := range wrappings {
			if err = trace.DefineAll(call.probes(a, trace.UserMemory(), wrapped)); err == nil || !ftrace.NoSymbol(err) {
				break
			}
		}
		if err != nil && !(call.optional && ftrace.NoSymbol(err)) {
			return err
		}
	}
	// Who has got through execve, or is gone, is in none.
	for _, name := range []string{evExec, evExit} {
		if err := trace.EnableEvent("sched", name, ""); err != nil {
			return err
		}
	}
	return trace.EnableAll()
}

// inspect attaches the probes anew where somebody has turned them off or removed
// them, as "trace-cmd reset" does with everybody's. The lock is held.
func (s *Source) inspect() error {
	if s.trace.Intact() == nil {
		return nil
	}
	_ = s.trace.Close() // of which some is gone
	clear(s.calls)
	if err := s.attach(); err != nil {
		return fmt.Errorf("%w: probe the entry of execve again: %w", ErrUnread, err)
	}
	return nil
}

// follow takes records as they come, so that buffers don't fill up.
func (s *Source) follow() {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for n := 1; ; n++ {
		select {
		case <-s.stop:
			return
		case <-ticker.C:
		}
		s.mu.Lock()
		s.err = s.read()
		if n%inspection == 0 {
			s.err = errors.Join(s.inspect(), s.err)
		}
		s.mu.Unlock()
	}
}

// read takes what the kernel has recorded. The lock is held.
func (s *Source) read() error {
	var hits []hit
	_, err := s.trace.Read(func(r *ftrace.Record) { hits = append(hits, readHit(r)) })
	slices.SortStableFunc(hits, func(a, b hit) int { return cmp.Compare(a.at, b.at) })
	for i := range hits {
		s.calls.take(&hits[i])
	}
	s.calls.prune()
	return err
}

// Of returns the execve that a task is in, once: what the task does later is
// another matter. id is the task's, or its process's where the thread is not
// known. It never waits for the task.
func (s *Source) Of(id int) (Call, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := errors.Join(s.err, s.read()); err != nil {
		return Call{}, err
	}
	c := s.calls[id]
	if c == nil {
		c = s.calls.newest(procs.Threads(id))
	}
	if c == nil {
		return Call{}, s.missing()
	}
	delete(s.calls, c.TID)
	switch {
	case c.broken != "":
		return Call{}, fmt.Errorf("%w: %s", ErrUnread, c.broken)
	case !c.done:
		return Call{}, fmt.Errorf("%w: there are more than %d", ErrUnread, len(c.Args))
	}
	return *c, nil
}

// missing says why there is no call. The lock is held.
func (s *Source) missing() error {
	lost, _, err := s.trace.Losses()
	if err == nil {
		err = s.trace.Intact()
	}
	if err != nil || lost > s.lost {
		s.lost = lost
		return errors.Join(ErrUnread, err)
	}
	return ErrNone
}

// Safe reports whether the probes may be used where wild addresses make the
// kernel warn: from Linux 4.20 on. What lies behind the end of a list of
// arguments is taken for addresses.
func (s *Source) Safe() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.trace.UserMemory().Own
}

// Close detaches the probes.
func (s *Source) Close() error {
	close(s.stop)
	s.ended.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.trace.Close()
}
