package ebpf

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"syscall"

	"github.com/cilium/ebpf/link"

	"github.com/bootrace/bootrace/bpf"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/probe/backend"
)

// requests sees to it that device-mapper's requests are told at no cost to others.
//
// Before dm_mod is loaded there is nothing of it to attach to, so general probes
// look at every ioctl of the host, and the first request is not missed. Once it is
// there, kprobes on its own function take over, and the general ones are detached. If
// dm_mod is unloaded they come back, within a second.
//
// They are kprobes on all kernels: trampolines and multi-kprobes would keep dm_mod
// from being unloaded as long as we run.
type requests struct {
	log *slog.Logger
	// module tells one load of dm_mod from another; 0 if it is not loaded. It fails
	// where that is out of sight.
	module func() (uint64, error)
	// Both return the probe of the exit before that of the entry.
	attachOwn, attachGeneral func() ([]link.Link, string, error)
	// underWay counts the requests that have been entered and not left.
	underWay func() (uint64, error)

	limits  string // what the probes that are attached cannot see
	at      uint64 // the load of dm_mod that own is attached to, or cannot be
	own     []link.Link
	general []link.Link
	seen    event.Time // when all was last as it should be
}

// requestsActive is how many requests may be under way for the end of each to be seen:
// the most that kernels allow. dmeventd has one under way for each volume that it
// monitors, all the time.
const requestsActive = 4096

// newRequests returns the probes of requests, of which general are the ones for all
// ioctls. None is attached yet.
func (b *Backend) newRequests(general family) *requests {
	return &requests{
		log: b.log, module: loadedModule,
		attachOwn:     func() ([]link.Link, string, error) { return b.attach(b.kernel.ownRequests()) },
		attachGeneral: func() ([]link.Link, string, error) { return b.attach(general) },
		underWay: func() (n uint64, err error) {
			err = b.programs.coll.Variables[bpf.ProbesVarRequestsOpen].Get(&n)
			return n, err
		},
	}
}

// loadedModule is the number of dm_mod's folder in sysfs, which another load does not
// get again; 0 if there is none.
func loadedModule() (uint64, error) {
	var st syscall.Stat_t
	err := syscall.Stat("/sys/module/dm_mod", &st)
	if errors.Is(err, fs.ErrNotExist) && exists("/sys/module") {
		return 0, nil
	}
	if err != nil {
		return 0, &os.PathError{Op: "stat", Path: "/sys/module/dm_mod", Err: err}
	}
	return st.Ino, nil
}

// due reports whether there is something for follow to do.
func (r *requests) due(now event.Time) bool {
	module, err := r.module()
	if err != nil || module == r.at && !r.leaving() {
		r.seen = now
		return false
	}
	return true
}

// leaving reports whether the general probes are attached only for the requests that
// they saw begin.
func (r *requests) leaving() bool { return len(r.own) > 0 && len(r.general) > 0 }

// follow attaches what is due now. missed says that requests may have been made that
// no probe saw: dm_mod was loaded again before that was noticed. It fails if there
// are no probes at all.
func (r *requests) follow() (missed bool, err error) {
	module, err := r.module()
	switch {
	case err != nil && len(r.own) == 0 && len(r.general) == 0:
		return false, r.attachTheGeneral()
	case err != nil: // out of sight: dm_mod is as it was
		return false, nil //nolint:nilerr // see above
	}
	if module != r.at || len(r.own) == 0 && len(r.general) == 0 {
		missed, err = r.change(module)
	}
	if r.leaving() {
		r.leave()
	}
	return missed, err
}

// change goes from one load of dm_mod, or none, to another.
func (r *requests) change(module uint64) (missed bool, err error) {
	if len(r.own) > 0 { // their functions are gone
		r.detach(r.own)
		r.own, missed = nil, module != 0
	}
	r.at = module
	if module != 0 {
		own, limits, err := r.attachOwn()
		if err == nil {
			r.own, r.limits = own, limits
			return missed, nil
		}
		r.log.Info("every ioctl of the host is looked at for device-mapper's", "err", err)
	}
	if len(r.general) > 0 {
		return missed, nil
	}
	return missed, r.attachTheGeneral()
}

func (r *requests) attachTheGeneral() (err error) {
	r.general, r.limits, err = r.attachGeneral()
	return err
}

// leave detaches the general probes: the one of the entry at once, the other when all
// requests that it saw have ended.
func (r *requests) leave() {
	if n := len(r.general); n > 1 {
		r.detach(r.general[n-1:])
		r.general = r.general[:n-1]
	}
	n, err := r.underWay()
	switch {
	case err != nil:
		r.log.Warn("count device-mapper's requests under way", "err", err)
	case n == 0:
		r.detach(r.general)
		r.general = nil
	}
}

func (r *requests) detach(links []link.Link) {
	if err := closeLinks(links); err != nil {
		r.log.Warn("detach probes of device-mapper's requests", "err", err)
	}
}

func (r *requests) close() error {
	links := slices.Concat(r.general, r.own)
	r.general, r.own = nil, nil
	return closeLinks(links)
}

// missedRequests is the event of requests that no probe saw.
func missedRequests(from, now event.Time) event.Event {
	return backend.Loss{What: bpf.KindDM.String()}.Event(Name, from, now, 0,
		fmt.Sprintf("dm_mod was unloaded and loaded again, and the probes attached to it again at %.3f s", now.Seconds()))
}
