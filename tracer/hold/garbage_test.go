package hold

import (
	"runtime/debug"
	"testing"
)

var kept []byte

func TestGarbageIsCollectedWhereThereIsEnough(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	collected := func(g *garbage) bool {
		_, before := memoryUse()
		g.collect()
		_, after := memoryUse()
		return after != before
	}
	var g garbage
	g.collect() // whatever the tests before have left
	if collected(&g) {
		t.Error("collected again at once")
	}
	for range 2 * enoughGarbage >> 16 {
		kept = make([]byte, 1<<16)
	}
	if !collected(&g) {
		t.Errorf("%d bytes were left", 2*enoughGarbage)
	}
}
