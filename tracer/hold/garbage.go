package hold

import (
	"runtime"
	"runtime/metrics"
)

// enoughGarbage is how many bytes are allocated between two collections. Go
// itself collects after 4 MiB at the earliest.
const enoughGarbage = 2 << 20

// garbage is collected while nobody waits for an answer. Left to itself, Go does
// that when there is enough of it, which is while starts come. Then a start on a host
// with one processor waits for it, too: some milliseconds, where an answer takes one.
type garbage struct{ allocated, collections uint64 }

// collect is to be called when it is quiet. It does nothing where there is
// little to be had.
func (g *garbage) collect() {
	allocated, collections := memoryUse()
	if collections != g.collections { // Go came first
		*g = garbage{allocated, collections}
	}
	if allocated-g.allocated < enoughGarbage {
		return
	}
	runtime.GC()
	g.allocated, g.collections = memoryUse()
}

// memoryUse returns how many bytes this process has allocated so far, and how
// many collections there were.
func memoryUse() (allocated, collections uint64) {
	use := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}, {Name: "/gc/cycles/total:gc-cycles"}}
	metrics.Read(use)
	return use[0].Value.Uint64(), use[1].Value.Uint64()
}
