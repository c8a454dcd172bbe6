package tracefs

import (
	"os"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/tracer/probe/backend"
	"github.com/bootrace/bootrace/tracer/probe/ftrace"
)

// The layout is found, and always the same, while other tasks open files: the probes that
// look for it see theirs, too. Where they followed what is no pointer, the kernel would
// warn, which the matrix looks for.
func TestLayoutIsFoundBesideOthers(t *testing.T) {
	tf := openTest(t, backend.Options{})
	a, err := ftrace.ThisABI()
	if err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var others sync.WaitGroup
	for _, path := range []string{"/dev/null", "/dev/urandom", "/proc/self/exe"} {
		others.Go(func() { openUntil(stop, path) })
	}
	defer others.Wait()
	defer close(stop)
	var first layout
	for i := range 2 {
		l, err := findLayout(tf.trace, a, tf.calls.openSymbol)
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			first = *l
			t.Logf("%+v", first)
		}
		if *l != first {
			t.Errorf("%+v, and before it was %+v", *l, first)
		}
	}
}

// openUntil opens a file again and again, and keeps some open, so that the kernel's
// structures are new ones each time.
func openUntil(stop chan struct{}, path string) {
	var kept []*os.File
	defer func() {
		for _, f := range kept {
			_ = f.Close()
		}
	}()
	for n := 0; ; n++ {
		select {
		case <-stop:
			return
		default:
		}
		if f, err := os.OpenFile(path, unix.O_RDONLY, 0); err == nil {
			kept = append(kept, f)
		}
		if len(kept) > 200 {
			_ = kept[n%len(kept)].Close()
			kept[n%len(kept)] = kept[len(kept)-1]
			kept = kept[:len(kept)-1]
		}
	}
}
