package serve

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/bootrace/bootrace/tracer/config"
)

// What a flag says goes over what the file says, and the rest of the file stays,
// also when it is read again.
func TestFlagsOverFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.yaml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("mode: trace\nkeep-boots: 7\nguest-binaries: [a, b]\n")
	f, err := parse([]string{"--config", path, "--mode=enforce", "--deadline", "3s", "--guest-binaries=c,d", "--guest-binaries", "e", "--volatile-first"})
	if err != nil {
		t.Fatal(err)
	}
	if !f.volatileFirst || f.stateDir != "/var/lib/bootrace" {
		t.Errorf("%+v", f)
	}
	for _, boots := range []int{7, 9} {
		cfg, err := f.configuration()
		if err != nil {
			t.Fatal(err)
		}
		want := config.Default()
		want.Mode, want.KeepBoots, want.GuestBinaries = config.Enforcing, boots, []string{"c", "d", "e"}
		want.Enforce.Deadline = 3 * time.Second
		if diff := cmp.Diff(want, cfg); diff != "" {
			t.Error(diff)
		}
		write("keep-boots: 9\n")
	}
}

func TestWrongFlags(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"--mode=ludicrous", `invalid value "ludicrous" for flag -mode: mode "ludicrous" is not known`},
		{"--keep-boots=few", `invalid value "few" for flag -keep-boots`},
		{"--colour", "flag provided but not defined: -colour"},
		{"now", `no argument is known: "now"`},
	} {
		_, err := parse(strings.Fields(c.args))
		if usage := (*UsageError)(nil); !errors.As(err, &usage) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", c.args, err, c.want)
		}
	}
	f, err := parse([]string{"--keep-boots", "0"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.configuration(); err == nil || !strings.Contains(err.Error(), "keep-boots 0") {
		t.Errorf("%v", err)
	}
}
