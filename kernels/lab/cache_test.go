package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestKeyOf(t *testing.T) {
	key := func(value any, dirs ...string) string {
		t.Helper()
		k, err := keyOf(value, dirs...)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	tree := func(change func(dir string)) string {
		dir := t.TempDir()
		write(t, dir, map[string]string{"a": "1", "b/c": "2"})
		if change != nil {
			change(dir)
		}
		return dir
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	same := key("x", tree(nil))
	if got := key("x", tree(func(dir string) { must(os.Chmod(dir, 0o700)) })); got != same {
		t.Error("the same contents in another folder have another key")
	}
	differ := map[string]string{
		"value":   key("y", tree(nil)),
		"content": key("x", tree(func(d string) { must(os.WriteFile(filepath.Join(d, "a"), []byte("3"), 0o644)) })),
		"mode":    key("x", tree(func(d string) { must(os.Chmod(filepath.Join(d, "a"), 0o755)) })),
		"name":    key("x", tree(func(d string) { must(os.Rename(filepath.Join(d, "a"), filepath.Join(d, "z"))) })),
		"link":    key("x", tree(func(d string) { must(os.Symlink("a", filepath.Join(d, "l"))) })),
		"place":   key("x", "", tree(nil)),
		"more":    key("x", tree(nil), ""),
	}
	seen := map[string]string{same: "nothing"}
	for what, k := range differ {
		if other, ok := seen[k]; ok {
			t.Errorf("a change of %s has the key of a change of %s", what, other)
		}
		seen[k] = what
	}
}

func TestCacheMakesOnce(t *testing.T) {
	c := cache{t.TempDir()}
	var made atomic.Int32
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			e, err := c.get(t.Context(), "image", "k", func(dir string) error {
				made.Add(1)
				return os.WriteFile(filepath.Join(dir, "f"), []byte("x"), 0o644)
			})
			if err != nil {
				t.Error(err)
				return
			}
			defer e.Close()
			if _, err := os.Stat(e.path("f")); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := made.Load(); n != 1 {
		t.Errorf("made %d times", n)
	}
}

func TestCacheForgetsWhatFailed(t *testing.T) {
	c := cache{t.TempDir()}
	failure := errors.New("no space")
	_, err := c.get(t.Context(), "image", "k", func(dir string) error {
		write(t, dir, map[string]string{"half": "x"})
		return failure
	})
	if !errors.Is(err, failure) {
		t.Fatalf("got %v", err)
	}
	left, err := filepath.Glob(filepath.Join(c.dir, "image", "*"))
	if err != nil || len(left) != 1 || filepath.Ext(left[0]) != ".lock" {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestCacheWaitsNoLongerThanAsked(t *testing.T) {
	c := cache{t.TempDir()}
	e, err := c.get(t.Context(), "image", "k", func(string) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := c.fill(ctx, e.dir, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestCacheKeepsTheLatestAndTheUsed(t *testing.T) {
	c := cache{t.TempDir()}
	var used *entry
	for i := range 5 {
		e, err := c.get(t.Context(), "image", fmt.Sprint(i), func(string) error { return nil })
		if err != nil {
			t.Fatal(err)
		}
		at := time.Unix(int64(1000+i), 0)
		if err := os.Chtimes(e.dir, at, at); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			used = e
			defer used.Close()
		} else {
			e.Close()
		}
	}
	if err := c.keep("image", 2); err != nil {
		t.Fatal(err)
	}
	for i, want := range []bool{true, false, false, true, true} {
		_, err := os.Stat(filepath.Join(c.dir, "image", fmt.Sprint(i)))
		if got := err == nil; got != want {
			t.Errorf("entry %d is there: %v, want %v", i, got, want)
		}
	}
}

func TestTempRemovesWhatCrashed(t *testing.T) {
	c := cache{t.TempDir()}
	crashed, err := c.temp()
	if err != nil {
		t.Fatal(err)
	}
	running, err := c.temp()
	if err != nil {
		t.Fatal(err)
	}
	crashed.Close() // the kernel does that when a process dies
	last, err := c.temp()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(crashed.dir); err == nil {
		t.Error("the crashed machine's folder is still there")
	}
	if _, err := os.Stat(running.dir); err != nil {
		t.Errorf("the running machine's folder: %v", err)
	}
	if err := errors.Join(running.remove(), last.remove()); err != nil {
		t.Error(err)
	}
	if left, _ := filepath.Glob(filepath.Join(c.dir, "run", "*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
