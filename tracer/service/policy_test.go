package service

import (
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/bootrace/bootrace/tracer/config"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/guest"
	"github.com/bootrace/bootrace/tracer/memory"
	"github.com/bootrace/bootrace/tracer/recorder"
)

func TestDisksOf(t *testing.T) {
	dir := t.TempDir()
	before := memory.NewStore("boot1")
	if err := before.Open(dir); err != nil {
		t.Fatal(err)
	}
	before.Remember("uuid:3aad3b6b-ddf8-474a-8906-06d83ef318cb", "web", []event.MemoryDisk{
		{Path: "/dev/vg0/web"}, {Path: "/dev/vg0/base", BackingOf: "/dev/vg0/web"}, {Path: "/dev/vg0/data"},
	})
	before.Remember("name:db", "db", []event.MemoryDisk{{Path: "/dev/vg0/db"}})
	if err := before.Close(); err != nil {
		t.Fatal(err)
	}
	s := &Service{memory: memory.NewStore("boot2")}
	if err := s.memory.Open(dir); err != nil {
		t.Fatal(err)
	}
	web := []event.MemoryDisk{{Path: "/dev/vg0/web"}, {Path: "/dev/vg0/base", BackingOf: "/dev/vg0/web"}, {Path: "/dev/vg0/data"}}
	for name, want := range map[string][]event.MemoryDisk{
		"3AAD3B6B-ddf8-474a-8906-06d83ef318cb":      web,
		"uuid:3aad3b6b-ddf8-474a-8906-06d83ef318cb": web,
		"db": {{Path: "/dev/vg0/db"}},
	} {
		got, err := s.disksOf(name)
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%s: %v %s", name, err, diff)
		}
	}
	if got := s.lastOf(&guest.Guest{Identity: guest.Identity{Kind: "name", Value: "db"}}); len(got) != 1 {
		t.Errorf("the hold does not know what a guest last ran on: %v", got)
	}
	if _, err := s.disksOf("nobody"); err == nil {
		t.Error("knows the disks of nobody")
	}
}

func TestStartPolicy(t *testing.T) {
	for _, tc := range []struct {
		name, uuid, config string
		want               StartPolicy
	}{
		{"web", "", "mode: trace\nenforce: {on-timeout: deny}\n", StartPolicy{}},
		{"web", "", "mode: enforce\nenforce: {deadline: 20s}\n", StartPolicy{Enforce: true, Deadline: 20 * time.Second}},
		{"web", "", "mode: enforce\nenforce: {deadline: 20s, guests: [{name: w*, on-timeout: deny}]}\n",
			StartPolicy{Enforce: true, Deadline: 20 * time.Second, Deny: true}},
		{"web", "3AAD3B6B-DDF8-474A-8906-06D83EF318CB", "mode: enforce\nenforce: {guests: [{uuid: 3aad*, deadline: 0s}]}\n", StartPolicy{Enforce: true}},
	} {
		cfg, err := config.Parse([]byte(tc.config))
		if err != nil {
			t.Fatal(err)
		}
		s := &Service{}
		s.cfg.Store(&cfg)
		if diff := cmp.Diff(tc.want, s.startPolicy(tc.name, tc.uuid)); diff != "" {
			t.Errorf("%s: %s", tc.config, diff)
		}
	}
}

// sink stores nothing.
type sink struct{}

func (sink) Append(*event.Event) {}

// What an operator accepts is in the record, and the guest may start on it.
func TestAccept(t *testing.T) {
	dir := t.TempDir()
	right := []event.MemoryDisk{{Path: "/dev/vg/a", Name: "vg-a", UUID: "CRYPT-a"}}
	wrong := []event.MemoryDisk{{Path: "/dev/vg/a", Name: "vg-b", UUID: "CRYPT-b"}}
	s := &Service{memory: memory.NewStore("boot2"), log: slog.New(slog.DiscardHandler)}
	if _, err := s.accept("vm", ""); !errors.Is(err, errNoMemory) {
		t.Errorf("before the memory is there: %v", err)
	}
	if err := s.memory.Open(dir); err != nil {
		t.Fatal(err)
	}
	s.memory.Remember("name:vm", "vm", right)
	s.memory.Saw("name:vm", "vm", wrong)
	var told []event.Event
	s.rec = recorder.New(sink{}, s.log, func(e *event.Event) { told = append(told, *e) })
	if _, err := s.accept("vm", ""); err != nil {
		t.Fatal(err)
	}
	if len(told) != 1 || told[0].Proc != nil || !told[0].Memory.Accepted || told[0].Memory.Disks[0].Name != "vg-b" {
		t.Errorf("recorded %+v", told)
	}
	next := memory.NewStore("boot3")
	if err := next.Open(dir); err != nil {
		t.Fatal(err)
	}
	if memory.Compare(next.Last("name:vm"), wrong, func(*event.MemoryDisk) bool { return true }) != nil {
		t.Error("what was accepted is not remembered")
	}
}
