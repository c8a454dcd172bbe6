package main

import (
	"context"
	"io"
	"slices"
	"strings"
	"testing"
)

func TestArrange(t *testing.T) {
	app := newApp(io.Discard, io.Discard)
	for given, want := range map[string]string{
		"":                                     "",
		"show":                                 "show",
		"show -1":                              "show -- -1",
		"show -12 --all":                       "show --all -- -12",
		"show f --format json":                 "show --format json -- f",
		"show f --format=json g":               "show --format=json -- f g",
		"show -format json f":                  "show -format json -- f",
		"show --all f":                         "show --all -- f",
		"show -- --all":                        "show -- --all",
		"show f -- -1":                         "show -- f -1",
		"show --frob f":                        "show --frob -- f",
		"show f --from":                        "show --from",
		"show --from -1 f":                     "show --from -1 -- f",
		"show - --all":                         "show --all -- -",
		"explain -- qemu-kvm -name x":          "explain -- qemu-kvm -name x",
		"explain qemu-kvm --format json":       "explain -- qemu-kvm --format json",
		"explain --format json -- q -m 1":      "explain --format json -- q -m 1",
		"frob --x y -1":                        "frob --x y -1",
		"--version show -1":                    "--version show -1",
		"show -- x --generate-bash-completion": "show -- x --generate-bash-completion",
	} {
		got := arrange(app.Commands, append([]string{"bootrace"}, strings.Fields(given)...))
		if !slices.Equal(got[1:], strings.Fields(want)) {
			t.Errorf("%q: got %q, want %q", given, got[1:], want)
		}
	}
}

// Whatever is typed ends with a status, and without a panic.
func FuzzArguments(f *testing.F) {
	for _, line := range []string{"show -1", "show testdata/logs/race.jsonl --from 1s", "races --near-miss 1h -- x", "explain -- qemu-kvm -drive file=a", "boots --format xml"} {
		f.Add(line)
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, line string) {
		args := strings.Fields(line)
		if len(args) == 0 || !slices.Contains([]string{"show", "races", "explain", "boots"}, args[0]) {
			return
		}
		args = slices.Insert(args, 1, "--state-dir="+dir)
		if args[0] == "explain" {
			args = slices.Delete(args, 1, 2)
		}
		var said strings.Builder
		status := run(context.Background(), append([]string{"bootrace"}, args...), io.Discard, &said)
		if status < exitDone || status > exitTrouble || strings.Count(said.String(), "\n") > 1 {
			t.Errorf("%q: status %d, said %q", args, status, said.String())
		}
	})
}
