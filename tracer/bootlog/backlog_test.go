package bootlog

import (
	"bytes"
	"io"
	"math/rand/v2"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// A backlog is what a plain slice would be, whatever the sizes.
func TestBacklog(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var b backlog
	var want []byte
	for range 5000 {
		switch random.IntN(3) {
		case 0:
			text := make([]byte, random.IntN(3*blockSize/2))
			for i := range text {
				text[i] = byte(random.Uint32())
			}
			if random.IntN(3) > 0 { // mostly lines
				text = text[:len(text)/200]
			}
			b.add(text)
			want = append(want, text...)
		case 1:
			n := random.IntN(len(want) + 1)
			if random.IntN(4) == 0 {
				n = len(want)
			}
			b.drop(n)
			want = want[n:]
		default:
			n := random.IntN(len(want) + 1)
			got, err := io.ReadAll(reader(b.from(n)))
			if err != nil || !bytes.Equal(got, want[n:]) {
				t.Fatalf("%d bytes from %d on, want %d", len(got), n, len(want)-n)
			}
		}
		if b.size != len(want) || b.memory() > len(want)+3*blockSize {
			t.Fatalf("%d of %d bytes, in %d", b.size, len(want), b.memory())
		}
	}
}

// While the disk takes nothing, what waits takes as much memory as it may, and not
// several times that for slices that grew, which a garbage collection may leave for
// long while the host boots. What comes then takes none.
func TestMemoryOfFullDisk(t *testing.T) {
	f := newFolders(t)
	d := newFaultyDisk(-1)
	o := f.options(d)
	o.MaxPending = 8 << 20
	w := newWriter(t, o)
	check(t, w.Sync(t.Context()))
	d.set("write", unix.ENOSPC)
	events := opens(1000)
	allocated := func(act func()) uint64 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		act()
		runtime.ReadMemStats(&after)
		return after.TotalAlloc - before.TotalAlloc
	}
	fill := func() (kept int) {
		for i := range events {
			if w.Append(&events[i]); events[i].ID > 0 {
				kept++
			}
		}
		return kept
	}
	n := allocated(func() {
		for fill() == len(events) {
		}
	})
	w.mu.Lock()
	waits, memory := w.buf.size, w.buf.memory()
	w.mu.Unlock()
	t.Logf("%d bytes wait, in %d; %d were allocated", waits, memory, n)
	if waits > o.MaxPending || waits < o.MaxPending*3/4 || memory > o.MaxPending+2*blockSize || n > uint64(o.MaxPending)*2 {
		t.Errorf("%d bytes wait, in %d; %d were allocated", waits, memory, n)
	}
	if n := allocated(func() { fill() }); n > 2<<20 {
		t.Errorf("to drop %d events took %d bytes", len(events), n)
	}
	d.set("write", nil)
	check(t, w.Sync(t.Context()))
	w.mu.Lock()
	memory = w.buf.memory()
	w.mu.Unlock()
	if memory > 2*blockSize {
		t.Errorf("%d bytes are still taken", memory)
	}
}
