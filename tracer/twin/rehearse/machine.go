package rehearse

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/tracer/emulate"
	"github.com/bootrace/bootrace/tracer/twin"
)

// outName and outSize are the serial number and the size of the disk that the twin writes
// its record to.
const (
	outName = "bootrace-out"
	outSize = 512 << 20
)

// firstSlot and lastSlot are those of the PCI bus that disks can have.
const firstSlot, lastSlot = 5, 31

// machine is one boot of a twin.
type machine struct {
	twin *Twin
	plan Plan
	pace float64 // how many times as long as on the host things take here
	dir  string  // of the results
	name string  // of the plan, as a file's
	mem  int     // MiB

	commands []hotplug
	recorder hotplug        // the disk for the record, which comes when there is one
	booted   chan time.Time // when the kernel had its first disk
	said     chan string    // by the agent
	failed   chan error
}

// hotplug is a disk that comes later.
type hotplug struct {
	disk   string
	after  time.Duration
	device string // as -device has it
}

// run boots the twin and returns the path of its record.
func (m *machine) run(ctx context.Context, limit time.Duration) (log string, up time.Duration, err error) {
	console := filepath.Join(m.dir, m.name+".console.log")
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("the twin was not done after %v: look at %s", limit, console))
	defer cancel()
	qemu, err := tool("qemu-system-x86_64", "qemu-system-x86")
	if err != nil {
		return "", 0, err
	}
	out := filepath.Join(m.twin.dir, "out.img")
	_ = os.Remove(out)
	if err := truncate(out, outSize); err != nil {
		return "", 0, err
	}
	m.booted, m.said, m.failed = make(chan time.Time, 1), make(chan string, 16), make(chan error, 1)
	args, err := m.args(out)
	if err != nil {
		return "", 0, err
	}
	var lines, agent, monitor *os.File
	var ends []*os.File
	for _, end := range []**os.File{&lines, &agent, &monitor} {
		here, there, err := pair()
		if err != nil {
			return "", 0, err
		}
		*end, ends = here, append(ends, there)
		defer here.Close()
	}
	var output bytes.Buffer
	cmd := exec.CommandContext(ctx, qemu, args...)
	cmd.ExtraFiles, cmd.Stdout, cmd.Stderr = ends, &output, &output
	cmd.Env = append(os.Environ(), "TMPDIR="+m.twin.dir) // what is written to the disks
	ended, err := emulate.Start(cmd)
	if err != nil {
		return "", 0, err
	}
	var readers sync.WaitGroup
	readers.Go(func() { m.readConsole(lines, console) })
	readers.Go(func() { m.readAgent(agent) })
	up, err = m.follow(ctx, agent, monitor, ended, &output, console)
	cancel()
	readers.Wait()
	if err != nil {
		return "", up, err
	}
	log, err = m.record(out)
	return log, up, err
}

// follow has the disks come, and waits for the twin's end.
func (m *machine) follow(ctx context.Context, agent io.Writer, monitor io.ReadWriter, ended <-chan error, output *bytes.Buffer, console string) (up time.Duration, err error) {
	q := newQMP(monitor)
	next := 0
	var start time.Time
	var alarm <-chan time.Time
	waiting := false // the agent wants to hear that all disks have come
	step := func() error {
		if next == len(m.commands) || start.IsZero() {
			if waiting && next == len(m.commands) {
				waiting = false
				_, err := io.WriteString(agent, "go\n")
				return err
			}
			return nil
		}
		alarm = time.After(time.Until(start.Add(m.commands[next].after)))
		return nil
	}
	for {
		select {
		case start = <-m.booted:
			if err := step(); err != nil {
				return up, err
			}
		case <-alarm:
			alarm = nil
			if err := m.come(q, m.commands[next]); err != nil {
				return up, err
			}
			next++
			if err := step(); err != nil {
				return up, err
			}
		case line := <-m.said:
			switch f := strings.Fields(line); {
			case len(f) == 3 && f[0] == "up":
				seconds, _ := strconv.ParseFloat(f[1], 64)
				up, waiting = time.Duration(seconds*float64(time.Second)), true
				if start.IsZero() { // its console told of no disk
					start = time.Now()
				}
				if err := step(); err != nil {
					return up, err
				}
			case line == "recorded":
				if err := m.come(q, m.recorder); err != nil {
					return up, err
				}
				if _, err := io.WriteString(agent, "go\n"); err != nil {
					return up, err
				}
			}
		case err := <-m.failed:
			return up, err
		case err := <-ended:
			switch {
			case ctx.Err() != nil:
				return up, context.Cause(ctx)
			case err != nil:
				return up, fmt.Errorf("run QEMU: %w: %s", err, strings.Join(strings.Fields(output.String()), " "))
			case up == 0:
				return up, fmt.Errorf("the twin ended before it was up: look at %s", console)
			}
			return up, nil
		}
	}
}

// come has a disk come while the machine runs.
func (m *machine) come(q *qmp, h hotplug) error {
	if err := q.execute("human-monitor-command", map[string]any{"command-line": "device_add " + h.device}); err != nil {
		return fmt.Errorf("have disk %s come: %w", h.disk, err)
	}
	return nil
}

// pair is two ends of a connection.
func pair() (here, there *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("connect to the machine: %w", err)
	}
	there = os.NewFile(uintptr(fds[1]), "machine")
	if err := unix.SetNonblock(fds[0], true); err != nil { // so that Close wakes its readers
		return nil, nil, errors.Join(err, unix.Close(fds[0]), there.Close())
	}
	return os.NewFile(uintptr(fds[0]), "machine"), there, nil
}

// firstDisk is the kernel's line about its first disk.
var firstDisk = regexp.MustCompile(`^\[ *\d+\.\d+\].*\b(vd[a-z]+|sd[a-z]+|nvme\d+n\d+)\b`)

func (m *machine) readConsole(r io.Reader, path string) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		m.failed <- fmt.Errorf("keep the console: %w", err)
		return
	}
	defer f.Close()
	begin, booted := time.Now(), false
	emulate.Lines(r, func(line string) {
		fmt.Fprintf(f, "%8.3f %s\n", time.Since(begin).Seconds(), line)
		if !booted && firstDisk.MatchString(line) && !strings.Contains(line, "ommand line") {
			booted = true
			m.booted <- time.Now()
		}
		if why := emulate.Stuck(line); why != "" {
			if why == emulate.NoRoot {
				why += ": it may lack the drivers of the twin's disks (virtio_blk, virtio_scsi, nvme, ext4): make the host's with MODULES=most, or with dracut --no-hostonly"
			}
			select {
			case m.failed <- fmt.Errorf("%s: look at %s", why, path):
			default:
			}
		}
	})
}

func (m *machine) readAgent(r io.Reader) {
	emulate.Lines(r, func(line string) {
		select {
		case m.said <- line:
		default: // nobody listens any more
		}
	})
}

// args is QEMU's command line, and finds out which disks come later. The machine is an old
// PC, whose bus takes disks while it runs.
func (m *machine) args(out string) ([]string, error) {
	t := m.twin
	line, _ := t.commandLine()
	if m.plan.Enforce {
		line += " " + enforceArg
	}
	args := append(emulate.Args("pc,vmport=off", m.mem, 1), "-nic", "none", "-no-reboot",
		"-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
		"-device", "virtio-rng-pci,addr=3",
		"-kernel", filepath.Join(t.dir, twin.KernelName), "-initrd", filepath.Join(t.dir, twin.InitrdName), "-append", line,
		"-chardev", "socket,id=console,fd=3", "-serial", "chardev:console",
		"-chardev", "socket,id=agent,fd=4", "-serial", "chardev:agent",
		"-chardev", "socket,id=monitor,fd=5", "-mon", "chardev=monitor,mode=control",
		"-device", "virtio-scsi-pci,id=scsi,addr=4")
	// The disks that the host doesn't have come last, so that the others have its names.
	disks := slices.Clone(t.Manifest.Disks)
	if t.ownRoot {
		disks = append(disks, twin.Disk{Name: ownRootName, Bus: twin.Virtio, Serial: ownRootName})
	}
	disks = append(disks, twin.Disk{Name: outName, Bus: twin.Virtio, Serial: outName})
	slot, unit := firstSlot, 0
	for i := range disks {
		d := &disks[i]
		path, options := t.image(d.Name), "snapshot=on,"
		if d.Name == outName {
			path, options = out, ""
		}
		args = append(args, "-drive", fmt.Sprintf("if=none,id=%s,format=raw,cache=unsafe,%sfile=%s", d.Name, options, emulate.Quote(path)))
		device, err := deviceOf(*d, &slot, &unit)
		if err != nil {
			return nil, err
		}
		after, comes := m.plan.comes(d)
		switch {
		case d.Name == outName:
			m.recorder = hotplug{disk: d.Name, device: device}
		case !comes:
		case after > 0:
			m.commands = append(m.commands, hotplug{d.Name, time.Duration(float64(after) * m.pace), device})
		default:
			args = append(args, "-device", device)
		}
	}
	sortHotplugs(m.commands)
	return args, nil
}

// serialPattern is what a serial number may be to stand in an option of QEMU.
var serialPattern = regexp.MustCompile(`^[A-Za-z0-9._-]{1,36}$`)

// deviceOf is a disk as -device and device_add have it.
func deviceOf(d twin.Disk, slot, unit *int) (string, error) {
	serial := ""
	if serialPattern.MatchString(d.Serial) {
		serial = ",serial=" + d.Serial
	}
	if d.Sector == 4096 {
		serial += ",logical_block_size=4096,physical_block_size=4096"
	}
	if d.Bus == twin.SCSI {
		device := fmt.Sprintf("scsi-hd,bus=scsi.0,scsi-id=%d,lun=%d,drive=%s,id=dev-%s%s", *unit/128, *unit%128, d.Name, d.Name, serial)
		if d.WWN != "" {
			device += ",wwn=" + d.WWN
		}
		*unit++
		return device, nil
	}
	if *slot > lastSlot {
		return "", fmt.Errorf("the host has more than %d disks that are no SCSI disks: a twin has no more", lastSlot-firstSlot)
	}
	driver := "virtio-blk-pci"
	if d.Bus == twin.NVMe {
		driver = "nvme"
		if serial == "" {
			serial = ",serial=" + d.Name
		}
	}
	device := fmt.Sprintf("%s,addr=%#x,drive=%s,id=dev-%s%s", driver, *slot, d.Name, d.Name, serial)
	*slot++
	return device, nil
}

// record takes the boot's log off the disk that the twin wrote it to.
func (m *machine) record(out string) (string, error) {
	f, err := os.Open(out)
	if err != nil {
		return "", err
	}
	defer f.Close()
	archive := tar.NewReader(bufio.NewReader(f))
	h, err := archive.Next()
	if err != nil || !strings.HasSuffix(h.Name, ".jsonl") || h.Typeflag != tar.TypeReg || h.Size > outSize {
		return "", fmt.Errorf("the twin wrote no record: look at %s", filepath.Join(m.dir, m.name+".console.log"))
	}
	path := filepath.Join(m.dir, m.name+".jsonl")
	to, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return "", err
	}
	_, err = io.Copy(to, archive)
	return path, errors.Join(err, to.Close())
}

// qmp speaks QEMU's monitor protocol.
type qmp struct {
	rw      io.ReadWriter
	in      *json.Decoder
	greeted bool
}

func newQMP(rw io.ReadWriter) *qmp { return &qmp{rw: rw, in: json.NewDecoder(rw)} }

// execute runs one command. That of a person's monitor answers with a text where it failed.
func (q *qmp) execute(command string, arguments map[string]any) error {
	if !q.greeted {
		q.greeted = true
		if err := q.execute("qmp_capabilities", nil); err != nil {
			return err
		}
	}
	request := map[string]any{"execute": command}
	if arguments != nil {
		request["arguments"] = arguments
	}
	if err := json.NewEncoder(q.rw).Encode(request); err != nil {
		return err
	}
	for {
		var answer struct {
			Return json.RawMessage        `json:"return"`
			Error  *struct{ Desc string } `json:"error"`
		}
		if err := q.in.Decode(&answer); err != nil {
			return fmt.Errorf("QEMU's monitor: %w", err)
		}
		var text string
		switch {
		case answer.Error != nil:
			return errors.New(answer.Error.Desc)
		case answer.Return == nil: // the greeting, or an event
		case json.Unmarshal(answer.Return, &text) == nil && strings.TrimSpace(text) != "":
			return errors.New(strings.TrimSpace(text))
		default:
			return nil
		}
	}
}
