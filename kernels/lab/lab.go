// Package lab boots a Debian host in QEMU, with bootrace installed the way a
// user installs it, and reboots it: a real kernel, device-mapper, LVM, udev,
// systemd and qemu, on any machine that can run QEMU.
//
// Run plays a Scenario from its first boot to its last. Prepare and Machine
// are the parts it is made of, for tests that cut the power.
//
// QEMU emulates the processor (TCG): a /dev/kvm that exists may still hang a
// kernel, and times in the machine are to be compared with each other only.
package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/bootrace/bootrace/kernels"
)

// Options says what to boot. Scenario and Out are needed, the rest has
// defaults.
type Options struct {
	// Scenario is the scenario's folder.
	Scenario string
	// Out is the folder for what the scripts write under /lab/out, for bootN.log
	// with each script's output, and for console.log. It is made if missing.
	Out string
	// Kernel is the name of one of the kernels; empty means kernels.Default.
	Kernel string
	// Install puts bootrace into the machine; nil leaves it out.
	Install Install
	// Enable names the systemd units to enable after Install; nil means
	// bootrace.service, if Install is set.
	Enable []string
	// Packages are further Debian packages of the machine; NAME- leaves one of
	// the usual ones out. With any, a base of its own is made, so that others
	// stay small.
	Packages []string
	// Userland is the Debian suite of everything but the kernel; empty means
	// kernels.Userland.
	Userland string
	// OwnInitramfs has each boot take the initramfs that a script left as /lab/out/initrd,
	// if one did, as a boot loader takes the one in /boot. Else all boots have the image's.
	OwnInitramfs bool
	// Append is added to the kernel's command line.
	Append string
	// Disks are the sizes in bytes of the empty disks, /dev/vdb the first; nil
	// means three of 512 MiB.
	Disks []int64
	// Memory is the machine's, in MiB; 0 means 1536.
	Memory int
	// MaxProcessors is how many processors the machine has room for, as most hosts
	// have for more than they have; one is there. 0 means 1. With more, Linux takes
	// the machine's TSC for unsynchronized, and the HPET for its clock, unless it is
	// told tsc=reliable: each look at the clock takes longer then, and the trace
	// clocks are good to a timer tick (unsynchronized_tsc, as of Linux 6.1).
	MaxProcessors int
	// Counted makes the machine's clock count instructions, 1 ns each, instead
	// of following this machine's while it computes. Then what the machine
	// computes takes the same time in each run, however busy this machine is.
	Counted bool
	// Mitigations leaves the kernel's on, for measuring what something costs on a host.
	// Else they are off (emulate.Unmitigated).
	Mitigations bool
	// Boots is how many of the scenario's boots are played; 0 means all.
	Boots int
	// After is called when the script of a boot has ended, while the machine goes on;
	// nil for nothing. What the script wrote below /lab/out is in Out by then.
	After func(Boot)
	// Cut cuts the power when the last script has ended, and After has returned: an
	// orderly shutdown takes as long as a quarter of a boot.
	Cut bool
	// Timeout bounds the time from the machine's start to its end; 0 means 15
	// minutes for each boot.
	Timeout time.Duration
	// Cache is the folder for what can be used again; empty means bootrace in
	// the user's cache folder.
	Cache string
	// Mirror is the address of a Debian archive; empty means the one that this
	// machine's own apt uses.
	Mirror string
	// Progress receives a line for each step, nil for none.
	Progress io.Writer
}

// Result is what a run came to.
type Result struct {
	// Boots has one entry for each boot that got as far as its script.
	Boots []Boot
	// Built and Ran are the time spent on the image and on the machine.
	Built, Ran time.Duration
}

// Boot is one boot of a run.
type Boot struct {
	N int // from 1
	// Up is the time from the kernel's start until the system was up.
	Up time.Duration
	// State is the system's state then, as systemd names it: running, degraded.
	State string
	// Status is the exit status of the script.
	Status int
}

// Status returns the exit status of the last script that failed, 0 where none
// did.
func (r Result) Status() int {
	status := 0
	for _, b := range r.Boots {
		if b.Status != 0 {
			status = b.Status
		}
	}
	return status
}

// Run plays the scenario. The error says that the lab failed; that a script
// did is in the Result.
func Run(ctx context.Context, o Options) (Result, error) {
	scenario, err := o.scenario()
	if err != nil {
		return Result{}, err
	}
	p := newProgress(o.Progress)
	start := time.Now()
	image, err := prepare(ctx, o, scenario.Rootfs, p)
	if err != nil {
		return Result{}, err
	}
	defer image.Close()
	result := Result{Built: time.Since(start)}

	m, err := image.machine(o, scenario, p)
	if err != nil {
		return result, err
	}
	defer m.Close()
	result.Boots, err = play(ctx, m, scenario.Boots, o.timeout(scenario.Boots))
	result.Ran = time.Since(start) - result.Built
	return result, err
}

// scenario is the scenario with as many boots as are wanted.
func (o Options) scenario() (Scenario, error) {
	s, err := ReadScenario(o.Scenario)
	if err != nil || o.Boots == 0 {
		return s, err
	}
	if o.Boots < 0 || o.Boots > s.Boots {
		return Scenario{}, fmt.Errorf("scenario %s: play %d boots: it has %d", o.Scenario, o.Boots, s.Boots)
	}
	s.Boots = o.Boots
	return s, nil
}

func (o Options) timeout(boots int) time.Duration {
	if o.Timeout > 0 {
		return o.Timeout
	}
	return time.Duration(boots) * 15 * time.Minute
}

func play(ctx context.Context, m *Machine, boots int, limit time.Duration) ([]Boot, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("the machine was not done after %v: look at %s", limit, m.ConsoleLog()))
	defer cancel()
	for next := 1; ; {
		if err := m.Start(ctx, next); err != nil {
			return m.Boots(), err
		}
		err := m.Wait()
		done := m.Boots()
		if err != nil || len(done) >= boots {
			return done, err
		}
		if !m.ownInitramfs || len(done) < next {
			return done, fmt.Errorf("the machine stopped before %s had ended: look at %s", scriptName(len(done)+1), m.ConsoleLog())
		}
		next = len(done) + 1
	}
}

// Prepare returns the image of a machine for o, from the cache or newly made;
// rootfs is a folder to be copied over its root, empty for none. The caller
// closes the image when the last machine with it has ended.
func Prepare(ctx context.Context, o Options, rootfs string) (*Image, error) {
	return prepare(ctx, o, rootfs, newProgress(o.Progress))
}

func prepare(ctx context.Context, o Options, rootfs string, p *progress) (*Image, error) {
	kernel, err := kernels.Find(o.Kernel)
	if err != nil {
		return nil, err
	}
	c, err := openCache(o.Cache)
	if err != nil {
		return nil, err
	}
	b := builder{host: host{progress: p}, cache: c, kernel: kernel, mirror: o.Mirror, packages: o.Packages, userland: o.Userland}
	if err := b.need(ctx, tools); err != nil {
		return nil, err
	}
	if o.Install != nil {
		b.install, b.enable = o.Install, o.Enable
		if b.enable == nil {
			b.enable = []string{"bootrace.service"}
		}
	}
	return b.image(ctx, rootfs)
}

// NewMachine makes a machine with fresh disks that plays the scenario of o.
func (img *Image) NewMachine(o Options) (*Machine, error) {
	scenario, err := o.scenario()
	if err != nil {
		return nil, err
	}
	return img.machine(o, scenario, newProgress(o.Progress))
}

// Repo returns the root of the bootrace sources that dir is in.
func Repo(dir string) (string, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	for d := abs; ; d = filepath.Dir(d) {
		if _, err := os.Stat(filepath.Join(d, "go.mod")); err == nil {
			return d, nil
		}
		if d == filepath.Dir(d) {
			return "", errors.New("find the sources: no go.mod in " + abs + " or above it; run this inside the repository")
		}
	}
}
