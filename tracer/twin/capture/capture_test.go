package capture

import (
	"archive/tar"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/tracer/twin"
)

const mib = 1 << 20

// host is a root with a disk vda that is a physical volume with a guest's data in it.
func host(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		t.Fatal(err)
	}
	release := unix.ByteSliceToString(uts.Release[:])
	for name, text := range map[string]string{
		"proc/cmdline":                         "root=/dev/vda1 rd.luks.key=hunter2 quiet\n",
		"proc/self/mountinfo":                  "1 1 0:1 / / rw - ext4 /dev/root rw\n",
		"boot/vmlinuz-" + release:              "kernel",
		"boot/initrd.img-" + release:           "initramfs",
		"sys/block/vda/x":                      "",
		"sys/class/block/vda/size":             fmt.Sprint(8 * mib / 512),
		"sys/class/block/vda/serial":           "disk-a\n",
		"sys/block/md0/x":                      "",
		"sys/class/block/md0/size":             "1024",
		"dev/vda":                              string(volume()),
		"etc/hostname":                         "kvm7\n",
		"etc/agent.conf":                       "name = agent\npassword = hunter2\n",
		"etc/agent.pem":                        "-----BEGIN PRIVATE KEY-----\nhunter2\n",
		"etc/shadow":                           "root:hunter2:\n",
		"etc/ssh/ssh_host_rsa_key":             "hunter2",
		"etc/pam.d/common":                     "password required pam_unix.so\n",
		"root/.ssh/id":                         "hunter2",
		"srv/vm/disk":                          "guests-data",
		"opt/vm/web.qcow2":                     "guests-data",
		"opt/vm/web":                           "QFI\xfbguests-data",
		"var/lib/libvirt/qemu/save/web":        "guests-data",
		"var/lib/bootrace/memory.jsonl":        "{}\n",
		"var/lib/bootrace/boot.jsonl":          "a record",
		"usr/lib/modules/1.0-other/kernel/x":   "another kernel's",
		"usr/lib/modules/" + release + "/x.ko": "module",
		"usr/bin/tool":                         "tool",
	} {
		path := filepath.Join(root, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	qemu := filepath.Join(root, "usr/bin/qemu-system-x86_64")
	if err := errors.Join(os.WriteFile(qemu, []byte("qemu"), 0o755), os.Symlink("tool", filepath.Join(root, "usr/bin/link"))); err != nil {
		t.Fatal(err)
	}
	return root
}

// volume is a physical volume: a label in the second sector, a metadata area behind it,
// and a guest's data from 2 MiB on (lvm2, lib/format_text/layout.h).
func volume() []byte {
	b := make([]byte, 8*mib)
	le := binary.LittleEndian
	label := b[512:1024]
	copy(label, "LABELONE")
	le.PutUint64(label[8:], 1)
	le.PutUint32(label[20:], 32)
	copy(label[24:], "LVM2 001")
	for i, n := range []uint64{2 * mib, 0, 0, 0, 4096, mib - 4096, 0, 0} { // data areas, metadata areas
		le.PutUint64(label[32+40+8*i:], n)
	}
	const initial = 0xf597a6cf
	le.PutUint32(label[16:], ^crc32.Update(^uint32(initial), crc32.IEEETable, label[20:]))
	copy(b[4096+512:], "metadata-of-lvm")
	copy(b[2*mib:], "guests-data")
	return b
}

func captured(t *testing.T, root string) (*twin.Manifest, map[string]string, []byte) {
	t.Helper()
	c, err := Look(t.Context(), Options{Root: root, Program: "test", Now: time.Unix(1, 0)})
	if err != nil {
		t.Fatal(err)
	}
	var packed bytes.Buffer
	if err := c.Write(t.Context(), &packed); err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	keep := func(name string, r io.Reader) error {
		data, err := io.ReadAll(r)
		found[name] = string(data)
		return err
	}
	m, err := twin.Read(bytes.NewReader(packed.Bytes()), twin.Sink{
		File:  func(h *tar.Header, r io.Reader) error { return keep("root/"+h.Name, r) },
		Boot:  keep,
		Piece: func(disk string, offset int64, r io.Reader) error { return keep(twin.PieceName(disk, offset), r) },
	})
	if err != nil {
		t.Fatal(err)
	}
	return m, found, packed.Bytes()
}

func TestCapture(t *testing.T) {
	m, found, _ := captured(t, host(t))
	for name, want := range map[string]string{
		"kernel": "kernel", "initramfs": "initramfs", "root/etc/hostname": "kvm7\n", "root/usr/bin/tool": "tool",
		"root/etc/pam.d/common": "password required pam_unix.so\n", "root/etc/agent.conf": "name = agent\npassword = [redacted]\n",
	} {
		if found[name] != want {
			t.Errorf("%s is %q, want %q", name, found[name], want)
		}
	}
	if got := found["disks/vda/4096"]; !strings.Contains(got, "metadata-of-lvm") || len(got) != mib-4096 {
		t.Errorf("the metadata area has %d bytes", len(got))
	}
	if len(m.Disks) != 1 || m.Disks[0].Serial != "disk-a" || m.Disks[0].Size != 8*mib || m.Disks[0].Bus != twin.Virtio {
		t.Errorf("disks: %+v", m.Disks)
	}
	if len(m.Others) != 1 || m.Others[0].Name != "md0" {
		t.Errorf("devices that no twin has: %+v", m.Others)
	}
	if len(m.Hypervisors) != 1 || m.Hypervisors[0].Path != "/usr/bin/qemu-system-x86_64" {
		t.Errorf("hypervisors: %+v", m.Hypervisors)
	}
	if _, ok := found["root/usr/bin/qemu-system-x86_64"]; ok {
		t.Error("the hypervisor itself is in the capture")
	}
}

// No guest's data and no secret is in a capture, and what was left out is named.
func TestCaptureLeavesOut(t *testing.T) {
	m, found, _ := captured(t, host(t))
	for name, text := range found {
		for _, secret := range []string{"hunter2", "guests-data", "a record", "another kernel's"} {
			if strings.Contains(text, secret) {
				t.Errorf("%s has %q", name, secret)
			}
		}
	}
	if strings.Contains(m.CommandLine, "hunter2") || !strings.Contains(m.CommandLine, "quiet") {
		t.Errorf("command line: %q", m.CommandLine)
	}
	for _, path := range []string{
		"/etc/shadow", "/etc/ssh/ssh_host_rsa_key", "/etc/agent.pem", "/etc/agent.conf", "/root", "/srv", "/opt/vm/web.qcow2", "/opt/vm/web",
		"/var/lib/libvirt/qemu", "/var/lib/bootrace/boot.jsonl", "/usr/lib/modules/1.0-other",
	} {
		if !slices.ContainsFunc(m.LeftOut, func(l twin.LeftOut) bool { return l.Path == path && l.Why != "" }) {
			t.Errorf("%s is not listed as left out", path)
		}
	}
	if len(m.Missing) == 0 {
		t.Error("that no boot is recorded is not said")
	}
}

// A capture that was cut short anywhere is refused.
func TestCutShort(t *testing.T) {
	_, _, packed := captured(t, host(t))
	discard := twin.Sink{
		File:  func(_ *tar.Header, r io.Reader) error { return drain(r) },
		Boot:  func(_ string, r io.Reader) error { return drain(r) },
		Piece: func(_ string, _ int64, r io.Reader) error { return drain(r) },
	}
	for n := 1; n < len(packed)-4; n += 97 {
		if _, err := twin.Read(bytes.NewReader(packed[:n]), discard); err == nil {
			t.Fatalf("%d of %d bytes are taken for a capture", n, len(packed))
		}
	}
	if _, err := twin.Read(bytes.NewReader(packed[:len(packed)/2]), discard); !errors.Is(err, twin.ErrCut) {
		t.Errorf("half a capture: %v", err)
	}
	if _, err := twin.Read(strings.NewReader("no capture at all"), discard); err == nil || errors.Is(err, twin.ErrCut) {
		t.Errorf("something else: %v", err)
	}
}

func drain(r io.Reader) error {
	_, err := io.Copy(io.Discard, r)
	return err
}

func TestRoom(t *testing.T) {
	if err := Room(t.TempDir(), 1<<62); err == nil || !strings.Contains(err.Error(), "choose another folder") {
		t.Errorf("4 EiB: %v", err)
	}
	if err := Room(t.TempDir(), 1); err != nil {
		t.Error(err)
	}
}
