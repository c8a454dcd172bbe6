package scenarios

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/bootrace/bootrace/kernels"
	"github.com/bootrace/bootrace/kernels/lab"
)

// watch is the kernel that a scenario is played on, and the probes that watch
// it. Both may be empty: the usual kernel, and what bootrace takes by itself.
type watch struct{ kernel, probes string }

// asked is what the environment asks for.
func asked() watch { return watch{os.Getenv("BOOTRACE_KERNEL"), os.Getenv("BOOTRACE_PROBES")} }

// usual reports whether it is the kernel and the probes that what bootrace costs
// was measured with.
func (w watch) usual() bool {
	return cmp.Or(w.kernel, kernels.Default) == kernels.Default && cmp.Or(w.probes, "ebpf") == "ebpf"
}

// play boots the scenario as the function play does, with these probes. They
// must be those that the record, trace.json, comes from.
func (w watch) play(t *testing.T, scenario string, change func(*lab.Options)) string {
	t.Helper()
	out, _ := play(t, scenario, func(o *lab.Options) {
		o.Kernel = w.kernel
		if change != nil {
			change(o)
		}
		if w.probes != "" {
			o.Install = withSetting(o.Install, "probes: "+w.probes)
		}
	})
	want := cmp.Or(w.probes, "ebpf") // which is best on each kernel that the lab boots
	var got []string
	for _, s := range readTimeline(t, filepath.Join(out, "trace.json")).Sources {
		got = append(got, s.Name)
	}
	for _, probes := range []string{"ebpf", "tracefs"} {
		if slices.Contains(got, probes) != (probes == want) {
			t.Errorf("watched by %v, want the probes %s", got, want)
		}
	}
	return out
}

// withSetting is an installation with a line of its configuration changed.
func withSetting(install lab.Install, setting string) lab.Install {
	return func(ctx context.Context, root string) error {
		if err := install(ctx, root); err != nil {
			return err
		}
		path := filepath.Join(root, "etc/bootrace/config.yaml")
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		key, _, _ := strings.Cut(setting, ":")
		lines := strings.SplitAfter(string(text), "\n")
		i := slices.IndexFunc(lines, func(l string) bool { return strings.HasPrefix(l, key+":") })
		if i < 0 {
			return fmt.Errorf("%s has no %s", path, key)
		}
		lines[i] = setting + "\n"
		return os.WriteFile(path, []byte(strings.Join(lines, "")), 0o644)
	}
}
