package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/bootrace/bootrace/tracer/bootlog"
	"github.com/bootrace/bootrace/tracer/event"
)

// BenchmarkShow runs the program as an operator does, on the log of the largest
// host that is expected: 10,000 mappings, 1,000 guests of three disks, a million
// events in all. It must take less than 2 s on two cores, and less than 400 MB.
func BenchmarkShow(b *testing.B) {
	path := largeLog(b)
	self, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	for _, args := range [][]string{{"show"}, {"show", "--format=json"}, {"races"}} {
		b.Run(fmt.Sprint(args), func(b *testing.B) {
			var resident, cpu float64
			for b.Loop() {
				c := exec.Command(self)
				c.Args = append(append([]string{"bootrace"}, args...), path) // TestMain goes by the name
				c.Stdout, c.Stderr = io.Discard, os.Stderr
				if err := c.Run(); err != nil && c.ProcessState.ExitCode() != exitUnknown { // the log has no end
					b.Fatal(err)
				}
				u := c.ProcessState.SysUsage().(*syscall.Rusage)
				resident = max(resident, float64(u.Maxrss)*1024)
				cpu += (c.ProcessState.UserTime() + c.ProcessState.SystemTime()).Seconds()
			}
			b.ReportMetric(b.Elapsed().Seconds()/float64(b.N), "s/op")
			b.ReportMetric(cpu/float64(b.N), "cpu-s/op")
			b.ReportMetric(resident/1e6, "resident-MB")
		})
	}
}

// logFile writes events without holding them.
type logFile struct {
	tb   testing.TB
	out  *bufio.Writer
	line []byte
	id   uint64
}

func (l *logFile) add(e event.Event) {
	l.id++
	e.ID = l.id
	l.line = append(e.AppendJSON(l.line[:0]), '\n')
	if _, err := l.out.Write(l.line); err != nil {
		l.tb.Fatal(err)
	}
}

const largeEvents = 1_000_000

func largeLog(tb testing.TB) string {
	tb.Helper()
	const mappings, guests = 10_000, 1_000
	id := "0d2b306f-ab2c-4bb8-904f-64eca438565f"
	path := filepath.Join(tb.TempDir(), id+".jsonl")
	f, err := os.Create(path)
	if err != nil {
		tb.Fatal(err)
	}
	l := &logFile{tb: tb, out: bufio.NewWriterSize(f, 1<<20)}
	header, err := json.Marshal(bootlog.Header{Version: event.Version, BootID: id, HostName: "kvm7", Kernel: "6.1.0", Started: 1e9})
	if err != nil {
		tb.Fatal(err)
	}
	fmt.Fprintf(l.out, "%s\n", header)
	l.sources()
	noise := (largeEvents - int(l.id) - mappings*7 - guests*10) / (mappings + guests)
	for i := range mappings {
		l.activate(i, event.Time(2e9+i*1e6))
		l.noise(noise, event.Time(2e9+i*1e6))
	}
	for i := range guests {
		l.guest(i, event.Time(7e9+i*1e7), mappings)
		l.noise(noise, event.Time(7e9+i*1e7))
	}
	l.noise(largeEvents-int(l.id), 18e9)
	if err := l.out.Flush(); err != nil {
		tb.Fatal(err)
	}
	if err := f.Close(); err != nil {
		tb.Fatal(err)
	}
	return path
}

func (l *logFile) sources() {
	for i, name := range []string{"uevent", "udev", "ebpf", "snapshot"} {
		info := event.SourceInfo{Name: name, State: "attached"}
		if name == "ebpf" {
			for _, a := range []string{"exec", "exit", "dm", "open", "link"} {
				info.Abilities = append(info.Abilities, event.Ability{Name: a, OK: true})
			}
		}
		l.add(event.Event{At: event.Time(1e9 + i*1e6), Kind: event.Source, Src: name, Source: &info})
	}
	l.add(event.Event{At: 1.01e9, Kind: event.Source, Src: "snapshot", Source: &event.SourceInfo{Name: "snapshot", State: "ended"}})
	l.add(event.Event{At: 1.02e9, Kind: event.Clock, Src: "service", Clock: &event.ClockInfo{WallOffset: 17e17, Trusted: true}})
}

func volume(i int) (name, path, uuid string) {
	return fmt.Sprintf("vg%d-lv%d", i%7, i), fmt.Sprintf("/dev/vg%d/lv%d", i%7, i), fmt.Sprintf("LVM-QvQoYb1XR3bglU4pMye1Ukto61V396l4%032d", i)
}

// activate has an LV come up, as LVM and udev make it.
func (l *logFile) activate(i int, at event.Time) {
	name, path, uuid := volume(i)
	dev := &event.Dev{Major: 253, Minor: uint32(i)}
	lvm := &event.Proc{PID: 142, PPID: 121, Comm: "lvm", Args: []string{"/sbin/lvm", "vgchange", "-aay", "--autoactivation", "event", fmt.Sprintf("vg%d", i%7)}}
	for n, kind := range []event.Kind{event.DMCreate, event.DMLoad, event.DMResume} {
		dm := event.DMInfo{Name: name, UUID: uuid, Dev: dev, Cookie: 6321326}
		if kind == event.DMLoad {
			dm.Size, dm.Table = 1<<30, []string{"0 2097152 linear 254:16 2048"}
		}
		t := at + event.Time(n)*1e5
		l.add(event.Event{At: t, From: t - 5e4, Kind: kind, Src: "ebpf", Proc: lvm, DM: &dm})
	}
	node := fmt.Sprintf("dm-%d", i)
	info := event.DevInfo{Action: "change", Path: "/devices/virtual/block/" + node, Subsystem: "block", Name: node, Type: "disk", Dev: dev,
		Seq: uint64(2000 + i), Props: map[string]string{"DM_COOKIE": "6321326"}}
	l.add(event.Event{At: at + 4e5, From: at + 39e4, Kind: event.Uevent, Src: "uevent", Dev: &info})
	worker := &event.Proc{PID: 300 + i%16, PPID: 242, Comm: "(udev-worker)"}
	for n, link := range []string{path, "/dev/mapper/" + name} {
		t := at + 5e6 + event.Time(n)*1e5
		l.add(event.Event{At: t, From: t - 1e4, Kind: event.Link, Src: "ebpf", Proc: worker, Open: &event.OpenInfo{Path: link, Target: "../" + node, Size: -1}})
	}
	done := info
	done.Links = []string{path, "/dev/mapper/" + name}
	done.Props = map[string]string{"DM_NAME": name, "DM_UUID": uuid, "DM_COOKIE": "6321326", "DM_ACTIVATION": "1"}
	l.add(event.Event{At: at + 6e6, From: at + 4e5, Kind: event.Udev, Src: "udev", Dev: &done})
}

// guest starts a guest that opens each of its three disks three times.
func (l *logFile) guest(i int, at event.Time, mappings int) {
	proc := &event.Proc{PID: 10_000 + i, PPID: 1, Comm: "qemu-system-x86"}
	args := []string{"qemu-system-x86_64", "-name", fmt.Sprintf("guest=vm%d,debug-threads=on", i), "-uuid", fmt.Sprintf("6f6b5ec2-2f1f-4ba5-9a0c-%012d", i), "-m", "2048"}
	for d := range 3 {
		_, path, _ := volume((i*3 + d) % mappings)
		args = append(args, "-drive", fmt.Sprintf("file=%s,if=none,id=drive_%d,format=raw,cache=none", path, d), "-device", fmt.Sprintf("virtio-blk-pci,drive=drive_%d", d))
	}
	l.add(event.Event{At: at, Kind: event.Exec, Src: "ebpf", Proc: proc, Exec: &event.ExecInfo{Filename: "/usr/bin/" + args[0], Args: args}})
	for d := range 9 {
		lv := (i*3 + d/3) % mappings
		_, path, _ := volume(lv)
		t := at + 1e8 + event.Time(d)*1e6
		l.add(event.Event{At: t, From: t - 1e5, Kind: event.Open, Src: "ebpf", Proc: proc,
			Open: &event.OpenInfo{Path: path, Flags: 0x80800, Dev: &event.Dev{Major: 253, Minor: uint32(lv)}, Type: "block", Size: 1 << 30}})
	}
}

// noise is what others do meanwhile: failing opens, udev's links for other
// devices, opens of mappings.
func (l *logFile) noise(n int, at event.Time) {
	for i := range n {
		t := at + event.Time(i)*1e4
		e := event.Event{At: t, From: t - 2000, Kind: event.Open, Src: "ebpf", Proc: &event.Proc{PID: 100_000 + i%50, PPID: 242, Comm: "lvm"}}
		switch i % 4 {
		case 0:
			e.Kind, e.Proc.Comm = event.Link, "(udev-worker)"
			e.Open = &event.OpenInfo{Path: fmt.Sprintf("/dev/char/4:%d", i%2000), Target: fmt.Sprintf("../tty%d", i%2000), Size: -1}
		case 1:
			e.Open = &event.OpenInfo{Path: fmt.Sprintf("/dev/dm-%d", int(l.id)%10_000), Dev: &event.Dev{Major: 253, Minor: uint32(l.id) % 10_000}, Type: "block", Size: 1 << 30}
		default:
			e.Open = &event.OpenInfo{Path: fmt.Sprintf("/dev/disk/by-id/absent-%d", int(l.id)%20_000), Errno: 2, Size: -1}
		}
		l.add(e)
	}
}
