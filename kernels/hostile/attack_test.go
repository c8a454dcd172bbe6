package hostile

import (
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// attack is one way in which a user harms others. It runs as a process of that user,
// which is killed with its children when its time is over. One file adds one.
type attack struct {
	name string
	// namesUsers is set where it makes a namespace of users, which needs a /proc of the
	// same process ids: its processes end with those that started them.
	namesUsers bool
	// run does harm until it is killed, or returns when all is done that it does.
	run func(a *attacker) error
}

var attacks = map[string]attack{}

func register(name string, run func(*attacker) error) { attacks[name] = attack{name: name, run: run} }

// attacker is what an attack knows.
type attacker struct {
	Attack string
	Seed   uint64
	Dir    string // for its files: the user's own
	// Program is guarded, and does nothing when it runs; Fuse is the node of the
	// kernel's FUSE.
	Program, Fuse string
	// Tasks is how many processes and threads the user may have.
	Tasks uint64
	// N is how many there should be of what it makes many of; 0: its own choice.
	N int

	random *rand.Rand
}

// variable is the one of the environment that makes a process an attacker.
const variable = "BOOTRACE_ATTACKER"

// beAttacker is the main function of such a process.
func beAttacker(text string) int {
	var a attacker
	log.SetFlags(0)
	log.SetPrefix("attacker: ")
	if err := json.Unmarshal([]byte(text), &a); err != nil {
		log.Print(err)
		return 2
	}
	if os.Geteuid() == 0 && os.Getenv(inside) == "" {
		log.Print("root attacks nobody here")
		return 2
	}
	a.random = rand.New(rand.NewPCG(a.Seed, 1))
	limit := unix.Rlimit{Cur: a.Tasks, Max: a.Tasks}
	if err := unix.Setrlimit(unix.RLIMIT_NPROC, &limit); err != nil {
		log.Print(err)
		return 2
	}
	if err := attacks[a.Attack].run(&a); err != nil {
		log.Print(a.Attack, ": ", err)
		return 1
	}
	return 0
}

// between returns a number of that range.
func (a *attacker) between(low, high int) int { return low + a.random.IntN(high-low+1) }

// many is N, or a number of that range.
func (a *attacker) many(low, high int) int {
	if a.N > 0 {
		return a.N
	}
	return a.between(low, high)
}

// missing are the arguments of a guest of that name with n disks that do not exist.
func missing(name string, n int) []string {
	args := []string{"-name", name}
	for i := range n {
		args = append(args, "-drive", fmt.Sprintf("file=/dev/vg-%s/disk-%d,if=none,format=raw", name, i))
	}
	return args
}

// start makes a start of the guarded program, and does not wait for it.
func (a *attacker) start(args ...string) (*os.Process, error) {
	m, err := newImage(0, a.Program, args, os.Environ())
	if err != nil {
		return nil, err
	}
	return a.fork(m)
}

// fork makes a start as soon as the user may have one more process.
func (a *attacker) fork(m *image) (*os.Process, error) {
	for {
		p, err := m.start()
		if !errors.Is(err, unix.EAGAIN) {
			return p, err
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// abandon leaves what ends to the kernel. What was started is not waited for.
func (a *attacker) abandon() { signal.Ignore(unix.SIGCHLD) }

// running is an attack under way.
type running struct {
	attack string
	uid    int
	cmd    *exec.Cmd
	done   chan struct{}
	err    error
}

// attackers start attacks.
type attackers struct {
	t      *testing.T
	dir    string // which everybody may enter
	output *os.File
	tasks  uint64 // of each
}

func (h *attackers) launch(name string, uid, n int, seed uint64) *running {
	h.t.Helper()
	own := filepath.Join(h.dir, strconv.Itoa(uid))
	if err := os.MkdirAll(own, 0o700); err != nil {
		h.t.Fatal(err)
	}
	if err := os.Chown(own, uid, uid); err != nil {
		h.t.Fatal(err)
	}
	text, err := json.Marshal(attacker{Attack: name, Seed: seed, Dir: own, N: n, Tasks: h.tasks,
		Program: filepath.Join(h.dir, "bin", idle), Fuse: filepath.Join(h.dir, "fuse")})
	if err != nil {
		h.t.Fatal(err)
	}
	cmd := exec.Command(filepath.Join(h.dir, "bin", "attacker"))
	cmd.Dir, cmd.Stdout, cmd.Stderr = own, h.output, h.output
	cmd.Env = []string{"PATH=/usr/bin:/bin", variable + "=" + string(text)}
	// All that it starts, and that these start, is in a namespace of processes whose
	// first it is: the kernel ends them with it, and it with this test.
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Setsid: true, Pdeathsig: unix.SIGKILL,
		Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)},
	}
	if !attacks[name].namesUsers {
		cmd.SysProcAttr.Cloneflags = unix.CLONE_NEWPID
	}
	if err := cmd.Start(); err != nil {
		h.t.Fatalf("attack %s: %v", name, err)
	}
	r := &running{attack: name, uid: uid, cmd: cmd, done: make(chan struct{})}
	go func() { r.err = cmd.Wait(); close(r.done) }()
	h.t.Cleanup(r.stop)
	return r
}

// over waits until the attack has done all that it does, at most so long.
func (r *running) over(limit time.Duration) bool {
	select {
	case <-r.done:
		return true
	case <-time.After(limit):
		return false
	}
}

// stop ends the attack, with all that it started.
func (r *running) stop() {
	_ = unix.Kill(-r.cmd.Process.Pid, unix.SIGKILL) // its session
	<-r.done
	// Where it has no namespace of its own, some may have been forked meanwhile.
	for range 100 {
		if unix.Kill(-r.cmd.Process.Pid, unix.SIGKILL) != nil {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// names are those of all attacks.
func names() []string {
	var list []string
	for name := range attacks {
		list = append(list, name)
	}
	slices.Sort(list)
	return list
}
