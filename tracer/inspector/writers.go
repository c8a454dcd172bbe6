package inspector

import (
	"time"

	"github.com/bootrace/bootrace/tracer/image"
)

// censusFor is how long one look at all processes serves. A guest takes longer than
// that from its start to its first write.
const censusFor = time.Second

// writers says who may write to the images of a chain just now. Of a mapping the
// kernel counts who has it open: where that is nobody, there is no need to look at
// all processes. The guest's own process is looked at each time.
func (i *Inspector) writers(c *image.Chain, pid int) (list []image.Use, complete bool) {
	idle := true
	for n := range c.Members {
		m := &c.Members[n]
		if m.Node == "" {
			continue
		}
		idle = idle && m.Dev != nil && m.Name != "" && i.opens(m) <= ours
	}
	if idle {
		return nil, true
	}
	if pid != 0 {
		if list, _ = image.TakeCensus(pid).Writers(c); len(list) > 0 {
			return list, true
		}
	}
	return i.everybody().Writers(c)
}

// ours is how often a look itself has a mapping open.
const ours = 1

// opens is how often a mapping is open, many times where that is not known.
func (i *Inspector) opens(m *image.Member) int {
	mapping, err := i.Host.Status(*m.Dev)
	if err != nil {
		return ours + 1
	}
	return mapping.OpenCount
}

func (i *Inspector) everybody() *image.Census {
	i.censusMu.Lock()
	defer i.censusMu.Unlock()
	if i.census == nil || time.Since(i.taken) > censusFor {
		i.taken = time.Now()
		i.census = image.TakeCensus()
	}
	return i.census
}
