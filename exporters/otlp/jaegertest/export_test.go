package jaegertest

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/bootrace/bootrace/exporters/delivery"
	"github.com/bootrace/bootrace/exporters/otlp"
	"github.com/bootrace/bootrace/tracer/bootlog"
	"github.com/bootrace/bootrace/tracer/timeline"
)

// madeOf are the requests that a log's boot makes.
func madeOf(t *testing.T, path string) []ptrace.Traces {
	t.Helper()
	log, err := bootlog.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	h := log.Header()
	b := timeline.NewBuilder(timeline.Boot{ID: h.BootID, Host: h.HostName, Kernel: h.Kernel}, timeline.Options{})
	var all []ptrace.Traces
	for r, err := range otlp.EncodeAll(b.Stands(log.Events(), false, 0)) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, r)
	}
	return all
}

// The demo's boot comes back as it was sent: every span, to the nanosecond,
// with parents, links and status; sent twice, it is the same once.
func TestDemo(t *testing.T) {
	for _, protocol := range []string{"grpc", "http/protobuf"} {
		t.Run(protocol, func(t *testing.T) {
			j := newJaeger(t, "").start()
			made := spansOf(madeOf(t, demo)...)
			for range 2 {
				bootrace(t, "export", "--endpoint", j.endpoint(protocol), "--protocol", protocol, demo)
				compare(t, made, j.trace(demoID))
			}
			t.Logf("%d spans, as they were made", len(made))
			checkLinks(t, j.trace(demoID))
			checkSearch(t, j)
		})
	}
}

// checkLinks looks for what a reader of the trace follows.
func checkLinks(t *testing.T, read []placed) {
	t.Helper()
	named := func(name string) placed {
		i := slices.IndexFunc(read, func(p placed) bool { return p.Name() == name })
		if i < 0 {
			t.Fatalf("no span is named %q", name)
		}
		return read[i]
	}
	open, activation := named("open /dev/vg0/web-a"), named("activate vg0-web--a")
	if open.Links().Len() != 1 || open.Links().At(0).SpanID() != activation.SpanID() {
		t.Error("the guest's open has no link to the activation of its disk")
	}
	if open.Status().Code() != ptrace.StatusCodeError {
		t.Error("the race is no error")
	}
	if open.ParentSpanID() != named("guest web-a").SpanID() {
		t.Error("the open is not the guest's")
	}
}

// checkSearch finds the boot by what an operator knows.
func checkSearch(t *testing.T, j *jaeger) {
	t.Helper()
	for _, c := range []struct {
		service, key, value string
		want                int
	}{
		{"bootrace-guests", "bootrace.guest.name", "web-a", 1},
		{"bootrace-guests", "bootrace.guest.name", "web-z", 0},
		{"bootrace-guests", "bootrace.race", "true", 1},
		{"bootrace-boot", "bootrace.race", "true", 1},
		{"bootrace-boot", "bootrace.race", "false", 0},
		{"bootrace-guests", "bootrace.finding", "missing", 1},
		{"bootrace-boot", "host.name", "lab", 1},
		{"bootrace-boot", "bootrace.boot.complete", "false", 0},
		{"bootrace-device-mapper", "bootrace.lvm.vg", "vg0", 1},
	} {
		if got := j.find(c.service, map[string]string{c.key: c.value}); got != c.want {
			t.Errorf("%s with %s=%s: %d boots, want %d", c.service, c.key, c.value, got, c.want)
		}
	}
}

// The program delivers what a host has recorded, once.
func TestDeliver(t *testing.T) {
	j := newJaeger(t, "").start()
	dir := t.TempDir()
	log, err := os.ReadFile(demo)
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(dir, "config.yaml")
	if err := errors.Join(
		os.WriteFile(filepath.Join(dir, demoID+".jsonl.zst"), log, 0o600),
		os.WriteFile(config, []byte("export: {endpoint: "+j.endpoint("grpc")+", protocol: grpc}"), 0o600),
	); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		bootrace(t, "deliver", "--once", "--config", config, "--state-dir", dir)
		compare(t, spansOf(madeOf(t, demo)...), j.trace(demoID))
	}
	st, err := delivery.ReadStatus(filepath.Join(dir, "export"))
	if err != nil || st.Waiting != 0 || int(st.Sent) != len(j.trace(demoID)) {
		t.Errorf("status %+v, %v", st, err)
	}
}
