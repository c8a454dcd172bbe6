package service

import (
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/memory"
)

// accept makes what a guest ran on since what it should run on, on behalf of an
// operator, and records that.
func (s *Service) accept(guest, disk string) ([]memory.Accepted, error) {
	if !s.memory.Opened() {
		return nil, errNoMemory
	}
	accepted, err := s.memory.Accept(guest, disk)
	if err != nil {
		return nil, err
	}
	info := &event.MemoryInfo{Guest: accepted[0].Guest, Name: accepted[0].Name, Boot: accepted[0].Boot, Accepted: true}
	for i := range accepted {
		info.Disks = append(info.Disks, accepted[i].Now)
	}
	s.rec.Record(event.Event{At: event.Now(), Kind: event.Memory, Src: "service", Memory: info})
	s.log.Info("an operator accepted what a guest ran on", "guest", info.Guest, "disks", len(accepted))
	return accepted, s.memory.Save()
}
