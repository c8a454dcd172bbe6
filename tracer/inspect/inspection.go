package inspect

import (
	"context"

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
}

// Inspect looks at the disks of one guest. The paths are followed and opened by
// the rules of image.Reader.
func Inspect(ctx context.Context, r image.Reader, disks []guest.Image) []InspectedDisk {
	list := make([]InspectedDisk, len(disks))
	var look []Disk
	var which []int
	for i := range disks {
		d := &list[i]
		d.Path = disks[i].Path
		chain := r.Follow(ctx, &disks[i])
		data, err := r.Data(chain)
		if err != nil {
			d.Why = err.Error()
			continue
		}
		defer data.Close()
		var complete bool
		d.Writers, complete = image.Writers(chain)
		d.WritersUnknown, d.Images = !complete, data.Images
		look = append(look, Disk{Name: d.Path, Bytes: data, Size: data.Size, Live: len(d.Writers) > 0})
		which = append(which, i)
	}
	for n, report := range Look(ctx, look) {
		list[which[n]].Report = &report
	}
	for i := range list {
		list[i].judge()
	}
	return list
}
