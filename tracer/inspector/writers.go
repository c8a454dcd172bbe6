package inspector

import (
	"context"
	"time"

	"github.com/bootrace/bootrace/tracer/image"
)

// A look at all processes serves for a second from its beginning, and where there are
// many, for four times as long as it took beside, so that these looks take a fifth of a
// processor at the most. A guest takes longer than a second from its start to its first
// write.
const (
	censusFor   = time.Second
	censusShare = 4
)

// writers says who may write to the images of a chain just now. Of a mapping the
// kernel counts who has it open: where that is nobody, there is no need to look at
// all processes. The guest's own process is looked at each time.
func (i *Inspector) writers(ctx context.Context, c *image.Chain, pid int) (list []image.Use, complete bool) {
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
	return i.everybody(ctx).Writers(c)
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

// everybody is a look at all processes, one for all who ask meanwhile; nil where that
// takes more than half of the time that is left: there is more to see than that.
func (i *Inspector) everybody(ctx context.Context) *image.Census {
	if end, bounded := ctx.Deadline(); bounded {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Until(end)/2)
		defer cancel()
	}
	i.censusMu.Lock()
	if i.census != nil && time.Now().Before(i.serves) {
		defer i.censusMu.Unlock()
		return i.census
	}
	if i.coming == nil {
		i.coming = make(chan struct{})
		go i.count(i.coming)
	}
	coming := i.coming
	i.censusMu.Unlock()
	select {
	case <-ctx.Done():
		return nil
	case <-coming:
	}
	i.censusMu.Lock()
	defer i.censusMu.Unlock()
	return i.census
}

// count looks at all processes.
func (i *Inspector) count(over chan<- struct{}) {
	begin := time.Now()
	census := i.takeCensus()
	i.censusMu.Lock()
	defer i.censusMu.Unlock()
	i.census, i.coming = census, nil
	i.serves = begin.Add(censusFor + censusShare*time.Since(begin))
	close(over)
}
