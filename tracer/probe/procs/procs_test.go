package procs

import (
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/bootrace/bootrace/tracer/event"
)

// message builds a netlink message with one process event.
func message(what uint32, at uint64, words ...uint32) []byte {
	ne := binary.NativeEndian
	body := make([]byte, connectorSize)
	body = ne.AppendUint32(body, what)
	body = ne.AppendUint32(body, 0) // processor
	body = ne.AppendUint64(body, at)
	for _, w := range words {
		body = ne.AppendUint32(body, w)
	}
	b := ne.AppendUint32(nil, uint32(16+len(body)))
	b = ne.AppendUint16(b, 3) // NLMSG_DONE
	b = append(b, make([]byte, 10)...)
	return append(b, body...)
}

func TestParse(t *testing.T) {
	for name, tt := range map[string]struct {
		message []byte
		want    Event
	}{
		"fork":                                   {message(netlink.PROC_EVENT_FORK, 50, 7, 7, 8, 8), Event{At: 150, Kind: Fork, TID: 8, PID: 8, Parent: 7}},
		"thread":                                 {message(netlink.PROC_EVENT_FORK, 50, 1, 1, 9, 8), Event{At: 150, Kind: Fork, TID: 9, PID: 8, Parent: 1}},
		"exec":                                   {message(netlink.PROC_EVENT_EXEC, 60, 8, 8), Event{At: 160, Kind: Exec, TID: 8, PID: 8}},
		"exit":                                   {message(netlink.PROC_EVENT_EXIT, 70, 8, 8, 0x100, 17), Event{At: 170, Kind: Exit, TID: 8, PID: 8, Code: 0x100}},
		"exit of newer kernels, with the parent": {message(netlink.PROC_EVENT_EXIT, 70, 8, 8, 9, 17, 7, 7), Event{At: 170, Kind: Exit, TID: 8, PID: 8, Code: 9}},
	} {
		t.Run(name, func(t *testing.T) {
			s := &Source{offset: 100}
			var got []Event
			if err := s.parse(tt.message, func(e Event) { got = append(got, e) }); err != nil {
				t.Fatal(err)
			}
			if len(got) != 1 || got[0] != tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
	for _, what := range []uint32{netlink.PROC_EVENT_FORK, netlink.PROC_EVENT_EXEC, netlink.PROC_EVENT_EXIT, netlink.PROC_EVENT_NONE} {
		if err := (&Source{}).parse(message(what, 1), func(Event) {}); !errors.Is(err, errMessage) {
			t.Errorf("event %#x without its words: %v", what, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(message(netlink.PROC_EVENT_FORK, 50, 7, 7, 8, 8))
	f.Add(message(netlink.PROC_EVENT_EXIT, 50, 7, 7, 8, 8))
	f.Fuzz(func(_ *testing.T, b []byte) {
		_ = (&Source{}).parse(b, func(Event) {})
	})
}

func TestOwnChild(t *testing.T) {
	s, err := Open()
	if errors.Is(err, ErrNotAvailable) || os.Geteuid() != 0 {
		t.Skip("NOT TESTED:", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	before := event.Now()
	cmd := exec.Command("false")
	_ = cmd.Run()
	pid := cmd.Process.Pid
	var kinds []Kind
	err = s.Receive(func(e Event) {
		if e.PID != pid {
			return
		}
		kinds = append(kinds, e.Kind)
		if e.At < before || e.At > event.Now() {
			t.Errorf("%+v is not between %d and now", e, before)
		}
		if e.Kind == Exit && e.Code != 1<<8 {
			t.Errorf("code %#x", e.Code)
		}
	})
	if err != nil || s.Lost() != 0 {
		t.Errorf("%v, %d lost", err, s.Lost())
	}
	if len(kinds) != 3 || kinds[0] != Fork || kinds[1] != Exec || kinds[2] != Exit {
		t.Errorf("got %v", kinds)
	}
}
