package syscalls

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/tracer/event"
)

func TestKeepOpen(t *testing.T) {
	for _, tt := range []struct {
		open          event.OpenInfo
		guest, others bool
	}{
		{event.OpenInfo{Path: "/dev/vg/lv", Errno: 2}, true, true},
		{event.OpenInfo{Path: "/dev/vg/lv", Type: "block"}, true, true},
		{event.OpenInfo{Path: "/dev/tty", Errno: 6}, false, false},
		{event.OpenInfo{Path: "/dev/ttyvg/lv", Errno: 2}, true, true},
		{event.OpenInfo{Path: "/dev/pts/0", Errno: 2}, true, false},
		{event.OpenInfo{Path: "/dev/shm/disk.img", Type: "file"}, true, false},
		{event.OpenInfo{Path: "/dev/kvm", Type: "char"}, false, false},
		{event.OpenInfo{Path: "/usr/lib/libc.so.6", Type: "file"}, false, true},
		{event.OpenInfo{Path: "/usr/lib/libc.so.6", Errno: 2}, false, true},
		{event.OpenInfo{Path: "/usr/local/disk.img", Type: "file", Flags: unix.O_RDWR}, true, true},
		{event.OpenInfo{Path: "/etc/disk", Type: "block"}, true, true},
		{event.OpenInfo{Path: "/var/lib/disk.qcow2", Type: "file"}, true, true},
		{event.OpenInfo{Path: "/var/lib", Type: "dir"}, false, false},
		{event.OpenInfo{Path: "disk.qcow2", Errno: 2}, true, true},
	} {
		if got := KeepOpen(&tt.open, true); got != tt.guest {
			t.Errorf("%+v by a guest: %v", tt.open, got)
		}
		if got := KeepOpen(&tt.open, false); got != tt.others {
			t.Errorf("%+v by others: %v", tt.open, got)
		}
	}
}

func TestRedactTableLine(t *testing.T) {
	for _, tt := range [][2]string{
		{"0 8 linear 8:16 0", "0 8 linear 8:16 0"},
		{"0 8 crypt aes :32:logon:lab:key 0 8:1 0", "0 8 crypt aes :32:logon:lab:key 0 8:1 0"},
		{"0 8 crypt aes - 0 8:1 0", "0 8 crypt aes - 0 8:1 0"},
		{"0 8  crypt aes 00ff 0 8:1 0", "0 8 crypt aes [redacted] 0 8:1 0"},
		{"--table=0 8 crypt aes 00ff 0 8:1 0", "--table=0 8 crypt aes [redacted] 0 8:1 0"},
		{"0 8 inlinecrypt aes 00ff 0 8:1 0", "0 8 inlinecrypt aes [redacted] 0 8:1 0"},
		{"0 8 integrity 8:1 0 32 J 2 internal_hash:hmac(sha256):00ff journal_mac:crc32c", "0 8 integrity 8:1 0 32 J 2 internal_hash:hmac(sha256):[redacted] journal_mac:crc32c"},
		{"vgchange", "vgchange"},
	} {
		if got := redactTableLine(tt[0]); got != tt[1] {
			t.Errorf("%q becomes %q, want %q", tt[0], got, tt[1])
		}
	}
}

// udev's links are told by the name that they have in the end, and each thread's are its
// own.
func TestLinks(t *testing.T) {
	var l Links
	if l.Made(1, "/dev/disk/.#by-id1", "../dm-0") {
		t.Error("a temporary name is told")
	}
	if !l.Made(2, "/dev/direct", "../dm-1") {
		t.Error("a link is not told")
	}
	if target, ok := l.Renamed(2, "/dev/disk/.#by-id1"); ok {
		t.Errorf("another thread's link leads to %q", target)
	}
	if target, ok := l.Renamed(1, "/dev/disk/.#by-id1"); !ok || target != "../dm-0" {
		t.Errorf("it leads to %q, %v", target, ok)
	}
	if _, ok := l.Renamed(1, "/dev/disk/.#by-id1"); ok {
		t.Error("it is renamed twice")
	}
	if l.Ended(2); len(l.made) != 0 {
		t.Errorf("kept: %v", l.made)
	}
	for tid := range uint32(3 * maxLinks) { // who makes links and then nothing
		l.Made(tid, "/dev/x", "y")
	}
	if len(l.made) > maxLinks {
		t.Errorf("%d links are kept", len(l.made))
	}
}

func TestCallerArgs(t *testing.T) {
	got := CallerArgs([]byte("dmsetup\x00create\x00x\x00--table\x000 8 crypt aes 00ff 0 8:1 0\n8 8 zero\x00" + strings.Repeat("x", MaxCallerArgs)))
	if len(got) != 6 || got[4] != "0 8 crypt aes [redacted] 0 8:1 0\n8 8 zero" || len(got[5]) >= MaxCallerArgs {
		t.Errorf("got %q", got)
	}
	if got := CallerArgs(nil); got != nil {
		t.Errorf("of nothing: %q", got)
	}
}
