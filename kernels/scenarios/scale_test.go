package scenarios

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/bootrace/bootrace/kernels/lab"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/service"
)

// What a host of a thousand volumes, with a guest on each, may cost at the most.
const (
	scaleTrace   = 1.05 // times what the activation takes without
	scaleEnforce = 1.08
	scaleMemory  = 60e6
	scaleP99     = 10 * time.Millisecond
	scaleIdle    = 0.01 // of a processor, while all are held and nothing happens
)

// scaleVolumes are the sizes of the host, by which growth is seen.
const scaleVolumes = "100,300,1000"

// scaleTolerance is how far the table in the README may be from what is measured.
const scaleTolerance = 0.15

// A host with many volumes, and a guest on each, by a clock that counts instructions:
// nothing is lost, and the costs are within their limits and as the README says.
// BOOTRACE_SCALE_VOLUMES has other sizes, which are judged and compared with nothing.
func TestScale(t *testing.T) {
	if os.Getenv("BOOTRACE_SCALE") == "" {
		t.Skip("NOT RUN: a host of a thousand volumes, for half an hour; `make bench-scale` runs it")
	}
	volumes := cmp.Or(os.Getenv("BOOTRACE_SCALE_VOLUMES"), scaleVolumes)
	var sizes []int
	for _, text := range strings.Split(volumes, ",") {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || len(sizes) > 0 && n <= sizes[len(sizes)-1] {
			t.Fatalf("BOOTRACE_SCALE_VOLUMES=%s: want numbers of volumes, the fewest first, such as %s", volumes, scaleVolumes)
		}
		sizes = append(sizes, n)
	}
	out, _ := boot(t, "scale", func(o *lab.Options) {
		o.Counted, o.Mitigations = true, true
		o.Append = "lab.volumes=" + volumes
		o.Disks = []int64{int64(sizes[len(sizes)-1])<<20 + 1<<30}
		o.Memory, o.Timeout = 4096, 4*time.Hour
	})
	took := scaleTook(t, filepath.Join(out, "scale.txt"))
	waited := scaleLatencies(readLog(t, filepath.Join(out, "trace.jsonl")))
	lost := map[int]string{}
	for _, n := range sizes {
		for _, mode := range []string{"trace", "enforce", "held"} {
			if text := scaleLost(t, filepath.Join(out, fmt.Sprintf("status-%d-%s.json", n, mode))); text != "" {
				lost[n] += mode + ": " + text
				t.Errorf("%d volumes, %s", n, lost[n])
			}
		}
		if len(waited[n]) != n {
			t.Errorf("of %d guests that were held, %d went on after their volume came", n, len(waited[n]))
		}
	}
	table := scaleTable(sizes, took, waited, lost)
	t.Logf("\n%s", strings.Join(table, "\n"))
	if volumes != scaleVolumes {
		t.Log("NOT RUN: the limits and the README's table are those of " + scaleVolumes + " volumes")
		return
	}
	checkScale(t, sizes, took, waited)
	compareTable(t, filepath.Join(repo(t), "README.md"), table, scaleTolerance)
}

// checkScale compares the largest host with the limits.
func checkScale(t *testing.T, sizes []int, took map[scaleKey]float64, waited map[int][]time.Duration) {
	t.Helper()
	n := sizes[len(sizes)-1]
	without := took[scaleKey{n, "without", "activation_s"}]
	for mode, limit := range map[string]float64{"trace": scaleTrace, "enforce": scaleEnforce} {
		if times := took[scaleKey{n, mode, "activation_s"}] / without; times > limit {
			t.Errorf("in %s mode the activation takes %.3f times as long, more than %g", mode, times, limit)
		}
	}
	if rss := took[scaleKey{n, "held", "rss_kb"}] * 1024; rss > scaleMemory {
		t.Errorf("%.0f MB are resident, more than %.0f", rss/1e6, scaleMemory/1e6)
	}
	if share := took[scaleKey{n, "held", "idle_share"}]; share > scaleIdle {
		t.Errorf("while all are held and nothing happens, the service takes %.1f %% of a processor", share*100)
	}
	if times := waited[n]; len(times) > 0 && quantile(times, 0.99) > scaleP99 {
		t.Errorf("at p99 a guest goes on %s after its volume came, more than %s", quantile(times, 0.99), scaleP99)
	}
}

// scaleKey is what a number is of.
type scaleKey struct {
	volumes int
	mode    string
	what    string
}

func scaleTook(t *testing.T, path string) map[scaleKey]float64 {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	took := map[scaleKey]float64{}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var k scaleKey
		var number float64
		if _, err := fmt.Sscan(lines.Text(), &k.volumes, &k.mode, &k.what, &number); err != nil {
			t.Fatalf("%s: %q: %v", path, lines.Text(), err)
		}
		took[k] = number
	}
	return took
}

// scaleLost is what the service lost, empty for nothing.
func scaleLost(t *testing.T, path string) (text string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var st service.Status
	if err := json.Unmarshal(data, &st); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	for _, what := range slices.Sorted(maps.Keys(st.Lost)) {
		text += fmt.Sprintf("%d %s lost; ", st.Lost[what], what)
	}
	if st.Hold != nil && st.Hold.Counts.Unread+st.Hold.Counts.Unseen+st.Hold.Counts.Overflows > 0 {
		text += fmt.Sprintf("starts that passed unseen: %+v; ", st.Hold.Counts)
	}
	return text
}

// scaleLatencies are the times from the moment that a held guest's volume was live and
// linked to its exec, by the size of the host, sorted.
func scaleLatencies(log []event.Event) map[int][]time.Duration {
	took := map[int][]time.Duration{}
	live, linked := map[string]event.Time{}, map[string]event.Time{}
	for _, e := range log {
		switch {
		case e.Kind == event.DMResume && e.DM.Errno == 0:
			if volume, ok := strings.CutPrefix(e.DM.Name, "vgs-"); ok {
				live[volume] = cmp.Or(e.DM.LiveAt, e.At)
				delete(linked, volume)
			}
		case e.Kind == event.Link:
			volume, ok := strings.CutPrefix(e.Open.Path, "/dev/vgs/")
			if _, known := linked[volume]; ok && !known {
				linked[volume] = e.At
			}
		case e.Kind == event.Exec && filepath.Base(e.Exec.Filename) == "qemu-system-held":
			var n int
			var volume string
			for _, arg := range e.Exec.Args {
				if _, err := fmt.Sscanf(arg, "held-%d-%s", &n, &volume); err == nil {
					break
				}
			}
			if live[volume] != 0 && linked[volume] != 0 {
				took[n] = append(took[n], e.At.Sub(max(live[volume], linked[volume])))
			}
		}
	}
	for _, times := range took {
		slices.Sort(times)
	}
	return took
}

// scaleTable is what the README has, a line each.
func scaleTable(sizes []int, took map[scaleKey]float64, waited map[int][]time.Duration, lost map[int]string) []string {
	head, rule := "| volumes, and a guest on each", "| ---"
	for _, n := range sizes {
		head += fmt.Sprintf(" | %d", n)
		rule += " | ---"
	}
	table := []string{head + " |", rule + " |"}
	row := func(name string, cell func(n int) string) {
		line := "| " + name
		for _, n := range sizes {
			line += " | " + cell(n)
		}
		table = append(table, line+" |")
	}
	number := func(mode, what, format string, of func(float64) float64) func(int) string {
		return func(n int) string { return fmt.Sprintf(format, of(took[scaleKey{n, mode, what}])) }
	}
	for _, mode := range []string{"trace", "enforce", "held"} {
		name := map[string]string{"trace": "trace mode", "enforce": "enforce mode", "held": "enforce mode, with all guests held"}[mode]
		row("activation, "+name+" (without bootrace: 1)", func(n int) string {
			return fmt.Sprintf("%.2f", took[scaleKey{n, mode, "activation_s"}]/took[scaleKey{n, "without", "activation_s"}])
		})
		row("processor of the service, ms a volume, "+name, func(n int) string {
			return fmt.Sprintf("%.2f", took[scaleKey{n, mode, "processor_ns"}]/1e6/float64(n))
		})
		row("log, kB a volume, "+name, func(n int) string {
			return fmt.Sprintf("%.1f", took[scaleKey{n, mode, "log_bytes"}]/1e3/float64(n))
		})
		row("resident at the most, MB, "+name, number(mode, "rss_kb", "%.0f", func(kb float64) float64 { return kb * 1024 / 1e6 }))
	}
	for _, part := range []struct {
		name string
		q    float64
	}{{"half of the guests", 0.5}, {"99 of 100", 0.99}, {"all", 1}} {
		row("held guests go on after their volume came, ms: "+part.name, func(n int) string {
			if len(waited[n]) == 0 {
				return "?"
			}
			return fmt.Sprintf("%.1f", float64(quantile(waited[n], part.q))/1e6)
		})
	}
	row("of a processor while all are held and nothing happens, %", number("held", "idle_share", "%.1f", func(share float64) float64 { return share * 100 }))
	row("lost", func(n int) string { return cmp.Or(lost[n], "nothing") })
	return table
}

// compareTable compares the numbers of a table with those that a text has in lines
// that begin the same.
func compareTable(t *testing.T, path string, table []string, tolerance float64) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	cells := func(line string) []string { return strings.Split(strings.Trim(line, "| \n"), " | ") }
	told := map[string][]string{}
	for line := range strings.Lines(string(text)) {
		if c := cells(line); strings.HasPrefix(line, "| ") {
			told[c[0]] = c[1:]
		}
	}
	for _, line := range table {
		c := cells(line)
		if c[0] == "---" {
			continue
		}
		readme, ok := told[c[0]]
		if !ok || len(readme) != len(c)-1 {
			t.Errorf("%s does not have the line %s", path, line)
			continue
		}
		for n, cell := range c[1:] {
			is, err := strconv.ParseFloat(cell, 64)
			said, saidErr := strconv.ParseFloat(readme[n], 64)
			switch {
			case err != nil || saidErr != nil:
				if cell != readme[n] {
					t.Errorf("%s: %s is %s, and it says %s", path, c[0], cell, readme[n])
				}
			case math.Abs(is-said) > max(tolerance*math.Abs(is), 0.1): // 0.1 is what cells are rounded to
				t.Errorf("%s: %s is %s, and it says %s: correct it", path, c[0], cell, readme[n])
			}
		}
	}
}
