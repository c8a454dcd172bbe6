package config

import (
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// The installed file documents the defaults, so it has to be them.
func TestInstalledFileIsTheDefault(t *testing.T) {
	data, err := os.ReadFile("../../packaging/config/config.yaml")
	if err != nil {
		t.Fatal(err)
	}
	got, err := Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Default(), got); diff != "" {
		t.Error(diff)
	}
}

func TestParse(t *testing.T) {
	got, err := Parse([]byte("near-miss: 250ms\nkeep-size: 1GiB\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.NearMiss = 250 * time.Millisecond
	want.KeepSize = 1 << 30
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if got, err := Parse(nil); err != nil || !cmp.Equal(got, Default()) {
		t.Errorf("an empty file: %+v, %v", got, err)
	}
}

func TestParseErrors(t *testing.T) {
	for in, want := range map[string]string{
		"mode: trace\nnear-mis: 1s\n":       "line 2: field near-mis is not known",
		"mode: ludicrous\n":                 `line 1: mode "ludicrous" is not known`,
		"keep-size: much\n":                 `line 1: size "much"`,
		"keep-boots: 0\n":                   "keep-boots 0",
		"max-log-size: 5kB\n":               "max-log-size 4.9KiB: a boot needs at least 1.0MiB",
		"near-miss: 5\n":                    "line 1",
		"export:\n  endpiont: x\n":          "line 2: field endpiont is not known",
		"export: {settle: 0s}\n":            "settle 0s: at least 1s",
		"export: {spool-size: 1MiB}\n":      "spool-size 1.0MiB: at least 8.0MiB",
		"export: {timeout: 0s}\n":           "timeout 0s",
		"export: {key-file: x}\n":           "go together",
		"metrics: {listen: 0.0.0.0:9784}\n": "only a loopback address",
		"metrics: {listen: nine}\n":         "want an address and a port",
		"metrics: {file: x.prom}\n":         "want an absolute path that ends in .prom",
		"metrics: {file: /x/y.txt}\n":       "want an absolute path that ends in .prom",
		"metrics: {every: 1ms}\n":           "every 1ms: at least 1s",
		"probes: magic\n":                   `line 1: probes "magic": use one of ["auto" "ebpf" "tracefs" "none"]`,
		"guest-binaries: [/bin/kvm]":        "/bin/kvm",
		"guest-binaries: []":                "at least one",
		"guest-binaries: [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q]": "17 names",
		"mode: [": "line 1",
	} {
		_, err := Parse([]byte(in))
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: got %v, want %q on one line", in, err, want)
		}
	}
}

func TestLoad(t *testing.T) {
	if _, err := Load("/nonexistent/config.yaml"); err == nil {
		t.Error("a file that was named and does not exist is no error")
	}
}

// Headers hold tokens.
func TestHeadersAreSecret(t *testing.T) {
	c, err := Parse([]byte("export: {headers: {authorization: s3cret}}"))
	if err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "headers", c.Export.Headers)
	for _, text := range []string{fmt.Sprintf("%v %+v %#v %s", c, c, c, c.Export.Headers), log.String()} {
		if strings.Contains(text, "s3cret") || !strings.Contains(text, "authorization") {
			t.Errorf("it shows %s", text)
		}
	}
}

// A value of the wrong form is told with the right one.
func TestRightForm(t *testing.T) {
	for text, want := range map[string]string{
		"near-miss: 1\n":                        "line 1: 1: a duration needs a unit, such as 1s",
		"enforce:\n  deadline: 80\n":            "line 2: 80: a duration needs a unit, such as 80s",
		"near-miss: soon\n":                     "line 1: soon: want a duration, such as 80s, 1m30s or 500ms",
		"keep-boots: few\n":                     "line 1: few: want a whole number",
		"guest-binaries: kvm\n":                 "line 1: kvm: want a list, such as [a, b]",
		"metrics: {every: 5}\n":                 "line 1: 5: a duration needs a unit, such as 5s",
		"enforce:\n  guests: [{deadline: 7}]\n": "line 2: 7: a duration needs a unit, such as 7s",
	} {
		if _, err := Parse([]byte(text)); err == nil || err.Error() != want {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}
