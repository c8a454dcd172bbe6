package service

import (
	"context"
	"os"
	"path/filepath"
	"strings"

	"github.com/bootrace/bootrace/tracer/bootlog"
)

// refusedSuffix is added to the name of a log that can't be continued.
const refusedSuffix = ".refused"

// setAside renames what stands where this boot's log belongs and can't be
// continued for the reason err: a link, whose target is nobody's business to write
// to as root, or a file that is no log of this boot. The boot is recorded in a new
// one. What an earlier one has is kept beside it.
func (s *Service) setAside(err error) {
	why := []string{err.Error()}
	for _, dir := range []string{s.opts.StateDir, s.opts.RunDir} {
		path := filepath.Join(dir, bootlog.FileName(s.bootID))
		if bootlog.Continues(path, s.bootID) {
			continue
		}
		if os.Rename(path, path+refusedSuffix) == nil {
			why = append(why, "it is "+path+refusedSuffix+" now")
		}
	}
	s.mu.Lock()
	s.logRefused = strings.Join(why, "; ")
	s.mu.Unlock()
	s.log.Error("a log of this boot is set aside, and a new one begun", "error", why)
}

// staysInMemory notes that this boot's log is where no power cut spares it.
func (s *Service) staysInMemory(err error) {
	s.mu.Lock()
	s.logRefused = "the log stays in " + s.opts.RunDir + ", in memory: " + err.Error()
	s.mu.Unlock()
}

// restoreLog puts the log's file back where somebody removed it, or its folder.
// What it had is still there as long as it is open.
//
// An early instance can't tell: the switch of root takes /run away from it.
func (s *Service) restoreLog(ctx context.Context) {
	if s.isEarly() || ctx.Err() != nil {
		return
	}
	restored, err := s.writer.Restore(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case err != nil:
		if why := "the log's file was removed, and can't be put back: " + err.Error(); s.logRefused != why {
			s.logRefused = why
			s.log.Error("the log's file was removed, and can't be put back: this boot's record ends with the service", "error", err)
		}
	case restored:
		s.logRestored++
		s.logRefused = ""
		s.share(ctx) // its folder can be a new one
		s.log.Error("the log's file was removed while it was being written: it is there again", "times", s.logRestored)
		s.rec.Record(mark("log restored", "its file had been removed"))
	}
}
