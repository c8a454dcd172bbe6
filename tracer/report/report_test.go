package report

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"

	"github.com/bootrace/bootrace/tracer/bootlog"
	"github.com/bootrace/bootrace/tracer/timeline"
)

const logs = "../../cmd/bootrace/testdata/logs/"

func find(tb testing.TB, path string) bootlog.Boot {
	tb.Helper()
	boot, err := new(bootlog.Store).Find(path)
	if err != nil {
		tb.Fatal(err)
	}
	return boot
}

func build(tb testing.TB, boot *bootlog.Boot) *timeline.Timeline {
	tb.Helper()
	log, err := boot.Open()
	if err != nil {
		tb.Fatal(err)
	}
	defer log.Close()
	h := log.Header()
	b := timeline.NewBuilder(timeline.Boot{ID: h.BootID, Host: h.HostName, Kernel: h.Kernel}, timeline.Options{})
	for e, err := range log.Events() {
		if err != nil {
			tb.Fatal(err)
		}
		b.Add(&e)
	}
	return b.Timeline()
}

// host is a root with settings that have secrets in them, and commands that say some.
func host(t *testing.T) Options {
	t.Helper()
	root := t.TempDir()
	for name, text := range map[string]string{
		"etc/lvm/lvm.conf":            "devices {\n\tfilter = [ \"a|/dev/sd.*|\" ]\n}\n",
		"etc/udev/rules.d/60-x.rules": "ENV{PASSWORD}=\"hunter2\"\nKERNEL==\"dm-*\", NAME==\"vg0-web--a\"\n",
		"proc/cmdline":                "root=/dev/vda1 rd.luks.key=hunter2 quiet\n",
		"etc/dracut.conf":             strings.Repeat("x", maxItem+10),
	} {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return Options{
		Boots: []bootlog.Boot{find(t, logs+"race.jsonl"), find(t, logs+"clean.jsonl")}, MaxLogs: 64 << 20, Root: root, Now: time.Unix(1772435560, 0),
		Items: []Item{{Name: "status.json", Err: errors.New("bootrace is not running")}, {Name: "config.txt", Data: []byte("mode: trace\n")}},
		Run: func(_ context.Context, name string, args ...string) ([]byte, error) {
			switch name {
			case "journalctl":
				return []byte("kvm7 agent: starting web-a, token=hunter2 on /dev/vg0/web-a\nkvm7 agent: Authorization: Bearer hunter2\n"), nil
			case "systemctl":
				return []byte("Environment=KEY=hunter2\nExecStart=/usr/bin/x --password hunter2 --name web-a\nExecStart=/sbin/lvchange -ay vg0/web-a # " + strings.Join(args, " ") + "\n"), nil
			case "lvs":
				return []byte("  web-a vg0 -wi\n"), errors.New("exit status 5")
			}
			return nil, errors.New(name + " is not installed")
		},
	}
}

// unpack returns the files of a report.
func unpack(tb testing.TB, data []byte) map[string]string {
	tb.Helper()
	z, err := zstd.NewReader(bytes.NewReader(data))
	if err != nil {
		tb.Fatal(err)
	}
	defer z.Close()
	files := map[string]string{}
	for archive := tar.NewReader(z); ; {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			tb.Fatal(err)
		}
		text, err := io.ReadAll(archive)
		if err != nil {
			tb.Fatal(err)
		}
		files[h.Name] = string(text)
	}
}

// reread builds the timelines of the boots in a report.
func reread(t *testing.T, data []byte) []*timeline.Timeline {
	t.Helper()
	path := filepath.Join(t.TempDir(), "report")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if !Is(path) {
		t.Fatal("it is not taken for a report")
	}
	var list []*timeline.Timeline
	err := Read(bytes.NewReader(data), func(id string, text io.Reader) error {
		path := filepath.Join(t.TempDir(), "log")
		data, err := io.ReadAll(text)
		if err != nil {
			return err
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			return err
		}
		boot := find(t, path)
		list = append(list, build(t, &boot))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestReport(t *testing.T) {
	o := host(t)
	var b bytes.Buffer
	entries, err := Write(t.Context(), &b, o)
	if err != nil {
		t.Fatal(err)
	}
	files := unpack(t, b.Bytes())
	for name, want := range map[string]string{
		"journal.txt":                       "starting web-a, token=[redacted] on /dev/vg0/web-a",
		"units.txt":                         "--name web-a",
		"files/etc/lvm/lvm.conf":            `filter = [ "a|/dev/sd.*|" ]`,
		"lvm/lvs.txt":                       "[bootrace: lvs: exit status 5]",
		"files/proc/cmdline":                "rd.luks.key=[redacted] quiet",
		"files/etc/dracut.conf":             "[bootrace: cut after 4.0 MiB]",
		"README.txt":                        "bootrace is not running",
		"config.txt":                        "mode: trace",
		"files/etc/udev/rules.d/60-x.rules": "vg0-web--a",
	} {
		if !strings.Contains(files[name], want) {
			t.Errorf("%s has no %q: %.300q", name, want, files[name])
		}
	}
	for name, text := range files {
		if strings.Contains(text, "hunter2") {
			t.Errorf("%s has a secret: %.300q", name, text)
		}
	}
	if !slices.ContainsFunc(entries, func(e Entry) bool {
		return e.Name == "lvm/pvs.txt" && e.Err != nil && e.Err.Error() == "pvs is not installed"
	}) {
		t.Errorf("it does not say what it lacks: %v", entries)
	}
	// The boots are judged as before.
	got := reread(t, b.Bytes())
	if len(got) != len(o.Boots) {
		t.Fatalf("%d boots", len(got))
	}
	for i := range got {
		want := build(t, &o.Boots[i])
		for _, tl := range []*timeline.Timeline{want, got[i]} {
			tl.Host.Name = ""
		}
		if diff := cmp.Diff(jsonOf(t, want), jsonOf(t, got[i])); diff != "" {
			t.Errorf("boot %d (-log +report):\n%s", i, diff)
		}
	}
}

func jsonOf(t *testing.T, v any) string {
	t.Helper()
	text, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// Nothing in an anonymous report has a name of a guest, a host or a volume, nor a uuid
// but those of boots; what it comes to is the same.
func TestAnonymize(t *testing.T) {
	o := host(t)
	o.Anonymize = true
	var b bytes.Buffer
	if _, err := Write(t.Context(), &b, o); err != nil {
		t.Fatal(err)
	}
	files := unpack(t, b.Bytes())
	for name, text := range files {
		for _, secret := range []string{"web-a", "web--a", `web\x2da`, "db-b", "vg0", "kvm7", "6f6b5ec2-2f1f", "hunter2"} {
			if strings.Contains(text, secret) {
				at := strings.Index(text, secret)
				t.Errorf("%s has %q: ...%s...", name, secret, text[max(at-80, 0):min(at+80, len(text))])
			}
		}
	}
	if !strings.Contains(files["README.txt"], "Placeholders stand for") {
		t.Errorf("README.txt: %s", files["README.txt"])
	}
	got := reread(t, b.Bytes())
	for i := range got {
		want := build(t, &o.Boots[i])
		if got[i].Summary.Outcome != want.Summary.Outcome || got[i].Summary.Counts != want.Summary.Counts || len(got[i].Findings) != len(want.Findings) {
			t.Fatalf("boot %d: %+v, want %+v", i, got[i].Summary, want.Summary)
		}
		for j, f := range got[i].Findings {
			if w := want.Findings[j]; f.Kind != w.Kind || f.At != w.At || !slices.Equal(f.Evidence, w.Evidence) {
				t.Errorf("boot %d: %s at %d, want %s at %d", i, f.Kind, f.At, w.Kind, w.At)
			}
		}
	}
	// One name has one placeholder, everywhere.
	f := got[0].Findings[0]
	if !strings.HasPrefix(f.Guest, "guest") || !strings.HasPrefix(f.Disk, "/dev/vg1/") || !strings.Contains(files["journal.txt"], f.Disk) || !strings.Contains(files["journal.txt"], "starting "+f.Guest) {
		t.Errorf("guest %s, disk %s, journal %q", f.Guest, f.Disk, files["journal.txt"])
	}
}

func TestReplace(t *testing.T) {
	n := newNames(true)
	n.host("kvm7.example.org")
	n.volume("vg0", "web-a")
	n.volume("vg0", "tank_tmeta")
	n.add("guest", "web")
	n.add("guest", "qemu")
	n.add("guest", "100")
	for in, want := range map[string]string{
		"/dev/vg0/web-a":                          "/dev/vg1/lv1",
		"vg0-web--a":                              "vg1-lv1",
		`dev-vg0-web\x2da.device`:                 "dev-vg1-lv1.device",
		"vg0-tank_tmeta":                          "vg1-lv2_tmeta",
		"web and website, web.xml":                "guest1 and website, guest1.xml",
		"kvm7 kvm7.example.org kvm77":             "host2 host1 kvm77",
		"qemu-system-x86_64 -m 100":               "qemu-system-x86_64 -m 100",
		"id 6f6b5ec2-2f1f-4ba5-9a0c-0b6c0d5f3a01": "id 00000000-0000-4000-8000-000000000001",
		"LVM-" + strings.Repeat("a", 32) + strings.Repeat("b", 32): "LVM-00000000000000000000000000000001" + "00000000000000000000000000000002",
		"aaaaaa-aaaa-aaaa-aaaa-aaaa-aaaa-aaaaaa":                   "000000-0000-0000-0000-0000-0000-000001",
	} {
		if got := n.replace(in); got != want {
			t.Errorf("%s becomes %s, want %s", in, got, want)
		}
	}
	if !strings.Contains(n.told(), "replaced: 100, qemu\n") {
		t.Errorf("what is left is not told: %s", n.told())
	}
}

// The logs have a bound, and what does not fit is said.
func TestMaxLogs(t *testing.T) {
	o := host(t)
	o.MaxLogs = 100
	var b bytes.Buffer
	entries, err := Write(t.Context(), &b, o)
	if err != nil {
		t.Fatal(err)
	}
	if e := entries[0]; e.Err == nil || !strings.Contains(e.Err.Error(), "larger than 100 B: --max-size") {
		t.Errorf("%+v", e)
	}
	if err := Read(&b, func(string, io.Reader) error { return errors.New("a log") }); !errors.Is(err, ErrNone) {
		t.Error(err)
	}
}

// archive makes one by hand.
func archive(tb testing.TB, headers ...tar.Header) []byte {
	tb.Helper()
	var b bytes.Buffer
	z, err := zstd.NewWriter(&b)
	if err != nil {
		tb.Fatal(err)
	}
	w := tar.NewWriter(z)
	for _, h := range headers {
		if h.Typeflag == 0 || h.Typeflag == tar.TypeReg {
			h.Size = 4
		}
		if err := w.WriteHeader(&h); err != nil {
			tb.Fatal(err)
		}
		if h.Size > 0 {
			if _, err := w.Write([]byte("text")); err != nil {
				tb.Fatal(err)
			}
		}
	}
	if err := errors.Join(w.Close(), z.Close()); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

const someID = "0d2b306f-ab2c-4bb8-904f-64eca438565f"

// Of what an archive calls its files nothing is believed.
func TestHostileArchive(t *testing.T) {
	data := archive(t,
		tar.Header{Name: "../../etc/passwd"}, tar.Header{Name: "logs/../../x.jsonl"}, tar.Header{Name: "/logs/" + someID + ".jsonl"},
		tar.Header{Name: "logs/" + someID + ".jsonl/x"},
		tar.Header{Name: "logs/" + someID + ".jsonl", Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"},
		tar.Header{Name: "logs/" + someID + ".jsonl"}, tar.Header{Name: "logs/" + someID + ".jsonl"})
	var seen []string
	if err := Read(bytes.NewReader(data), func(id string, _ io.Reader) error {
		seen = append(seen, id)
		return nil
	}); err != nil || !slices.Equal(seen, []string{someID}) {
		t.Errorf("%v, %v", seen, err)
	}
	many := make([]tar.Header, maxEntries+1)
	for i := range many {
		many[i].Name = "x"
	}
	if err := Read(bytes.NewReader(archive(t, many...)), nil); err == nil || !strings.Contains(err.Error(), "more than 4096 files") {
		t.Error(err)
	}
}

func FuzzRead(f *testing.F) {
	f.Add(archive(f, tar.Header{Name: "logs/" + someID + ".jsonl"}))
	f.Add(archive(f))
	f.Add([]byte("\x28\xb5\x2f\xfd"))
	f.Fuzz(func(t *testing.T, data []byte) {
		logs := 0
		err := Read(bytes.NewReader(data), func(id string, text io.Reader) error {
			logs++
			if !bootID.MatchString(id) {
				t.Errorf("id %q", id)
			}
			_, err := io.Copy(io.Discard, io.LimitReader(text, 1<<20))
			return err
		})
		if err == nil && logs == 0 {
			t.Error("no log, and no error")
		}
	})
}
