package guest

import (
	"encoding/json"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"
	"golang.org/x/sys/unix"
)

// TestBounds feeds the largest lists that the kernel lets through: 128 KiB an
// argument, a few MiB in all.
func TestBounds(t *testing.T) {
	const allowed = 5 * time.Second // of a processor; the longest of these takes about 1 s
	repeat := func(n int, args ...string) []string {
		out := []string{"qemu-system-x86_64"}
		for range n {
			out = append(out, args...)
		}
		return out
	}
	bombs := map[string][]string{
		"many drives":       repeat(50_000, "-drive", "file=/dev/vg/lv,if=virtio"),
		"many unknown":      repeat(100_000, "-x"),
		"many positional":   repeat(100_000, "a"),
		"json nesting":      repeat(16, "-blockdev", strings.Repeat(`{"file":`, 16_000)),
		"json arrays":       repeat(16, "-blockdev", `{"x":`+strings.Repeat(`[`, 120_000)),
		"json in json":      repeat(16, "-hda", strings.Repeat(`json:{"password":"`, 6_000)),
		"dots":              repeat(16, "-drive", strings.Repeat("a.", 60_000)+"=x"),
		"json dots":         repeat(16, "-hda", `json:{"`+strings.Repeat("a.", 60_000)+`b":"x"}`),
		"json dots often":   repeat(16, "-hda", "json:{"+strings.Repeat(`"file.a.b.c":{"x.y":"z"},`, 4_000)+`"a":"b"}`),
		"keys":              repeat(16, "-drive", keys(15_000)),
		"commas":            repeat(16, "-drive", "file="+strings.Repeat(",,", 60_000)),
		"quotes":            repeat(16, "-blockdev", `{"password":"`+strings.Repeat(`\"`, 60_000)+`"}`),
		"urls":              repeat(16, "-drive", "x="+strings.Repeat("a://b@", 20_000)),
		"slashes":           repeat(16, "-pidfile", strings.Repeat("/a", 60_000)),
		"shared nodes":      sharedNodes(200),
		"long chain":        chain(5_000),
		"drives in a ring":  ring(2_000),
		"a drive on itself": repeat(1, "-drive", "if=none,id=a,file=/x,backing=a,data-file=a,file.backing=a"),
		"same ids":          repeat(50_000, "-drive", "id=x,file=/a", "-device", "virtio-blk,drive=x"),
	}
	for name, args := range bombs {
		t.Run(name, func(t *testing.T) {
			var g Guest
			if took := processorTime(t, func() { g = Parse(args) }); took > allowed {
				t.Errorf("Parse took %v of a processor, and %v are allowed", took, allowed)
			}
			if n := len(g.NotUnderstood); n > maxProblems+1 {
				t.Errorf("%d problems listed", n)
			}
			if took := processorTime(t, func() { RedactCommand(append([]string{"agent"}, args[1:]...)) }); took > allowed {
				t.Errorf("RedactCommand took %v of a processor, and %v are allowed", took, allowed)
			}
		})
	}
}

// processorTime runs f in a thread of its own and returns how long it kept a processor
// busy: not the time on the clock, in which others may have had all processors.
func processorTime(t *testing.T, f func()) time.Duration {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	used := func() time.Duration {
		var u unix.Rusage
		if err := unix.Getrusage(unix.RUSAGE_THREAD, &u); err != nil {
			t.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	before := used()
	f()
	return used() - before
}

func keys(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "k%d=v,", i)
	}
	return b.String()
}

// sharedNodes would unfold to 2^n images.
func sharedNodes(n int) []string {
	args := []string{"qemu-system-x86_64", "-blockdev", "file,node-name=n0,filename=/x"}
	for i := range n {
		args = append(args, "-blockdev", fmt.Sprintf(`{"driver":"quorum","node-name":"n%d","children":["n%d","n%d"]}`, i+1, i, i))
	}
	return args
}

func chain(n int) []string {
	args := []string{"qemu-system-x86_64"}
	for i := range n {
		args = append(args, "-blockdev", fmt.Sprintf(`{"driver":"qcow2","node-name":"n%d","backing":"n%d","file":{"driver":"file","filename":"/dev/vg/%d"}}`, i, i+1, i))
	}
	return args
}

// ring is drives of which each has the next as its backing file twice over, and
// the last has the first.
func ring(n int) []string {
	args := []string{"qemu-system-x86_64"}
	for i := range n {
		args = append(args, "-drive", fmt.Sprintf("if=none,id=d%d,file=/dev/vg/%d,backing=d%d,data-file=d%d", i, i, (i+1)%n, (i+1)%n))
	}
	return args
}

func TestReadConfigBounds(t *testing.T) {
	config := "[drive]\n" + strings.Repeat("file = \"/dev/vg/lv\"\n", 100_000)
	parser := Parser{ReadFile: func(string) ([]byte, error) { return []byte(config), nil }}
	args := []string{"qemu-system-x86_64"}
	for range maxConfigs + 1 {
		args = append(args, "-readconfig", "x")
	}
	g := parser.Parse(args)
	if len(g.Disks) != maxConfigs || g.Disks[0].Path != "/dev/vg/lv" {
		t.Errorf("%d disks", len(g.Disks))
	}
	if len(g.NotUnderstood) == 0 {
		t.Error("the bounds were not reported")
	}
}

// TestSecretsInConfig: what -readconfig reads is redacted, too.
func TestSecretsInConfig(t *testing.T) {
	parser := Parser{ReadFile: func(string) ([]byte, error) {
		return []byte("[drive]\nfile = \"http://u:hunter2@h/x\"\n[drive]\nfile = \"json:{hunter2 key\"\n"), nil
	}}
	out, err := json.Marshal(parser.Parse([]string{"kvm", "-readconfig", "x"}))
	if err != nil || strings.Contains(string(out), "hunter2") {
		t.Errorf("%s, %v", out, err)
	}
}

func TestBytesAreKept(t *testing.T) {
	path := "/dev/vg/\x1b[31m\xff\xfe"
	g := Parse([]string{"kvm", "-drive", "file=" + path + ",if=virtio"})
	if len(g.Disks) != 1 || g.Disks[0].Path != path {
		t.Errorf("%d disks, or another path", len(g.Disks))
	}
}

func TestEmpty(t *testing.T) {
	for _, args := range [][]string{nil, {}} {
		if g := Parse(args); g.IsGuest || g.NotGuest == "" || g.Disks == nil {
			t.Errorf("%+v", g)
		}
	}
}

// FuzzParse feeds command lines, an argument a line, and checks what must hold
// of any: no panic, and the property of Redact.
func FuzzParse(f *testing.F) {
	for _, seed := range seeds(f) {
		f.Add(strings.Join(seed, "\n"))
	}
	f.Fuzz(func(t *testing.T, text string) {
		args := strings.Split(text, "\n")
		parser := Parser{Watched: true, ReadFile: func(string) ([]byte, error) { return []byte(text), nil }}
		g := parser.Parse(args)
		if g.IsGuest == (g.NotGuest != "") {
			t.Errorf("IsGuest %v, NotGuest %q", g.IsGuest, g.NotGuest)
		}
		checkRedaction(t, parser, args)
	})
}

// FuzzRedact hides a secret in every place that has one, among foreign text,
// and looks for it in the result.
func FuzzRedact(f *testing.F) {
	f.Add("a", ",b=c")
	f.Add(`{"x":"`, `"}`)
	f.Add("json:{'", "://@?")
	f.Fuzz(func(t *testing.T, before, after string) {
		const secret = "hunter2hunter2"
		if strings.ContainsAny(before+after, "=,") {
			t.Skip("the text would end the value: qemu refuses such a list")
		}
		for _, form := range [][]string{
			{"-object", "secret,id=%sx,data=" + secret},
			{"-object", `secret,data=` + secret + `%s`},
			{"-append", "%s" + secret},
			{"-fw_cfg", "name=%s,string=" + secret},
			{"-spice", "addr=%s,password=" + secret},
			{"-drive", "id=%s,file.password=" + secret},
			{"-smbios", "type=11%s,value=" + secret},
			{"-incoming", "exec:%s" + secret},
		} {
			value := strings.ReplaceAll(form[1], "%s", before) + after
			out := Redact([]string{"kvm", form[0], value})
			if strings.Contains(out[2], secret) {
				t.Errorf("%s %q gives %q", form[0], value, out[2])
			}
		}
	})
}

func FuzzRedactCommand(f *testing.F) {
	f.Add("dmsetup\ncreate\nx\n--table\n0 8 crypt aes key 0 /dev/sda 0")
	f.Add("sh\n-c\necho x")
	f.Add("mount\n--options=user=u%p,pass=w\n-o\na=b c")
	f.Add("--=,") // as the value of -o
	f.Fuzz(func(t *testing.T, text string) {
		args := strings.Split(text, "\n")
		whole := known(args[0]) != nil || StorageTool(args[0])
		if out := RedactCommand(args); len(out) != 1 && (!whole || len(out) != len(args)) {
			t.Errorf("%d arguments of %d", len(out), len(args))
		}
		const secret = "hunter2hunter2"
		out := RedactCommand([]string{"mount", "-o", strings.ReplaceAll(text, secret, "") + ",password=" + secret, "/mnt"})
		if strings.Contains(out[2], secret) {
			t.Errorf("%q gives %q", text, out[2])
		}
	})
}

// seeds returns all command lines in testdata.
func seeds(t testing.TB) [][]string {
	t.Helper()
	var all [][]string
	for _, name := range []string{"cloudpods", "libvirt", "proxmox", "others", "plain", "references", "hypervisors"} {
		archive, err := txtar.ParseFile("testdata/" + name + ".txtar")
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range archive.Files {
			if !strings.HasSuffix(f.Name, ".want") && !strings.HasSuffix(f.Name, ".conf") {
				all = append(all, commandLine(string(f.Data)))
			}
		}
	}
	return all
}

// BenchmarkParse reads a libvirt command line of 10 KB with a dozen disks.
func BenchmarkParse(b *testing.B) {
	args := []string{"/usr/bin/qemu-system-x86_64", "-name", "guest=vm1,debug-threads=on", "-S",
		"-uuid", "7b6ac1d4-6f7b-4d61-8c0a-29f3a1f7c001"}
	size := 0
	for i := 0; size < 10_000; i++ {
		args = append(args,
			"-blockdev", fmt.Sprintf(`{"driver":"host_device","filename":"/dev/vg/lv%d","node-name":"libvirt-%d-storage","cache":{"direct":true,"no-flush":false},"auto-read-only":true,"discard":"unmap"}`, i, i),
			"-blockdev", fmt.Sprintf(`{"node-name":"libvirt-%d-format","read-only":false,"cache":{"direct":true,"no-flush":false},"driver":"raw","file":"libvirt-%d-storage"}`, i, i),
			"-device", fmt.Sprintf(`{"driver":"virtio-blk-pci","bus":"pci.4","addr":"0x0","drive":"libvirt-%d-format","id":"virtio-disk%d","bootindex":1,"write-cache":"on"}`, i, i),
			"-netdev", fmt.Sprintf("tap,fd=%d,id=hostnet%d,vhost=on,vhostfd=%d", i, i, i),
			"-device", fmt.Sprintf(`{"driver":"virtio-net-pci","netdev":"hostnet%d","id":"net%d","mac":"52:54:00:11:22:33","bus":"pci.1","addr":"0x0"}`, i, i))
		size = 0
		for _, a := range args {
			size += len(a) + 1
		}
	}
	b.SetBytes(int64(size))
	b.ReportAllocs()
	for b.Loop() {
		Parse(args)
	}
}
