package delivery

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/bootrace/bootrace/tracer/replace"
)

// Status is how the delivery stands. Its JSON form is part of `bootrace status
// --format json`, which exporters/json/schema.json describes.
type Status struct {
	// Waiting is how many requests wait in the spool, WaitingBytes their size.
	Waiting      int   `json:"waiting"`
	WaitingBytes int64 `json:"waiting_bytes"`
	// Refused is how many requests the receiver will never take; they are kept
	// aside. LastRefusal says why.
	Refused     int    `json:"refused"`
	LastRefusal string `json:"last_refusal,omitempty"`
	// Sent counts the spans that the receiver has taken.
	Sent   uint64    `json:"sent_spans"`
	SentAt time.Time `json:"sent_at,omitzero"`
	// SendError says why the last attempt failed, empty if it did not;
	// MakeError why a boot waits in its log.
	SendError string    `json:"send_error,omitempty"`
	FailedAt  time.Time `json:"failed_at,omitzero"`
	MakeError string    `json:"make_error,omitempty"`
}

const statusFile = "status.json"

// ReadStatus reads the status that the delivery in dir last wrote.
func ReadStatus(dir string) (Status, error) {
	var s Status
	data, err := os.ReadFile(filepath.Join(dir, statusFile))
	if err != nil {
		return s, fmt.Errorf("read the delivery's status: %w", err)
	}
	if err := json.Unmarshal(data, &s); err != nil {
		return s, fmt.Errorf("read the delivery's status: %w", err)
	}
	return s, nil
}

// Status is how it stands: not for while it runs.
func (d *Delivery) Status() Status {
	s := d.status
	s.Waiting, s.WaitingBytes = d.spool.Depth()
	s.Refused = d.spool.Refused()
	return s
}

// saveStatus writes the status where it changed. It need not outlive a power
// cut.
func (d *Delivery) saveStatus() {
	s := d.Status()
	if d.saved != nil && s == *d.saved {
		return
	}
	data, err := json.Marshal(s)
	if err == nil {
		err = replace.Bytes(filepath.Join(d.opts.Dir, statusFile), data, replace.Options{Perm: 0o600, Sole: true, Fleeting: true})
	}
	if err != nil {
		d.opts.Log.Warn("the status is not written", "error", err)
		return
	}
	d.saved = &s
}
