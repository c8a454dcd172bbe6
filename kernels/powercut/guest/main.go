// Command guest is the init of the machine whose power is cut.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/kernels/powercut"
)

func main() {
	for _, m := range [][2]string{{"devtmpfs", "/dev"}, {"proc", "/proc"}, {"sysfs", "/sys"}, {"tmpfs", "/run"}, {"tmpfs", "/tmp"}} {
		_ = os.MkdirAll(m[1], 0o755)
		_ = unix.Mount(m[0], m[1], m[0], 0, "")
	}
	out, err := os.OpenFile(powercut.ReportPort, os.O_WRONLY|unix.O_NOCTTY, 0)
	if err != nil {
		fmt.Println(err)
		out = os.Stdout
	}
	tell := func(r powercut.Report) {
		line, _ := json.Marshal(r)
		fmt.Fprintf(out, "%s\n", line)
	}
	if err := work(tell); err != nil {
		tell(powercut.Report{Error: err.Error()})
	}
	tell(powercut.Report{Done: true})
	_ = unix.IoctlSetInt(int(out.Fd()), unix.TCSBRK, 1) // wait until all is sent
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	select {}
}

func work(tell func(powercut.Report)) error {
	raw, err := os.ReadFile(powercut.OrderFile)
	if err != nil {
		return err
	}
	var o powercut.Order
	if err := json.Unmarshal(raw, &o); err != nil {
		return err
	}
	for _, name := range o.Modules {
		f, err := os.Open(filepath.Join(powercut.ModulesDir, name))
		if err != nil {
			return err
		}
		err = unix.FinitModule(int(f.Fd()), "", 0)
		f.Close()
		if err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("load %s: %w", name, err)
		}
	}
	if err := groups(&o); err != nil {
		return err
	}
	if o.Look {
		tell(powercut.Report{})
		for i := range o.Volumes {
			tell(look(i, &o.Volumes[i]))
		}
		return nil
	}
	var all sync.WaitGroup
	var said sync.Mutex
	var dirs []string
	for i := range o.Volumes {
		dir, err := start(i, &o.Volumes[i])
		if err != nil {
			return fmt.Errorf("volume %d, %s: %w", i, o.Volumes[i].FS, err)
		}
		dirs = append(dirs, dir)
	}
	tell(powercut.Report{})
	for i, dir := range dirs {
		if dir != "" {
			all.Go(func() {
				use(i, &o.Volumes[i], dir, o.Seed)
				said.Lock()
				defer said.Unlock()
				tell(powercut.Report{Volume: i, Ended: true})
			})
		}
	}
	all.Wait()
	select {} // until the power is cut
}

// lvm runs one of LVM's commands. There is no udev here, so it makes the nodes.
func lvm(args ...string) error {
	args = append(args, "--config", `activation { udev_sync=0 udev_rules=0 monitoring=0 } backup { backup=0 archive=0 } devices { use_devicesfile=0 } global { event_activation=0 }`)
	out, err := exec.Command("/sbin/lvm", args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("lvm %v: %w: %s", args, err, out)
	}
	return nil
}

func groups(o *powercut.Order) error {
	if len(o.Groups) > 0 && o.Look {
		return lvm("vgchange", "-ay")
	}
	for _, g := range o.Groups {
		args := []string{"vgcreate", "-y", g.Name}
		for _, lun := range g.LUNs {
			disk, err := device(&powercut.Volume{LUN: lun})
			if err != nil {
				return err
			}
			if err := lvm("pvcreate", "-y", disk); err != nil {
				return err
			}
			args = append(args, disk)
		}
		if err := lvm(args...); err != nil {
			return err
		}
		for _, lv := range g.LVs {
			if err := lvm(append([]string{"lvcreate", "-y", "-Wn", "-Zn"}, lv...)...); err != nil {
				return err
			}
		}
	}
	return nil
}

// device waits for the node of a volume.
func device(v *powercut.Volume) (string, error) {
	for begun := time.Now(); time.Since(begun) < 2*time.Minute; time.Sleep(20 * time.Millisecond) {
		if v.LV != "" {
			return "/dev/mapper/" + strings.ReplaceAll(v.LV, "/", "-"), nil
		}
		names, _ := filepath.Glob(fmt.Sprintf("/sys/bus/scsi/devices/0:0:0:%d/block/*", v.LUN))
		if len(names) == 0 {
			continue
		}
		dev := "/dev/" + filepath.Base(names[0])
		if v.Part > 0 {
			dev += fmt.Sprint(v.Part)
		}
		if _, err := os.Stat(dev); err == nil {
			return dev, nil
		}
	}
	return "", fmt.Errorf("disk %d, partition %d did not come", v.LUN, v.Part)
}

func command(args []string, dev string) powercut.Said {
	c := exec.Command("/sbin/"+args[0], append(slices.Clone(args[1:]), dev)...)
	c.Env = []string{"PATH=/sbin", "LC_ALL=C", "TEST_DIR=1", "TEST_DEV=1", "QA_CHECK_FS=1"}
	out, err := c.CombinedOutput()
	if c.ProcessState == nil {
		return powercut.Said{Status: -1, Text: err.Error()}
	}
	const most = 3000 // bytes of each end
	if len(out) > 2*most {
		out = slices.Concat(out[:most], []byte("\n...\n"), out[len(out)-most:])
	}
	return powercut.Said{Status: c.ProcessState.ExitCode(), Text: string(out)}
}

func start(i int, v *powercut.Volume) (string, error) {
	dev, err := device(v)
	if err != nil {
		return "", err
	}
	if v.Make != nil {
		if s := command(v.Make, dev); s.Status != 0 {
			return "", fmt.Errorf("%v: %s", v.Make, s.Text)
		}
	}
	return mount(i, v, dev)
}

func mount(i int, v *powercut.Volume, dev string) (string, error) {
	if v.FS == "swap" {
		name, err := unix.BytePtrFromString(dev)
		if err == nil {
			if _, _, e := unix.Syscall(unix.SYS_SWAPON, uintptr(unsafe.Pointer(name)), 0, 0); e != 0 {
				err = e
			}
		}
		return "", err
	}
	dir := fmt.Sprintf("/mnt/%d", i)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	return dir, unix.Mount(dev, dir, v.FS, unix.MS_NOATIME, v.Options)
}

// look runs the tools on a volume, mounts it, and takes it away again.
func look(i int, v *powercut.Volume) (r powercut.Report) {
	r = powercut.Report{Volume: i, Looked: true}
	dev, err := device(v)
	if err != nil {
		r.Mount = err.Error()
		return r
	}
	for _, args := range v.Tools {
		if r.Tools == nil {
			r.Tools = map[string]powercut.Said{}
		}
		r.Tools[strings.Join(args, " ")] = command(args, dev)
	}
	log, err := os.OpenFile("/dev/kmsg", os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		r.Error = err.Error()
		return r
	}
	defer log.Close()
	_, _ = log.Seek(0, unix.SEEK_END)
	dir, err := mount(i, v, dev)
	if err != nil {
		r.Mount = err.Error()
	} else if dir != "" {
		_ = unix.Unmount(dir, 0)
	}
	buf := make([]byte, 8192)
	for len(r.Kernel) < 40 {
		n, err := unix.Read(int(log.Fd()), buf) // one message each
		if errors.Is(err, unix.EPIPE) {
			continue
		}
		if err != nil || n == 0 {
			break
		}
		_, text, _ := strings.Cut(string(buf[:n]), ";")
		text, _, _ = strings.Cut(text, "\n")
		r.Kernel = append(r.Kernel, text)
	}
	return r
}

// use writes to a volume and ends that as it should.
func use(i int, v *powercut.Volume, dir string, seed uint64) {
	r := rand.New(rand.NewPCG(seed, uint64(i)))
	const least, most = 12, 80 // changes
	end := least + r.IntN(most-least)
	grow := end / 3
	for n := 0; ; n++ {
		if v.Grow && n == grow {
			if err := enlarge(v, dir); err != nil {
				fmt.Printf("grow %s on %s: %v\n", v.FS, dir, err)
			}
		}
		if n >= end && v.End != powercut.Never {
			break
		}
		change(r, dir)
	}
	if err := finish(v, dir); err != nil {
		fmt.Printf("%s %s on %s: %v\n", v.End, v.FS, dir, err)
	}
}

// change changes something below a folder.
func change(r *rand.Rand, dir string) {
	name := func() string { return fmt.Sprintf("%s/d%d/f%d", dir, r.IntN(7), r.IntN(60)) }
	path := name()
	_ = os.Mkdir(filepath.Dir(path), 0o755)
	switch n := r.IntN(12); n {
	case 0:
		_ = os.Remove(path)
	case 1:
		_ = os.Rename(path, name())
	case 2:
		_ = os.Truncate(path, int64(r.IntN(64<<10)))
	case 3:
		_ = os.Symlink(path, name()+"l")
	case 4:
		if d, err := os.Open(dir); err == nil {
			_ = unix.Syncfs(int(d.Fd()))
			d.Close()
		}
	default:
		f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o644)
		if err != nil {
			return
		}
		data := make([]byte, r.IntN(24<<10))
		for i := range data {
			data[i] = byte(i * n)
		}
		_, _ = f.Write(data)
		if n > 8 {
			_ = f.Sync()
		}
		f.Close()
	}
}

// Requests of ioctl(2), by include/uapi/linux/fs.h, ext4.h and btrfs.h, and
// fs/xfs/libxfs/xfs_fs.h of Linux.
const (
	xfsGrow     = 0x4010586e // XFS_IOC_FSGROWFSDATA
	extResize   = 0x40086610 // EXT4_IOC_RESIZE_FS
	btrfsResize = 0x50009403 // BTRFS_IOC_RESIZE
	fsShutdown  = 0x8004587d // XFS_IOC_GOINGDOWN, EXT4_IOC_SHUTDOWN
	fsFreeze    = 0xc0045877 // FIFREEZE
	fsThaw      = 0xc0045878 // FITHAW
)

func control(dir string, request uintptr, argument unsafe.Pointer) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, d.Fd(), request, uintptr(argument)); e != 0 {
		return e
	}
	return nil
}

// enlarge grows a file system to the size of its device.
func enlarge(v *powercut.Volume, dir string) error {
	if v.Extend != nil {
		if err := lvm(append([]string{"lvextend"}, v.Extend...)...); err != nil {
			return err
		}
	}
	dev, err := device(v)
	if err != nil {
		return err
	}
	f, err := os.Open(dev)
	if err != nil {
		return err
	}
	size, err := f.Seek(0, unix.SEEK_END)
	f.Close()
	if err != nil {
		return err
	}
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return err
	}
	switch blocks := uint64(size) / uint64(st.Bsize); v.FS {
	case "xfs":
		const usual = 25 // percent of the space that inodes may have
		return control(dir, xfsGrow, unsafe.Pointer(&struct {
			blocks uint64
			inodes uint32
			_      uint32
		}{blocks, usual, 0}))
	case "btrfs":
		argument := struct {
			_    int64
			name [4088]byte
		}{}
		copy(argument.name[:], "max")
		return control(dir, btrfsResize, unsafe.Pointer(&argument))
	default:
		return control(dir, extResize, unsafe.Pointer(&blocks))
	}
}

func finish(v *powercut.Volume, dir string) error {
	switch v.End {
	case powercut.Unmount:
		return unix.Unmount(dir, 0)
	case powercut.ReadOnly:
		return unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, "")
	case powercut.Freeze:
		return control(dir, fsFreeze, nil)
	case powercut.Shutdown:
		how := uint32(len(dir) % 3) // flush all, flush the log, flush nothing
		return control(dir, fsShutdown, unsafe.Pointer(&how))
	case powercut.Error:
		dev, err := device(v)
		if err != nil {
			return err
		}
		if err := os.WriteFile("/sys/fs/ext4/"+filepath.Base(dev)+"/trigger_fs_error", []byte("cut"), 0); err != nil {
			return err
		}
		// Since Linux 5.11 the mark goes through the journal: this has it in its place.
		return errors.Join(control(dir, fsFreeze, nil), control(dir, fsThaw, nil))
	}
	return nil
}
