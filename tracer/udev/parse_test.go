package udev

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bootrace/bootrace/tracer/event"
)

func read(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func parse(t testing.TB, name string, message []byte) *event.DevInfo {
	t.Helper()
	parser := parseKernel
	if strings.HasPrefix(name, "udev") {
		parser = parseUdev
	}
	u, err := parser(message)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	d, err := deviceInfo(u, 0)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return d
}

// The messages are those of Linux 6.1 and systemd 252 while an LV was made.
func TestMessages(t *testing.T) {
	const path = "/devices/virtual/block/dm-0"
	dev := &event.Dev{Major: 254}
	for name, want := range map[string]event.DevInfo{
		"uevent-add-dm_mod.bin": {Action: "add", Path: "/module/dm_mod", Subsystem: "module", Seq: 903},
		"uevent-add-dm-0.bin": {Action: "add", Path: path, Subsystem: "block", Name: "dm-0", Type: "disk", Dev: dev,
			Seq: 908, Props: map[string]string{"DISKSEQ": "10"}},
		"uevent-change-dm-0.bin": {Action: "change", Path: path, Subsystem: "block", Name: "dm-0", Type: "disk", Dev: dev,
			Seq: 909, Props: map[string]string{"DISKSEQ": "10", "DM_COOKIE": "23077739"}},
		"udev-add-dm-0.bin": {Action: "add", Path: path, Subsystem: "block", Name: "dm-0", Type: "disk", Dev: dev,
			Seq: 908, Initialized: 19095116000, Props: map[string]string{
				"DISKSEQ": "10", "SYSTEMD_READY": "0", "DM_UDEV_DISABLE_DISK_RULES_FLAG": "1",
				"DM_UDEV_DISABLE_OTHER_RULES_FLAG": "1", "DM_UDEV_DISABLE_SUBSYSTEM_RULES_FLAG": "1"}},
	} {
		if diff := cmp.Diff(&want, parse(t, name, read(t, name))); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	d := parse(t, "udev", read(t, "udev-change-dm-0.bin"))
	if d.Props["DM_NAME"] != "vg--data-web--01" || len(d.Links) != 4 || d.Links[0] != "/dev/vg-data/web-01" || d.Name != "dm-0" {
		t.Errorf("got %+v", d)
	}
	for key := range d.Props {
		if !keep(key) {
			t.Errorf("property %s was to be left out", key)
		}
	}
}

// What tells one device from another on the next boot is kept, of each kind;
// what a guest chooses, such as a label, is not.
func TestIdentities(t *testing.T) {
	d := parse(t, "udev", udevMessage(7, "MD_UUID=1:2:3:4", "MD_STARTED=yes", "ID_WWN_WITH_EXTENSION=0x6001", "ID_SCSI_SERIAL=s",
		"SCSI_IDENT_SERIAL=s", "ID_NSID=1", "PARTUUID=p", "ID_PART_ENTRY_UUID=p", "RESOURCE=r0", "VOLUME=0", "ID_FS_LABEL=web", "ID_FS_LABEL_ENC=web"))
	want := map[string]string{
		"MD_UUID": "1:2:3:4", "MD_STARTED": "yes", "ID_WWN_WITH_EXTENSION": "0x6001", "ID_SCSI_SERIAL": "s",
		"SCSI_IDENT_SERIAL": "s", "ID_NSID": "1", "PARTUUID": "p", "ID_PART_ENTRY_UUID": "p", "RESOURCE": "r0", "VOLUME": "0",
	}
	if diff := cmp.Diff(want, d.Props); diff != "" {
		t.Error(diff)
	}
}

func TestDeviceMapperModule(t *testing.T) {
	d := parse(t, "uevent", read(t, "uevent-add-dm_mod.bin"))
	if !IsDeviceMapperModule(&event.Event{Kind: event.Uevent, Dev: d}) || !wanted(d) {
		t.Errorf("not recognized: %+v", d)
	}
	for _, other := range []event.DevInfo{
		{Action: "remove", Subsystem: "module", Path: "/module/dm_mod"},
		{Action: "add", Subsystem: "module", Path: "/module/dm_bufio"},
		{Action: "add", Subsystem: "net", Path: "/module/dm_mod"},
	} {
		if wanted(&other) {
			t.Errorf("wanted: %+v", other)
		}
	}
}

// What go-udev cannot split comes through all the same, and whole.
func TestOddMessages(t *testing.T) {
	path := "/devices/platform/soc@0/30b40000.mmc/mmc_host/mmc0/block/mmcblk0"
	message := []byte("add@" + path + "\x00ACTION=add\x00DEVPATH=" + path + "\x00SUBSYSTEM=block\x00SEQNUM=5\x00DM_NAME=a=b=\x00")
	d := parse(t, "uevent", message)
	if d.Path != path || d.Props["DM_NAME"] != "a=b=" || d.Seq != 5 || d.Action != "add" {
		t.Errorf("got %+v", d)
	}
	d = parse(t, "udev", udevMessage(6, "ID_FS_UUID==", "ID_FS_TYPE=ext4"))
	if d.Props["ID_FS_UUID"] != "=" || d.Props["ID_FS_TYPE"] != "ext4" {
		t.Errorf("got %+v", d)
	}
}

func TestBadMessages(t *testing.T) {
	change := read(t, "udev-change-dm-0.bin")
	badMagic := bytes.Clone(change)
	badMagic[8] = 0
	badOffset := bytes.Clone(change)
	badOffset[udevPropOffset+3] = 0xff
	for name, message := range map[string][]byte{
		"empty": nil, "no NUL": []byte("add@/x"), "no @": []byte("add\x00"), "action": []byte("explode@/x\x00A=b\x00"),
		"no =": []byte("add@/x\x00NOTHING\x00"), "udev in the kernel's group": change,
	} {
		if u, err := parseKernel(message); err == nil {
			t.Errorf("%s: no error: %+v", name, u)
		}
	}
	for name, message := range map[string][]byte{
		"empty": nil, "short": change[:udevHeaderSize], "magic": badMagic, "offset": badOffset,
		"kernel in udev's group": read(t, "uevent-add-dm-0.bin"),
	} {
		if u, err := parseUdev(message); err == nil {
			t.Errorf("%s: no error: %+v", name, u)
		}
	}
	for _, property := range []string{"MAJOR=x", "MINOR=-1", "SEQNUM=1e3", "USEC_INITIALIZED=99999999999999999999"} {
		u, err := parseUdev(udevMessage(1, "MAJOR=8", "MINOR=0"))
		if err != nil {
			t.Fatal(err)
		}
		key, value, _ := strings.Cut(property, "=")
		u.Env[key] = value
		if _, err := deviceInfo(u, 0); err == nil {
			t.Errorf("%s: no error", property)
		}
	}
}

func TestMayMatter(t *testing.T) {
	for message, want := range map[string]bool{
		"x@/y\x00SUBSYSTEM=net\x00":   false,
		"x@/y\x00SUBSYSTEM=block\x00": true,
		"x@/y\x00":                    true,
	} {
		if mayMatter([]byte(message)) != want {
			t.Errorf("%q: want %v", message, want)
		}
	}
}

func TestReadDrops(t *testing.T) {
	const table = `sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode
00000000ea2dfd9d 0   0          00000000 0        0        0     2        0        4       
00000000b341e7a1 15  411        00000001 2304     0        0     2        195      4877    
`
	if drops, ok := readDrops(strings.NewReader(table), 4877); !ok || drops != 195 {
		t.Errorf("got %d, %v", drops, ok)
	}
	if _, ok := readDrops(strings.NewReader(table), 48); ok {
		t.Error("found a socket that is not there")
	}
}

func TestDatabase(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, "run/udev/data")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "b254:0"), read(t, "b254-0"), 0o644); err != nil {
		t.Fatal(err)
	}
	r, err := ReadRecord(root, event.Dev{Major: 254})
	if err != nil || r == nil {
		t.Fatal(r, err)
	}
	var d event.DevInfo
	r.Fill(&d, 1000)
	if d.Initialized != 10361765000 || len(d.Links) != 4 || d.Links[3] != "/dev/mapper/vg--data-web--01" || d.Props["DM_LV_NAME"] != "web-01" {
		t.Errorf("got %+v", d)
	}
	if r, err := ReadRecord(root, event.Dev{Major: 254, Minor: 1}); r != nil || err != nil {
		t.Errorf("a record that is not there: %v, %v", r, err)
	}
}

func FuzzParse(f *testing.F) {
	files, err := filepath.Glob("testdata/*.bin")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		message, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(message)
	}
	f.Add([]byte("add@/a@b\x00A=b=c\x00"))
	f.Fuzz(func(t *testing.T, message []byte) {
		if u, err := parseKernel(message); err == nil {
			deviceInfo(u, 0)
		}
		if u, err := parseUdev(message); err == nil {
			deviceInfo(u, 0)
		}
		ParseRecord(message)
	})
}

func BenchmarkUdevMessage(b *testing.B) {
	message := read(b, "udev-change-dm-0.bin")
	b.ReportAllocs()
	for b.Loop() {
		u, err := parseUdev(message)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := deviceInfo(u, 0); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkKernelMessage(b *testing.B) {
	message := read(b, "uevent-change-dm-0.bin")
	b.ReportAllocs()
	for b.Loop() {
		u, err := parseKernel(message)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := deviceInfo(u, 0); err != nil {
			b.Fatal(err)
		}
	}
}
