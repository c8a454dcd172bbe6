package inspect

import (
	"context"
	"sync"

	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/guest"
	"github.com/bootrace/bootrace/tracer/image"
)

// Inspection is what was found on the disks of one guest, or on those that
// somebody named.
type Inspection struct {
	// Guest is its name or identity, empty for disks that were named by path; PID
	// is its process, 0 where it does not run.
	Guest string          `json:"guest,omitempty"`
	PID   int             `json:"pid,omitempty"`
	Notes []string        `json:"notes,omitempty"`
	Disks []InspectedDisk `json:"disks"`
}

// InspectedDisk is one disk of an Inspection.
type InspectedDisk struct {
	Path string `json:"path"`
	// Images are the disk's image and what it is built on, the first on top.
	Images []image.Extent `json:"images,omitempty"`
	// Writers may write to it meanwhile, so that only kinds and sizes hold.
	// WritersUnknown is set where it is not known whether there are any.
	Writers        []image.Use `json:"writers,omitempty"`
	WritersUnknown bool        `json:"writers_unknown,omitempty"`
	// Why says why it was not looked into; Report is nil then.
	Why      string    `json:"why,omitempty"`
	Report   *Report   `json:"report,omitempty"`
	Troubles []Trouble `json:"troubles"`
	// Unknown says what is not known of it, empty where all questions that are
	// asked here have an answer.
	Unknown []string `json:"unknown,omitempty"`

	// dev, name, uuid and size are those of the device that it led to.
	dev        *event.Dev
	name, uuid string
	size       int64
}

// Beside says how to look for those who do so beside other work.
type Beside struct {
	// Writers says who may write to the images of a chain just now, as image.Writers
	// does; it is asked before and after the look. nil: image.Writers.
	Writers func(context.Context, *image.Chain) (list []image.Use, complete bool)
	// Reading counts the reads that are under way. Storage that does not answer keeps
	// one under way after Inspect has returned. nil: nobody wants to know.
	Reading *sync.WaitGroup
}

// Inspect looks at the disks of one guest. The paths are followed and opened by
// the rules of image.Reader.
func Inspect(ctx context.Context, r image.Reader, disks []guest.Image) []InspectedDisk {
	return Beside{}.Inspect(ctx, r, disks)
}

// Inspect is the function of that name.
func (b Beside) Inspect(ctx context.Context, r image.Reader, disks []guest.Image) []InspectedDisk {
	writers := b.Writers
	if writers == nil {
		writers = image.Writers
	}
	list := make([]InspectedDisk, len(disks))
	var look []Disk
	var which []int
	var chains []*image.Chain
	for i := range disks {
		d := &list[i]
		d.Path = disks[i].Path
		chain, data, err := b.open(ctx, r, &disks[i])
		if chain != nil && len(chain.Members) > 0 {
			m := &chain.Members[0]
			d.dev, d.name, d.uuid, d.size = m.Dev, m.Name, m.UUID, m.Size
		}
		if err != nil {
			d.Why = err.Error()
			continue
		}
		defer data.Close()
		var complete bool
		d.Writers, complete = writers(ctx, chain)
		d.WritersUnknown, d.Images = !complete, data.Images
		look = append(look, Disk{Name: d.Path, Bytes: data, Size: data.Size, Live: len(d.Writers) > 0})
		which, chains = append(which, i), append(chains, chain)
	}
	for n, report := range b.look(ctx, look, DefaultLimits) {
		d := &list[which[n]]
		d.Report = &report
		if len(d.Writers) > 0 {
			continue
		}
		// Somebody may have begun to write meanwhile.
		var complete bool
		d.Writers, complete = writers(ctx, chains[n])
		d.WritersUnknown = d.WritersUnknown || !complete
		if len(d.Writers) > 0 {
			report.Disk.unsettle()
		}
	}
	for i := range list {
		list[i].judge()
	}
	return list
}

// open follows a disk's chain of images and opens it. That reads the headers of
// images, and can take as long as the storage below does, so it is left behind when the
// time is over. chain is nil then.
func (b Beside) open(ctx context.Context, r image.Reader, disk *guest.Image) (*image.Chain, *image.Data, error) {
	type outcome struct {
		chain *image.Chain
		data  *image.Data
		err   error
	}
	done := make(chan outcome)
	if b.Reading != nil {
		b.Reading.Add(1)
	}
	go func() {
		if b.Reading != nil {
			defer b.Reading.Done()
		}
		var o outcome
		o.chain = r.Follow(ctx, disk)
		o.data, o.err = r.Data(o.chain)
		select {
		case done <- o:
		case <-ctx.Done():
			if o.err == nil {
				_ = o.data.Close() // nobody waits for it any more
			}
		}
	}()
	select {
	case o := <-done:
		return o.chain, o.data, o.err
	case <-ctx.Done():
		return nil, nil, errSlow
	}
}
