// Package jaegertest exports boots to a real Jaeger and reads them back. `make
// jaeger-test` builds Jaeger, which takes a while the first time, and runs it.
package jaegertest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"text/template"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"
)

// demo is the boot of `make demo`: three guests, and a race.
const (
	demo   = "testdata/demo.jsonl.zst"
	demoID = "c87a4a11-ab7f-490c-8d68-d7171f250ef2"
)

// jaeger is a running Jaeger.
type jaeger struct {
	t       *testing.T
	program string
	config  string
	command *exec.Cmd
	log     bytes.Buffer

	GRPC, HTTP, Query, Health int // ports
	// Folder is where it keeps what it was sent; empty: in memory.
	Folder string
}

// The configuration names each address: without one Jaeger listens to all the
// world. Without the batch processor a span can be read as soon as it is
// acknowledged. The processor is also what would acknowledge a span and then
// lose it.
var configuration = template.Must(template.New("").Parse(`
service:
  extensions: [jaeger_storage, jaeger_query, healthcheckv2]
  pipelines:
    traces: {receivers: [otlp], processors: [], exporters: [jaeger_storage_exporter]}
  telemetry:
    metrics: {level: none}
    logs: {level: warn}
extensions:
  healthcheckv2:
    use_v2: true
    http: {endpoint: "127.0.0.1:{{.Health}}"}
  jaeger_query:
    storage: {traces: store}
    http: {endpoint: "127.0.0.1:{{.Query}}"}
    grpc: {endpoint: "127.0.0.1:0"}
  jaeger_storage:
    backends:
      store:
{{- if .Folder}}
        badger:
          directories: {keys: "{{.Folder}}", values: "{{.Folder}}"}
          ephemeral: false
          consistency: true
          ttl: {spans: 87600h}
{{- else}}
        memory: {max_traces: 1000}
{{- end}}
receivers:
  otlp:
    protocols:
      grpc: {endpoint: "127.0.0.1:{{.GRPC}}"}
      http: {endpoint: "127.0.0.1:{{.HTTP}}"}
exporters:
  jaeger_storage_exporter: {trace_storage: store}
`))

// newJaeger prepares a Jaeger that is not running yet.
func newJaeger(t *testing.T, folder string) *jaeger {
	t.Helper()
	program := os.Getenv("BOOTRACE_JAEGER")
	if program == "" {
		t.Skip("NOT RUN: no Jaeger: `make jaeger-test` builds one and runs this")
	}
	j := &jaeger{t: t, program: program, Folder: folder, config: filepath.Join(t.TempDir(), "jaeger.yaml")}
	for _, port := range []*int{&j.GRPC, &j.HTTP, &j.Query, &j.Health} {
		*port = freePort(t)
	}
	f, err := os.Create(j.config)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := configuration.Execute(f, j); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		j.stop()
		if t.Failed() {
			t.Logf("Jaeger says:\n%s", j.log.String())
		}
	})
	return j
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// start runs it until it takes spans.
func (j *jaeger) start() *jaeger {
	j.t.Helper()
	j.command = exec.Command(j.program, "--config", j.config)
	// Else it traces itself, and its spans come among ours.
	j.command.Env = append(os.Environ(), "OTEL_TRACES_SAMPLER=always_off")
	j.command.Stdout, j.command.Stderr = &j.log, &j.log
	if err := j.command.Start(); err != nil {
		j.t.Fatal(err)
	}
	deadline := time.Now().Add(time.Minute)
	for {
		answer, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/api/v3/services", j.Query))
		if err == nil {
			answer.Body.Close()
			if conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", j.GRPC)); err == nil && answer.StatusCode == http.StatusOK {
				conn.Close()
				return j
			}
		}
		if time.Now().After(deadline) {
			j.t.Fatalf("Jaeger does not start: %s", j.log.String())
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// stop ends it as a power cut would.
func (j *jaeger) stop() {
	if j.command == nil {
		return
	}
	_ = j.command.Process.Kill()
	_ = j.command.Wait()
	j.command = nil
}

func (j *jaeger) endpoint(protocol string) string {
	port := j.GRPC
	if protocol != "grpc" {
		port = j.HTTP
	}
	return fmt.Sprintf("http://127.0.0.1:%d", port)
}

func (j *jaeger) get(path string) []byte {
	j.t.Helper()
	answer, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d%s", j.Query, path))
	if err != nil {
		j.t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		j.t.Fatal(err)
	}
	if answer.StatusCode != http.StatusOK && answer.StatusCode != http.StatusNotFound {
		j.t.Fatalf("%s: %s: %s", path, answer.Status, body)
	}
	return body
}

// trace reads a boot's spans back. They carry nanoseconds and typed attributes
// here; the older API has neither.
func (j *jaeger) trace(bootID string) []placed {
	j.t.Helper()
	var answer struct{ Result json.RawMessage }
	body := j.get("/api/v3/traces/" + strings.ReplaceAll(bootID, "-", ""))
	if err := json.Unmarshal(body, &answer); err != nil {
		j.t.Fatalf("%v: %.200s", err, body)
	}
	if answer.Result == nil {
		return nil
	}
	u := ptrace.JSONUnmarshaler{}
	traces, err := u.UnmarshalTraces(answer.Result)
	if err != nil {
		j.t.Fatal(err)
	}
	return spansOf(traces)
}

// find returns how many traces have a span of the service with these tags.
func (j *jaeger) find(service string, tags map[string]string) int {
	j.t.Helper()
	text, err := json.Marshal(tags)
	if err != nil {
		j.t.Fatal(err)
	}
	// Without a window it looks at the last two days.
	query := url.Values{"service": {service}, "tags": {string(text)}, "start": {"0"},
		"end": {fmt.Sprint(time.Now().AddDate(100, 0, 0).UnixMicro())}, "limit": {"100"}}
	var answer struct{ Data []json.RawMessage }
	if err := json.Unmarshal(j.get("/api/traces?"+query.Encode()), &answer); err != nil {
		j.t.Fatal(err)
	}
	return len(answer.Data)
}

// placed is a span and the lane that it is in.
type placed struct {
	ptrace.Span
	lane string
}

func spansOf(traces ...ptrace.Traces) []placed {
	var all []placed
	for _, t := range traces {
		for _, rs := range t.ResourceSpans().All() {
			lane, _ := rs.Resource().Attributes().Get("service.name")
			for _, ss := range rs.ScopeSpans().All() {
				for _, s := range ss.Spans().All() {
					all = append(all, placed{s, lane.Str()})
				}
			}
		}
	}
	return all
}

// text is all of a span that has to come back. Jaeger orders its events anew.
func (p placed) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s in %s of %s from %d to %d, kind %s, status %s %q, %v",
		p.Name(), p.SpanID(), p.lane, p.ParentSpanID(), p.StartTimestamp(), p.EndTimestamp(),
		p.Kind(), p.Status().Code(), p.Status().Message(), raw(p.Attributes()))
	var events []string
	for _, e := range p.Events().All() {
		events = append(events, fmt.Sprintf("\n  at %d %s %v", e.Timestamp(), e.Name(), raw(e.Attributes())))
	}
	slices.Sort(events)
	b.WriteString(strings.Join(events, ""))
	for _, l := range p.Links().All() {
		fmt.Fprintf(&b, "\n  link to %s %s %v", l.TraceID(), l.SpanID(), raw(l.Attributes()))
	}
	return b.String()
}

// raw is a map as JSON, which orders its keys. Badger, like most storages of
// Jaeger, keeps lists as texts.
func raw(m pcommon.Map) string {
	values := map[string]any{}
	for key, v := range m.All() {
		values[key] = v.AsRaw()
		if v.Type() == pcommon.ValueTypeSlice {
			values[key] = v.AsString()
		}
	}
	text, err := json.Marshal(values)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// compare checks that each span that was made was read back, as it was, once.
func compare(t *testing.T, made, read []placed) {
	t.Helper()
	want := map[pcommon.SpanID]placed{}
	for _, s := range made {
		want[s.SpanID()] = s
	}
	if len(read) != len(made) {
		t.Errorf("%d spans were made, %d are there", len(made), len(read))
	}
	wrong := 0
	for _, s := range read {
		w, ok := want[s.SpanID()]
		delete(want, s.SpanID())
		switch {
		case !ok:
			t.Errorf("there twice, or never made: %s", s.text())
		case s.text() != w.text():
			t.Errorf("came back changed:\n%s\nwas\n%s", s.text(), w.text())
		default:
			continue
		}
		if wrong++; wrong > 5 {
			t.Fatal("and more")
		}
	}
	for _, s := range want {
		t.Errorf("not there: %s", s.Name())
		if wrong++; wrong > 5 {
			t.Fatal("and more")
		}
	}
}

// bootrace runs the program.
func bootrace(t *testing.T, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, program(t), args...).CombinedOutput()
	if err != nil {
		t.Fatalf("bootrace %s: %v: %s", strings.Join(args, " "), err, out)
	}
}

// program builds bootrace.
func program(t *testing.T) string {
	t.Helper()
	path := filepath.Join(os.TempDir(), fmt.Sprintf("bootrace-jaegertest-%d", os.Getpid()))
	if _, err := os.Stat(path); err == nil {
		return path
	}
	build := exec.Command("go", "build", "-o", path, "./cmd/bootrace")
	build.Dir = "../../.."
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build bootrace: %v: %s", err, out)
	}
	return path
}

func TestMain(m *testing.M) {
	status := m.Run()
	_ = os.Remove(filepath.Join(os.TempDir(), fmt.Sprintf("bootrace-jaegertest-%d", os.Getpid())))
	os.Exit(status)
}
