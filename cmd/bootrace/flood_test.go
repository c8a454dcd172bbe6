package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
)

// floodLog is the log of a boot in which one user, 1000, started n guests in
// vain, each on another disk, and root three, the last in vain.
func floodLog(t *testing.T, n int) string {
	t.Helper()
	text, err := os.ReadFile("testdata/logs/race.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.SplitAfter(text, []byte("\n"))[:20]
	var b bytes.Buffer
	b.Write(bytes.Join(lines, nil))
	id, at := len(lines), int64(6_000_000_000)
	event := func(format string, args ...any) {
		at += 50_000
		fmt.Fprintf(&b, `{"id":%d,"t_ns":%d,`+format+"}\n", append([]any{id, at}, args...)...)
		id++
	}
	start := func(pid, uid int, name string) {
		proc := fmt.Sprintf(`"proc":{"pid":%d,"ppid":1,"uid":%d,"comm":"qemu-system-x86"}`, pid, uid)
		event(`"kind":"exec","src":"ebpf",%s,"exec":{"filename":"/usr/bin/qemu-system-x86_64","args":["qemu-system-x86_64","-name","%s","-drive","file=/dev/vg9/%s,format=raw"],"args_bytes":90}`, proc, name, name)
		event(`"kind":"open","src":"ebpf",%s,"open":{"path":"/dev/vg9/%s","flags":526336,"errno":2,"size":-1}`, proc, name)
		event(`"kind":"exit","src":"ebpf",%s,"exit":{"status":1}`, proc)
	}
	for i := range n {
		start(1000+i, 1000, fmt.Sprintf("fake%06d", i))
	}
	start(900_000, 0, "earnest")
	event(`"kind":"mark","src":"service","mark":{"name":"settled"}`)
	path := filepath.Join(t.TempDir(), "flood.jsonl")
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

var tags = regexp.MustCompile("<[^>]*>")

// Whoever starts twice as many guests as there is room for makes no output larger, costs no more than his share of the work, and hides nobody else's guest.
func TestFlood(t *testing.T) {
	const few, many = 2500, 5000
	small, large := floodLog(t, few), floodLog(t, many)
	// JSON, for programs, has everything, and its length follows the record's.
	commands := map[string][]string{"races": {"races"}, "show": {"show"}}
	for _, f := range formats() {
		if f.name != "json" {
			commands[f.name] = []string{"export", "--format", f.name, "-o", "-"}
		}
	}
	for name, args := range commands {
		t.Run(name, func(t *testing.T) {
			bytesOf := func(log string) (out []byte, allocated uint64) {
				var before, after runtime.MemStats
				var b bytes.Buffer
				b.Grow(32 << 20)
				runtime.ReadMemStats(&before)
				run(t.Context(), append(append([]string{"bootrace"}, args...), log), &b, io.Discard)
				runtime.ReadMemStats(&after)
				return b.Bytes(), after.TotalAlloc - before.TotalAlloc
			}
			short, least := bytesOf(small)
			long, most := bytesOf(large)
			if len(long) == 0 || float64(len(long)) > 1.1*float64(len(short)) {
				t.Errorf("%d guests are %d bytes, %d guests %d", few, len(short), many, len(long))
			}
			if most > 3*least { // twice the guests, and how slices grow
				t.Errorf("%d guests allocate %d bytes, %d guests %d", few, least, many, most)
			}
			// races groups what is alike: there the other is one of them.
			if name != "races" && name != "show" && !bytes.Contains(long, []byte("earnest")) {
				t.Error("the guest of another user is not in it")
			}
			said := "Left out for lack of room"
			if name == "races" || name == "show" {
				said = "more"
			}
			text := string(long)
			if name == "html" {
				text = tags.ReplaceAllString(text, "")
			}
			if !strings.Contains(text, said) {
				t.Error("it does not say that something is left out")
			}
		})
	}
}
