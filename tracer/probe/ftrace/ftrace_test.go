package ftrace

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const execFormat = `name: sched_process_exec
ID: 308
format:
	field:unsigned short common_type;	offset:0;	size:2;	signed:0;
	field:unsigned char common_flags;	offset:2;	size:1;	signed:0;
	field:unsigned char common_preempt_count;	offset:3;	size:1;	signed:0;
	field:int common_pid;	offset:4;	size:4;	signed:1;

	field:__data_loc char[] filename;	offset:8;	size:4;	signed:1;
	field:pid_t pid;	offset:12;	size:4;	signed:1;
	field:pid_t old_pid;	offset:16;	size:4;	signed:1;

print fmt: "filename=%s pid=%d old_pid=%d", __get_str(filename), REC->pid, REC->old_pid
`

func mustFormat(t testing.TB, text string) *Format {
	t.Helper()
	f, err := parseFormat(text)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// execRecord is a record of that event.
func execRecord(pid int, filename string) []byte {
	b := make([]byte, 20)
	binary.NativeEndian.PutUint16(b, 308)
	binary.NativeEndian.PutUint32(b[4:], uint32(pid))
	binary.NativeEndian.PutUint32(b[8:], uint32(20|(len(filename)+1)<<16))
	binary.NativeEndian.PutUint32(b[12:], uint32(pid))
	b = append(b, filename+"\x00"...)
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}

func TestRecord(t *testing.T) {
	r := Record{Format: mustFormat(t, execFormat), data: execRecord(77, "/usr/bin/kvm")}
	if s, ok := r.String("filename"); s != "/usr/bin/kvm" || !ok {
		t.Errorf("filename %q, %v", s, ok)
	}
	if n := r.Int("pid"); n != 77 {
		t.Errorf("pid %d", n)
	}
	if s, ok := r.String("nothing"); ok || s != "" || r.Uint("nothing") != 0 {
		t.Error("a field that is not there has a value")
	}
	for _, bad := range []string{"", "(fault)"} {
		r.data = execRecord(1, bad)
		if bad == "" {
			binary.NativeEndian.PutUint32(r.data[8:], 0)
		}
		if s, ok := r.String("filename"); ok {
			t.Errorf("unreadable string is %q", s)
		}
	}
}

func TestSignedNumbers(t *testing.T) {
	f := mustFormat(t, "name: x\nID: 1\n\tfield:s32 ret;\toffset:0;\tsize:4;\tsigned:1;\n\tfield:u8 low;\toffset:4;\tsize:1;\tsigned:0;\n")
	r := Record{Format: f, data: []byte{0xfe, 0xff, 0xff, 0xff, 0xff}}
	if r.Int("ret") != -2 || r.Int("low") != 255 {
		t.Errorf("got %d and %d", r.Int("ret"), r.Int("low"))
	}
}

func TestParseFormatErrors(t *testing.T) {
	for _, text := range []string{"", "name: x\nID: 1\n", "name: x\nID: many\n", "name: x\nID: 1\n\tfield:;\toffset:0;\tsize:4;\tsigned:0;\n",
		"name: x\nID: 1\n\tfield:int a;\toffset:x;\tsize:4;\tsigned:0;\n", "name: x\nID: 1\n\tfield:int a;\toffset:-4;\tsize:4;\tsigned:0;\n"} {
		if _, err := parseFormat(text); err == nil {
			t.Errorf("no error for %q", text)
		}
	}
}

// page builds a page of a ring buffer.
func page(time, commit uint64, records ...[]byte) []byte {
	p := binary.NativeEndian.AppendUint64(nil, time)
	body := slices.Concat(records...)
	p = binary.NativeEndian.AppendUint64(p, uint64(len(body))|commit)
	p = append(p, body...)
	return append(p, make([]byte, 64)...)
}

func word(kind, delta uint32, data ...byte) []byte {
	return append(binary.NativeEndian.AppendUint32(nil, kind|delta<<typeBits), data...)
}

func word32(n uint32) []byte { return binary.NativeEndian.AppendUint32(nil, n) }

func TestParsePage(t *testing.T) {
	p := page(1000, 0,
		word(1, 5, 1, 2, 3, 4),
		word(typePadding, 7, append(word32(8), 9, 9, 9, 9)...), // refused by a filter
		word(typeExtend, 3, word32(2)...),
		word(0, 1, append(word32(12), 5, 6, 7, 8, 9, 10, 11, 12)...),
		word(typeStamp, 4, word32(1)...),
		word(2, 0, 1, 1, 1, 1, 2, 2, 2, 2),
		word(typePadding, 0),
	)
	type record struct {
		time uint64
		data string
	}
	var got []record
	missed, err := parsePage(p, func(time uint64, data []byte) { got = append(got, record{time, string(data)}) })
	if err != nil || missed != 0 {
		t.Fatal(missed, err)
	}
	extended := uint64(1000 + 5 + 7 + 3 + 2<<deltaBits + 1)
	want := []record{
		{1005, "\x01\x02\x03\x04"},
		{extended, "\x05\x06\x07\x08\x09\x0a\x0b\x0c"},
		{4 + 1<<deltaBits, "\x01\x01\x01\x01\x02\x02\x02\x02"},
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestPagesTellWhatIsMissing(t *testing.T) {
	p := page(0, commitMissed, word(1, 0, 0, 0, 0, 0))
	if n, err := parsePage(p, func(uint64, []byte) {}); n != 1 || err != nil {
		t.Errorf("%d missing, %v", n, err)
	}
	p = page(0, commitMissed|commitStored, word(1, 0, 0, 0, 0, 0))
	binary.NativeEndian.PutUint64(p[pageData+8:], 42)
	if n, err := parsePage(p, func(uint64, []byte) {}); n != 42 || err != nil {
		t.Errorf("%d missing, %v", n, err)
	}
}

// A processor that is possible and not started has no buffer until it is.
func TestProcessorStartsLater(t *testing.T) {
	format := mustFormat(t, execFormat)
	i := &Instance{formats: map[uint16]*Format{format.ID: format}}
	var told []string
	look := func(answers ...any) error {
		_, err := i.readPages(func(to []byte) (int, error) {
			answer := answers[0]
			answers = answers[1:]
			if err, ok := answer.(error); ok {
				return -1, err
			}
			return copy(to, answer.([]byte)), nil
		}, make([]byte, 4096), func(r *Record) {
			name, _ := r.String("filename")
			told = append(told, name)
		})
		return err
	}
	record := execRecord(7, "/usr/bin/kvm")
	whole := page(1000, 0, word(uint32(len(record)/wordSize), 0, record...))
	for _, err := range []error{look(unix.ENODEV), look(unix.EINTR, whole, unix.EAGAIN)} {
		if err != nil {
			t.Error(err)
		}
	}
	if !slices.Equal(told, []string{"/usr/bin/kvm"}) {
		t.Errorf("told %q", told)
	}
	if err := look(unix.EIO); !errors.Is(err, unix.EIO) {
		t.Errorf("a buffer that cannot be read: %v", err)
	}
}

func TestDamagedPages(t *testing.T) {
	for name, p := range map[string][]byte{
		"short": make([]byte, 8), "long": page(0, 1<<19), "record beyond the page": page(0, 0, word(20, 0)), "no length": page(0, 0, word(0, 0, 0, 0, 0, 0)),
	} {
		if _, err := parsePage(p, func(uint64, []byte) {}); !errors.Is(err, errPage) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The kernel's pages are foreign bytes, too: no page may take more than its own
// length to read, or be read beyond it.
func FuzzPage(f *testing.F) {
	f.Add(page(1000, 0, word(1, 5, 1, 2, 3, 4), word(0, 1, append(word32(8), 5, 6, 7, 8)...)))
	f.Add(page(1, commitMissed|commitStored, word(typePadding, 7, word32(0)...), word(typeStamp, 1, word32(9)...)))
	f.Add(page(1, 0, word(7, 1, execRecord(1, "/bin/true")...)))
	format := mustFormat(f, execFormat)
	f.Fuzz(func(t *testing.T, p []byte) {
		n := 0
		_, err := parsePage(p, func(time uint64, data []byte) {
			n += len(data) + wordSize
			r := Record{Format: format, Time: time, data: data}
			if s, _ := r.String("filename"); len(s) > len(data) {
				t.Errorf("a string of %d bytes in %d", len(s), len(data))
			}
			_ = r.Uint("pid") + r.Uint("common_type")
		})
		if n > len(p) {
			t.Errorf("%d bytes of records in a page of %d, %v", n, len(p), err)
		}
	})
}

func FuzzFormat(f *testing.F) {
	f.Add(execFormat)
	f.Fuzz(func(t *testing.T, text string) {
		format, err := parseFormat(text)
		if err != nil {
			return
		}
		r := Record{Format: format, data: make([]byte, 40)}
		for name := range format.fields {
			_, _ = r.String(name)
			_ = r.Uint(name)
		}
	})
}

func TestDefinition(t *testing.T) {
	p := Probe{Name: "open", Symbol: "do_filp_open", Fields: []Field{{"path", "+0(+0(%si))", "string"}, {"flags", "+0(%dx)", "u32"}}}
	if got, want := p.definition("g", 0), "p:g/open do_filp_open path=+0(+0(%si)):string flags=+0(%dx):u32"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	p = Probe{Name: "done", Symbol: "dm_mod:dev_create", Return: true}
	for active, want := range map[int]string{0: "r:g/done dm_mod:dev_create", 64: "r64:g/done dm_mod:dev_create"} {
		if got := p.definition("g", active); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	p.Many = true // of users' threads: as many as the kernel takes, where it takes a number
	for active, want := range map[int]string{0: "r:g/done dm_mod:dev_create", 64: "r4096:g/done dm_mod:dev_create"} {
		if got := p.definition("g", active); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

// What a kernel can is in its README, where it has one.
func TestFeatures(t *testing.T) {
	for text, want := range map[string]features{
		"tracing mini-HOWTO:\n\n# echo 0 > tracing_on : quick way to disable tracing\n":             {},
		"\t           r[maxactive][:[<group>/]<event>] <place> [<args>]\n":                          {active: MaxActive},
		"r[maxactive][:[<group>/]<event>]\n b<bit-width>@<bit-offset>/<container-size>, ustring,\n": {active: MaxActive, user: true},
	} {
		d := Dir(t.TempDir())
		write2(t, d.path("README"), text)
		if got := d.features(); got != want {
			t.Errorf("%q: got %+v", text, got)
		}
	}
	if got := Dir(t.TempDir()).features(); got != (features{}) {
		t.Errorf("without one: got %+v", got)
	}
}

func TestFetches(t *testing.T) {
	a, err := ABIOf("amd64")
	if err != nil {
		t.Fatal(err)
	}
	old, _ := a.SystemCall("execve", false)
	symbol, args := a.SystemCall("execve", true)
	if old != "sys_execve" || symbol != "__x64_sys_execve" || args[1] != "+104(%di)" {
		t.Errorf("%s, %s with %v", old, symbol, args)
	}
	if got := (UserMemory{}).At(8, args[1]); got != "+8(+104(%di))" {
		t.Errorf("got %s", got)
	}
	if got := (UserMemory{Own: true}).At(-8, args[1]); got != "-u8(+104(%di))" {
		t.Errorf("got %s", got)
	}
	if _, err := ABIOf("s390x"); !errors.Is(err, ErrNoABI) {
		t.Errorf("got %v", err)
	}
}

// Which form system calls have is asked for, not tried.
func TestWrappings(t *testing.T) {
	a, err := ABIOf("amd64")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "kallsyms")
	for text, want := range map[string][]bool{
		"0000000000000000 t do_sys_openat2\n0000000000000000 T __ia32_sys_openat\n0000000000000000 T __x64_sys_openat\n": {true},
		"ffffffff811f0a40 T sys_openat\nffffffff811f0a40 T SyS_openat\n":                                                 {false},
		"ffffffffc0a00000 t x64_sys_openat\t[other]\n":                                                                   {true, false},
		"": {true, false},
	} {
		write2(t, file, text)
		if got := a.wrappings(file); !slices.Equal(got, want) {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
	if got := a.wrappings(file + "-none"); !slices.Equal(got, []bool{true, false}) {
		t.Errorf("without symbols: %v", got)
	}
}

func TestParseDefined(t *testing.T) {
	text := "p:bootrace_1_2/open do_filp_open path=+0(%si):string\nr:kprobes/mine do_exit\nr12:bootrace_1_2/opened do_filp_open\nnonsense\n"
	want := []definedEvent{{"bootrace_1_2", "open"}, {"kprobes", "mine"}, {"bootrace_1_2", "opened"}}
	if got := parseDefined(text); !slices.Equal(got, want) {
		t.Errorf("got %v", got)
	}
}

func TestParseProfileAndStats(t *testing.T) {
	missed := parseProfile("  open    120   3\n  theirs  1  9\n  opened  7  0\n  open   1  1\nnonsense\n", []string{"open", "opened"})
	if missed["open"] != 4 || missed["opened"] != 0 || missed["theirs"] != 0 {
		t.Errorf("got %v", missed)
	}
	const stats = "entries: 0\noverrun: 12\ncommit overrun: 3\nbytes: 4\noldest event ts: 1.2\nnow ts: 3.4\ndropped events: 5\nread events: 6\n"
	if n := parseStats(stats); n != 20 {
		t.Errorf("%d lost, want 20", n)
	}
}

func TestOwners(t *testing.T) {
	me, err := self()
	if err != nil {
		t.Fatal(err)
	}
	if got, ok := parseOwner(me.String()); !ok || got != me {
		t.Errorf("got %v, %v", got, ok)
	}
	other := owner{me.pid, me.start + 1} // the pid came again
	for name, want := range map[string]bool{
		me.String(): false, other.String(): true, me.String() + "_2": false, other.String() + "_2": true,
		"bootrace_x_1": false, "bootrace_": false, "kprobes": false, "bootrace_4194305_1": true, // above the highest pid
	} {
		if got := stale(ownerPart(name)); got != want {
			t.Errorf("%s: stale %v, want %v", name, got, want)
		}
	}
}

func TestClocks(t *testing.T) {
	for text, want := range map[string]Clock{
		"[local] global counter uptime perf mono mono_raw boot x86-tsc\n": BootClock,
		"local [global] counter uptime perf x86-tsc\n":                    GlobalClock,
	} {
		if got := chooseClock(clocks(text)); got != want {
			t.Errorf("%s: got %s", text, got)
		}
	}
	for text, want := range map[string]string{"[local] global": "local", "local [global]\n": "global", "7 (expanded: 1408)\n": "7", "1\n": "1"} {
		if got := present(text); got != want {
			t.Errorf("%q: got %q", text, got)
		}
	}
}

func TestFind(t *testing.T) {
	dir := func(files ...string) string {
		d := t.TempDir()
		for _, f := range files {
			write2(t, filepath.Join(d, f), "1\n")
		}
		return d
	}
	fail := func(err error) func(string, string) error { return func(string, string) error { return err } }
	both := dir("tracing_on")
	if got, err := find(both, t.TempDir(), fail(nil)); err != nil || got != Dir(both) {
		t.Errorf("got %s, %v", got, err)
	}
	debug := dir("tracing/tracing_on")
	if got, err := find(t.TempDir(), debug, fail(nil)); err != nil || got != Dir(filepath.Join(debug, "tracing")) {
		t.Errorf("below debugfs: got %s, %v", got, err)
	}
	// Where nothing is mounted yet it is.
	later := t.TempDir()
	got, err := find(later, t.TempDir(), func(_, at string) error {
		return os.WriteFile(filepath.Join(at, "tracing_on"), nil, 0o600)
	})
	if err != nil || got != Dir(later) {
		t.Errorf("mounted: got %s, %v", got, err)
	}
	if _, err := find(t.TempDir(), t.TempDir(), fail(unix.EPERM)); !errors.Is(err, ErrNotPermitted) {
		t.Errorf("got %v", err)
	}
	if _, err := find(t.TempDir(), t.TempDir(), fail(unix.ENODEV)); !errors.Is(err, ErrNoTracing) {
		t.Errorf("got %v", err)
	}
}

func write2(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// checkIntact has somebody else turn off what the instance needs, one by one.
func checkIntact(t *testing.T, i *Instance, root, group string) {
	t.Helper()
	needed := []string{"tracing_on", "events/" + group + "/enable", "events/sched/sched_process_exec/enable"}
	for _, file := range needed {
		write2(t, filepath.Join(root, file), "1\n")
	}
	if err := i.Intact(); err != nil {
		t.Errorf("all is on: %v", err)
	}
	for _, file := range needed {
		path := filepath.Join(root, file)
		for _, off := range []string{"0\n", "X\n", "0*\n"} {
			write2(t, path, off)
			if i.Intact() == nil {
				t.Errorf("%s is %q, and that is not seen", file, off)
			}
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if i.Intact() == nil {
			t.Errorf("%s is gone, and that is not seen", file)
		}
		write2(t, path, "1*\n")
	}
}

// TestNeedsOnlyWhatEl7Has works on a folder that has the files of el7 and no
// others, and gives back a trace that is not its own.
func TestNeedsOnlyWhatEl7Has(t *testing.T) {
	offers, err := os.ReadFile("testdata/el7/offers.txt")
	if err != nil {
		t.Fatal(err)
	}
	me, err := self()
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	content := map[string]string{
		"trace_clock": "[local] global counter uptime perf x86-tsc\n", "buffer_size_kb": "7 (expanded: 1408)\n",
		"current_tracer": "nop\n", "tracing_on": "1\n",
	}
	events := []string{me.String() + "/open", "sched/sched_process_exec"}
	for line := range strings.Lines(string(offers)) {
		f := strings.Fields(line)
		if len(f) != 3 || f[0] != "file" || f[1] == "instances" { // as a kernel without them
			continue
		}
		names := []string{f[1]}
		switch {
		case strings.Contains(f[1], "GROUP"):
			names = []string{strings.Replace(f[1], "GROUP", me.String(), 1)}
		case strings.Contains(f[1], "NAME"):
			names = []string{strings.Replace(f[1], "NAME", events[0], 1), strings.Replace(f[1], "NAME", events[1], 1)}
		}
		for _, name := range names {
			text := content[name]
			if strings.HasSuffix(name, "format") {
				text = execFormat
			}
			write2(t, filepath.Join(root, name), text)
		}
	}
	i, err := Dir(root).Open(Options{BufferKB: 512})
	if err != nil {
		t.Fatal(err)
	}
	if i.Clock() != GlobalClock {
		t.Errorf("clock %s", i.Clock())
	}
	for _, err := range []error{
		i.Define(Probe{Name: "open", Symbol: "do_filp_open", Filter: "first != 47"}), i.Enable("open"),
		i.EnableEvent("sched", "sched_process_exec", ""), i.EnableAll(),
	} {
		if err != nil {
			t.Error(err)
		}
	}
	if _, err := i.Read(func(*Record) {}); err != nil {
		t.Error(err)
	}
	if _, _, err := i.Losses(); err != nil {
		t.Error(err)
	}
	checkIntact(t, i, root, me.String())
	if err := i.Close(); err != nil {
		t.Error(err)
	}
	// Appended: a fake file keeps what was written to it.
	for file, want := range map[string]string{"trace_clock": "globallocal", "kprobe_events": "-:" + me.String() + "/open\n"} {
		if text, _ := os.ReadFile(filepath.Join(root, file)); !strings.HasSuffix(string(text), want) {
			t.Errorf("%s ends with %q", file, text)
		}
	}
	write2(t, filepath.Join(root, "current_tracer"), "function\n")
	if _, err := Dir(root).Open(Options{BufferKB: 512}); !errors.Is(err, ErrBusy) {
		t.Errorf("somebody traces: %v", err)
	}
}

// What a killed process has left, and nobody can remove, keeps nobody from tracing.
func TestLeftoverStays(t *testing.T) {
	root := t.TempDir()
	for file, text := range map[string]string{
		"kprobe_events": "p:bootrace_4194305_1/open do_filp_open\n", // its own files are gone
		"trace_clock":   "[boot]\n", "buffer_size_kb": "7\n", "current_tracer": "nop\n", "set_event": "", "tracing_on": "1\n",
		"per_cpu/cpu0/trace_pipe_raw": "",
	} {
		write2(t, filepath.Join(root, file), text)
	}
	if err := Dir(root).RemoveStale(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("nobody is told that it stays: %v", err)
	}
	i, err := Dir(root).Open(Options{BufferKB: 512})
	if err != nil {
		t.Fatal(err)
	}
	if err := i.Close(); err != nil {
		t.Error(err)
	}
}

// An instance that is busy for a moment, since somebody resets all, is removed.
func TestBusyLeftover(t *testing.T) {
	root := t.TempDir()
	write2(t, filepath.Join(root, "kprobe_events"), "")
	dir := filepath.Join(root, instancesDir, "bootrace_4194305_1")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
		t.Skip("NOT TESTED: needs root to mount:", err)
	}
	release := func() { _ = unix.Unmount(dir, unix.MNT_DETACH) }
	time.AfterFunc(20*time.Millisecond, release)
	t.Cleanup(release)
	if err := Dir(root).RemoveStale(); err != nil {
		t.Error(err)
	}
}

// What is left goes in an order that old kernels bear: all is turned off, then each event
// is removed by a write of its own. What belongs to an instance that is still used stays.
func TestStaleGoesOneByOne(t *testing.T) {
	root := t.TempDir()
	const gone, used, alive = "bootrace_4194305_1", "bootrace_4194306_1", "somebody"
	write2(t, filepath.Join(root, "kprobe_events"), "p:"+gone+"/open do_filp_open\nr4096:"+gone+"/opened do_filp_open\np:"+used+"/open do_filp_open\np:"+alive+"/x do_exit\n")
	for _, file := range []string{gone + "/open", gone + "/opened", used + "/open", alive + "/x"} {
		write2(t, filepath.Join(root, "events", file, "enable"), "")
	}
	write2(t, filepath.Join(root, instancesDir, used, "events", "enable"), "1\n") // a folder that is not empty is not removed
	if err := os.MkdirAll(filepath.Join(root, instancesDir, gone), 0o755); err != nil {
		t.Fatal(err)
	}
	writes := watchWrites(t, root, "kprobe_events", "events/"+gone+"/open/enable", "events/"+gone+"/opened/enable")
	if err := Dir(root).RemoveStale(); err == nil {
		t.Error("nobody is told that an instance stays")
	}
	want := []string{"events/" + gone + "/open/enable", "events/" + gone + "/opened/enable", "kprobe_events", "kprobe_events"}
	if got := writes(); !slices.Equal(got, want) {
		t.Errorf("written: %q, want %q", got, want)
	}
	text, err := os.ReadFile(filepath.Join(root, "kprobe_events"))
	if err != nil || !strings.HasSuffix(string(text), "do_exit\n-:"+gone+"/open\n-:"+gone+"/opened\n") {
		t.Errorf("%s, %v", text, err)
	}
	if text, _ := os.ReadFile(filepath.Join(root, "events", alive, "x", "enable")); len(text) > 0 {
		t.Errorf("an event of somebody else's was turned off: %q", text)
	}
	if _, err := os.Stat(filepath.Join(root, instancesDir, gone)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the instance: %v", err)
	}
}

// watchWrites returns what tells which of the files have been written since, in order.
func watchWrites(t *testing.T, root string, files ...string) func() []string {
	t.Helper()
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	names := map[int32]string{}
	for _, file := range files {
		wd, err := unix.InotifyAddWatch(fd, filepath.Join(root, file), unix.IN_CLOSE_WRITE|unix.IN_MODIFY)
		if err != nil {
			t.Fatal(err)
		}
		names[int32(wd)] = file
	}
	return func() (list []string) {
		buf := make([]byte, 64<<10)
		n, err := unix.Read(fd, buf)
		if err != nil {
			t.Fatal(err)
		}
		for at := 0; at+unix.SizeofInotifyEvent <= n; {
			wd, mask := int32(binary.NativeEndian.Uint32(buf[at:])), binary.NativeEndian.Uint32(buf[at+4:])
			if mask&unix.IN_MODIFY != 0 { // alike ones in a row are one, but each file is closed between
				list = append(list, names[wd])
			}
			at += unix.SizeofInotifyEvent + int(binary.NativeEndian.Uint32(buf[at+12:]))
		}
		return list
	}
}

// While a module is being loaded nothing is removed: it may be arming the same probes.
func TestStaleWaitsForModules(t *testing.T) {
	root := t.TempDir()
	modules := filepath.Join(root, "modules")
	for text, want := range map[string]bool{
		"dm_mod 184320 9 - Live 0xffffffffc0a00000\n":                                                                  false,
		"dm_mod 184320 9 - Live 0xffffffffc0a00000\nkvm 1 0 - Loading 0xffffffffc0b00000 (+)\nvirtio 1 0 - Live 0x0\n": true,
		"": false,
	} {
		write2(t, modules, text)
		if got := loading(modules); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
	if loading(filepath.Join(root, "none")) {
		t.Error("a module is loaded on a host that tells of none")
	}
}
