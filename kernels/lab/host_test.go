package lab

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func TestMissingToolThatCannotBeInstalled(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	b := builder{host: host{progress: newProgress(nil)}, cache: cache{t.TempDir()}}
	err := b.need(t.Context(), []tool{{"no-such-emulator", "some-package"}})
	if err == nil {
		t.Fatal("got no error")
	}
	for _, want := range []string{"no-such-emulator", "some-package", "apt-get"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not say %q", err, want)
		}
	}
}

func TestToolsInPlaceNeedNothing(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{"emulator": script})
	t.Setenv("PATH", dir)
	if err := (builder{}).need(t.Context(), []tool{{"emulator", "some-package"}}); err != nil {
		t.Error(err)
	}
}

// Labs that begin at the same time on a new machine: apt would refuse all but one.
func TestLabsInstallOneAtATime(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{
		"sudo": script + "shift 2; exec \"$@\"\n",
		"env":  script + "shift; exec \"$@\"\n",
		"apt-get": script + "PATH=/usr/bin:/bin; mkdir " + dir + "/lock || exit 100; echo once >>" + dir + "/calls; sleep 0.1; rmdir " + dir + "/lock\n" +
			"case $* in *install*) cp $0 " + dir + "/emulator;; esac\n",
	})
	t.Setenv("PATH", dir)
	b := builder{host: host{progress: newProgress(nil)}, cache: cache{filepath.Join(t.TempDir(), "new")}}
	var labs sync.WaitGroup
	for range 4 {
		labs.Go(func() {
			if err := b.need(t.Context(), []tool{{"emulator", "some-package"}}); err != nil {
				t.Error(err)
			}
		})
	}
	labs.Wait()
	if calls, err := os.ReadFile(filepath.Join(dir, "calls")); err != nil || string(calls) != "once\nonce\n" {
		t.Errorf("apt-get ran %q, %v; want an update and an install", calls, err)
	}
}

func TestOutputIsPartOfTheError(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{"tool": script + "echo one; echo 'two\x1b[31m' >&2; exit 3\n"})
	err := host{}.run(t.Context(), nil, filepath.Join(dir, "tool"), "--flag")
	if err == nil || !strings.HasSuffix(err.Error(), "tool --flag: exit status 3: one | two") {
		t.Errorf("got %v", err)
	}
}

func TestMakeInstall(t *testing.T) {
	repo, root := t.TempDir(), t.TempDir()
	write(t, repo, map[string]string{"Makefile": "build:\ninstall:\n\t@echo $(INITRAMFS) $(X) > $(DESTDIR)/vars\n"})
	if err := MakeInstall(repo, "INITRAMFS=no", "X=1")(t.Context(), root); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(root, "vars"))
	if err != nil || string(got) != "no 1\n" {
		t.Errorf("got %q, %v", got, err)
	}
	if err := MakeInstall(t.TempDir())(t.Context(), root); err == nil {
		t.Error("no error without a Makefile")
	}
}

func TestPlain(t *testing.T) {
	for in, want := range map[string]string{
		"a\tb":                    "a\tb",
		"\x1b[31mred\x1b[0m":      "red",
		"\x1b]0;title\x07text":    "text",
		"bell\a back\b line\r\n":  "bell back line",
		"Betriebssystem läuft ✓.": "Betriebssystem läuft ✓.",
	} {
		if got := plain(in); got != want {
			t.Errorf("plain(%q) = %q, want %q", in, got, want)
		}
	}
}
