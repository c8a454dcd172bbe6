// Package hostile attacks a real service on this machine's own kernel, as users do who
// may execute a guarded program, and asks what that costs guests of others.
package hostile

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/tracer/bootlog"
	"github.com/bootrace/bootrace/tracer/config"
	"github.com/bootrace/bootrace/tracer/event"
)

// asked is the variable of the environment that says for how many minutes to attack.
const asked = "BOOTRACE_HOSTILE"

// apart is set in a process that has a mount namespace of its own.
const apart = "BOOTRACE_APART"

func TestMain(m *testing.M) {
	switch {
	case os.Getenv(variable) != "":
		os.Exit(beAttacker(os.Getenv(variable)))
	case os.Getenv(asked) != "" && os.Geteuid() == 0 && os.Getenv(apart) == "":
		os.Exit(beApart())
	}
	os.Exit(m.Run())
}

// beApart runs the tests where no other service's folder is in sight, and what is
// mounted goes with them.
func beApart() int {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), apart+"=yes")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS, Pdeathsig: unix.SIGKILL}
	err := cmd.Run()
	if exit := new(exec.ExitError); errors.As(err, &exit) {
		return exit.ExitCode()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "a mount namespace of its own:", err)
		return 1
	}
	return 0
}

// The users. Nobody else has these numbers, and none is known by name.
var (
	hostileUsers = []int{29901, 29902, 29903}
	neighbour    = 29910
)

// What one user can cost others, at the most.
const (
	most       = 20000 // starts by one user
	unreadable = 10000 // starts with arguments that never come
	mostDelay  = 10 * time.Millisecond
	mostLate   = 100 * time.Millisecond
	mostMemory = 150_000_000
	mostIdle   = 0.02 // of a processor, while nothing changes
)

// Users who attack, in a random order that a seed makes again, and guests of others
// beside them: none is lost from the record, early, or stuck, and what it costs them
// is bounded.
func TestHostile(t *testing.T) {
	minutes := number(t, asked, 0)
	switch {
	case minutes == 0:
		t.Skip("NOT RUN: attacks a service on this machine's own kernel for minutes; `make soak-hostile` runs it")
	case os.Geteuid() != 0:
		t.Skip("NOT RUN: only root may hold starts")
	}
	seed := uint64(number(t, "BOOTRACE_HOSTILE_SEED", int(time.Now().UnixNano()&0xffffff)+1))
	t.Logf("BOOTRACE_HOSTILE_SEED=%d attacks in the same order", seed)

	h := newHost(t)
	if st := h.status(); st.Hold == nil {
		t.Skipf("NOT RUN: this kernel can't hold starts: %s", st.HoldErr)
	}
	length := time.Duration(minutes) * time.Minute
	s := &siege{h: h, guests: newGuests(h, neighbour, length), random: rand.New(rand.NewPCG(seed, 0)),
		attackers: &attackers{t: t, dir: h.dir, output: h.noise}}
	s.attackers.tasks = uint64(tasks(t) / 2)
	end := time.Now().Add(length)
	done := make(chan struct{})
	var beside sync.WaitGroup
	beside.Go(func() { h.watch(done) })
	beside.Go(func() { h.oversleep(done) })
	beside.Go(func() { s.guests.run(done, rand.New(rand.NewPCG(seed, 2))) })
	s.figures(time.Until(end) / 8)
	s.allAtOnce(end)
	close(done)
	beside.Wait()
	h.ask()
	s.judge()
}

// tasks is how many processes and threads this machine may have.
func tasks(t *testing.T) int {
	t.Helper()
	data, err := os.ReadFile("/proc/sys/kernel/pid_max")
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil {
		t.Fatal(err)
	}
	return min(n, 1<<16)
}

// number returns a variable of the environment that is a positive number, or its
// default.
func number(t *testing.T, name string, byDefault int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return byDefault
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("%s=%q is not a positive number", name, text)
	}
	return n
}

// siege is one run.
type siege struct {
	h         *host
	guests    *guests
	attackers *attackers
	random    *rand.Rand
	idle      float64 // of a processor
}

// The phases that figures are of.
const (
	alone     = "alone"
	unchanged = "nothing changes"
	pending   = "20,000 starts"
	silent    = "10,000 unreadable command lines"
	atOnce    = "all at once"
)

// figures plays what the figures are of: the worst of one kind, by one user, in some
// parts of that length.
func (s *siege) figures(part time.Duration) {
	s.guests.enter(alone, false)
	time.Sleep(min(10*time.Second, part))

	s.guests.enter(unchanged, true)
	// What one user can have held.
	share := s.h.capacity / 4
	held := s.attackers.launch("starts", hostileUsers[0], share, s.random.Uint64())
	s.idle = -1
	if s.settle(part*3/2, func() bool { return int(s.seen()) >= share }) {
		s.idle = s.processor(8 * time.Second)
	}

	s.guests.enter(pending, false)
	before := s.seen()
	more := s.attackers.launch("starts", hostileUsers[0], most-share, s.random.Uint64())
	s.settle(2*part, func() bool { return int(s.seen()-before) >= most-share })
	s.h.t.Logf("%d starts of one user, %d of them held", s.seen()-before+uint64(share), s.h.status().Hold.Counts.Holding)
	more.stop()
	held.stop()

	s.guests.enter(silent, false)
	before = s.seen()
	hang := s.attackers.launch("unreadable", hostileUsers[1], unreadable, s.random.Uint64())
	s.settle(part, func() bool { return int(s.seen()-before) >= unreadable })
	s.h.t.Logf("%d starts since", s.seen()-before)
	hang.stop()
}

// seen is how many starts the service has looked at.
func (s *siege) seen() uint64 { return s.h.status().Hold.Counts.Seen }

// settle waits until all of an attack has come, and some seconds more. It reports
// whether all has.
func (s *siege) settle(limit time.Duration, come func() bool) bool {
	for end := time.Now().Add(limit); !come(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			s.h.t.Logf("NOT ALL of it came within %s: this machine is too slow, or busy", limit)
			return false
		}
	}
	time.Sleep(3 * time.Second)
	return true
}

// processor is how much of a processor the service takes.
func (s *siege) processor(during time.Duration) float64 {
	s.h.t.Helper()
	s.h.quiet.Store(true)
	defer s.h.quiet.Store(false)
	time.Sleep(time.Second)
	before, err := used(s.h.cmd.Process.Pid)
	s.h.must(err)
	begin := time.Now()
	s.h.t.Logf("%s %d starts are held", begin.Format("15:04:05"), s.h.status().Hold.Counts.Holding)
	time.Sleep(during)
	after, err := used(s.h.cmd.Process.Pid)
	s.h.must(err)
	return float64(after-before) / float64(time.Since(begin))
}

// allAtOnce has each user attack in one way after the other, until the end.
func (s *siege) allAtOnce(end time.Time) {
	s.guests.enter(atOnce, false)
	s.attackers.tasks = uint64(tasks(s.h.t) / 2 / len(hostileUsers))
	var users sync.WaitGroup
	for _, uid := range hostileUsers {
		random := rand.New(rand.NewPCG(s.random.Uint64(), uint64(uid)))
		users.Go(func() {
			for time.Now().Before(end) && s.h.alive() {
				name := names()[random.IntN(len(attacks))]
				seed, limit := random.Uint64()%1e9, time.Duration(3+random.IntN(12))*time.Second
				s.h.t.Logf("%s user %d: %s, seed %d, for %s", time.Now().Format("15:04:05"), uid, name, seed, limit)
				one := s.attackers.launch(name, uid, 0, seed)
				one.over(min(limit, time.Until(end)))
				one.stop()
			}
		})
	}
	users.Wait()
	s.guests.enter("over", true)
}

// judge says what it came to.
func (s *siege) judge() {
	t, h := s.h.t, s.h
	if terminal, err := terminalOf(h.cmd.Process.Pid); err == nil && terminal != "0" {
		t.Errorf("the service has a controlling terminal: %s", terminal)
	}
	lived := h.alive()
	err := h.stop()
	if !lived || err != nil {
		t.Errorf("the service ended before it was told to: %v, or with an error: %v; its journal ends:\n%s", !lived, err, h.tail())
	}
	s.judgeService()
	s.judgeGuests()
	s.judgeRecord()
	said, err := os.ReadFile(h.noise.Name())
	h.must(err)
	for line := range strings.Lines(string(said)) {
		switch {
		case strings.Contains(line, "NOT RUN"):
			t.Logf("AN ATTACK DID NOT RUN HERE: %s", line)
		case strings.Contains(line, "BROKEN"):
			t.Error(line)
		}
	}
}

func (s *siege) judgeService() {
	t, h := s.h.t, s.h
	size := int64(0)
	files, err := filepath.Glob(filepath.Join(h.state(), "*.jsonl"))
	h.must(err)
	for _, path := range files {
		info, err := os.Stat(path)
		h.must(err)
		size += info.Size()
	}
	journal, err := os.Stat(h.journal.Name())
	h.must(err)
	limit := config.Default().MaxLogSize
	h.mu.Lock()
	defer h.mu.Unlock()
	t.Logf("FIGURES: %.1f %% of a processor while nothing changes; at most %d MB resident, at %s; status answered %d times, after %s at most; "+
		"log %d bytes of %s; journal %d bytes; watchdog fed every %s at least; this test itself got no processor for %s at most",
		100*s.idle, h.rss/1e6, h.rssAt.Format("15:04:05"), h.asked-len(h.deaf), h.answer.Round(time.Millisecond), size, &limit, journal.Size(), h.hungry.Round(time.Millisecond), h.longest().Round(time.Millisecond))
	if s.idle < 0 {
		t.Log("NOT MEASURED: what the service takes while nothing changes: things changed")
	} else if s.idle > mostIdle {
		t.Errorf("while nothing changes it takes %.1f %% of a processor", 100*s.idle)
	}
	if h.rss > mostMemory {
		t.Errorf("%d MB were resident", h.rss/1e6)
	}
	if len(h.deaf) > 0 {
		t.Errorf("%d of %d times status did not answer, at first: %v", len(h.deaf), h.asked, h.deaf[0])
	}
	if size > int64(limit) {
		t.Errorf("the log has %d bytes, and may have %s", size, &limit)
	}
	if h.hungry > h.watchdog {
		t.Errorf("systemd would have killed it: it said nothing for %s", h.hungry)
	}
	if hold := h.seen.Hold; hold == nil {
		t.Errorf("it holds no starts any more: %s", h.seen.HoldErr)
	} else {
		t.Logf("starts: %+v; lost: %v; %d threads hung at the most", hold.Counts, h.seen.Lost, h.hanged)
	}
}

// judgeGuests compares guests under attack with those that were alone.
func (s *siege) judgeGuests() {
	t, g := s.h.t, s.guests
	for _, one := range g.list {
		if one.wrong != nil {
			t.Errorf("%s of user %d (%s): %v", one.name, one.uid, one.phase, one.wrong)
		}
	}
	for _, one := range g.of(comes, "") {
		if len(one.saw.Opens) != 1 || one.saw.Opens[0].Size == 0 || one.saw.Start < one.came {
			t.Errorf("%s (%s) was early: its disk came %s after it began, and it saw %+v", one.name, one.phase, one.came.Sub(one.begin), *one.saw)
		}
	}
	cost := func(phase string, q float64) time.Duration {
		return quantile(times(g.of(ready, phase), begin), q) - quantile(times(g.of(ungated, phase), begin), q)
	}
	for _, phase := range []string{alone, pending, silent, atOnce} {
		free := times(g.of(ungated, phase), begin)
		ours, theirs, waited := times(g.of(ready, phase), begin), times(g.of(late, phase), end), times(g.of(comes, phase), func(g *honestGuest) event.Time { return g.came })
		if len(free) < 5 || len(ours) < 5 || len(theirs) == 0 {
			t.Logf("NOT MEASURED: %s: too few guests: %d, %d, %d", phase, len(free), len(ours), len(theirs))
			continue
		}
		ms := func(list []time.Duration) string {
			return fmt.Sprintf("%s p50, %s p90, %s worst", quantile(list, 0.5).Round(10*time.Microsecond), quantile(list, 0.9).Round(10*time.Microsecond), quantile(list, 1).Round(10*time.Microsecond))
		}
		t.Logf("FIGURES: %s:\n  a start that nobody looks at: %s (%d)\n  ready: %s (%d)\n  beyond a deadline: %s (%d)\n  after its disk came: %s (%d)",
			phase, ms(free), len(free), ms(ours), len(ours), ms(theirs), len(theirs), ms(waited), len(waited))
		noise := max(1, float64(quantile(free, 0.5))/float64(quantile(times(g.of(ungated, alone), begin), 0.5)))
		more := cost(phase, 0.5) - cost(alone, 0.5)
		t.Logf("FIGURES: %s: a ready guest of another user goes on %s later than alone (p90: %s); everything here takes %.1f times as long",
			phase, more.Round(10*time.Microsecond), (cost(phase, 0.9) - cost(alone, 0.9)).Round(10*time.Microsecond), noise)
		if more > time.Duration(float64(mostDelay)*noise) {
			t.Errorf("%s: a ready guest goes on %s later than alone", phase, more)
		}
		// What any start takes here is not the hold's: its own clock is judged by the
		// record.
		if beyond := quantile(theirs, 0.5) - quantile(free, 0.5); beyond > time.Duration(float64(mostLate)*noise) {
			t.Errorf("%s: a guest went on %s later after its deadline than one that nobody holds", phase, beyond)
		}
	}
}

// judgeRecord looks for each guest in the record of the boot.
func (s *siege) judgeRecord() {
	t, h := s.h.t, s.h
	log, err := bootlog.Open(filepath.Join(h.state(), bootlog.CurrentBootID()+".jsonl"))
	h.must(err)
	defer log.Close()
	type of struct {
		exec, open  bool
		hold, freed int
	}
	known := map[string]*of{}
	byPID := map[int][]*honestGuest{} // the first that had it comes first
	for _, one := range s.guests.list {
		if one.kind != ungated && one.pid != 0 {
			known[one.name] = &of{}
			byPID[one.pid] = append(byPID[one.pid], one)
		}
	}
	counts, events := map[string]int{}, 0
	var worst, beyond time.Duration // beyond: but for stalls of this machine
	for e, err := range log.Events() {
		h.must(err)
		events++
		counts[string(e.Kind)]++
		if e.Kind == event.Loss {
			counts["loss of "+e.Loss.What+": "+cmp.Or(e.Loss.Why, "?")]++
		}
		switch e.Kind {
		case event.Exec:
			for _, arg := range e.Exec.Args {
				if k := known[arg]; k != nil {
					k.exec = true
				}
			}
		case event.Open:
			if e.Proc == nil {
				break
			}
			for _, one := range slices.Backward(byPID[e.Proc.PID]) {
				if one.begin <= e.At {
					known[one.name].open = known[one.name].open || e.Open.Path == one.disk
					break
				}
			}
		case event.Hold:
			if k := known[e.Hold.Guest]; k != nil {
				k.hold++
			}
		case event.Release:
			if k := known[e.Hold.Guest]; k != nil {
				k.freed++
				worst = max(worst, e.At.Sub(e.Hold.Deadline))
				beyond = max(beyond, e.At.Sub(e.Hold.Deadline)-h.stalled(e.Hold.Deadline, e.At))
			}
		}
	}
	t.Logf("record: %d events; a hold ended %s after its deadline at most, by the service's own clock; %s when stalls of this whole machine are left out",
		events, worst.Round(10*time.Microsecond), beyond.Round(10*time.Microsecond))
	for _, key := range slices.Sorted(maps.Keys(counts)) {
		t.Logf("  %8d %s", counts[key], key)
	}
	journal, err := os.ReadFile(h.journal.Name())
	h.must(err)
	unheld, all := 0, 0
	lost := map[string]int{}
	for _, one := range s.guests.list {
		k := known[one.name]
		if k == nil || one.wrong != nil { // what went wrong is an error of its own
			continue
		}
		name, kind := one.name, one.kind
		held := kind == late || kind == comes
		if kind == comes {
			all++
			// Its disk can come before the service looks.
			if k.hold == 0 && !bytes.Contains(journal, []byte("guest="+name+" ")) {
				unheld++
				held = false
			}
		}
		for what, missing := range map[string]bool{"exec": !k.exec, "open": !k.open, "hold": held && k.hold == 0, "release": k.hold != k.freed} {
			if missing {
				lost[what]++
				if lost[what] <= 3 {
					t.Errorf("%s of user %d (%s) is not in the record with its %s", name, one.uid, one.phase, what)
				}
			}
		}
	}
	if unheld > max(1, all/20) {
		t.Errorf("%d of %d guests whose disk came after their start were not held", unheld, all)
	}
	if len(lost) > 0 {
		t.Errorf("of %d guests there are lost from the record: %v", len(known), lost)
	}
	if beyond > mostLate {
		t.Errorf("by its own clock, a hold ended %s after its deadline, stalls of this machine left out", beyond)
	}
}
