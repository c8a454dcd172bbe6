package inspect

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/tracer/guest"
	"github.com/bootrace/bootrace/tracer/image"
)

// TestSpeed measures what a look takes, beside tools, on the same images and in turns. The
// last tool answers the same question: kind, size, state, headers. The others answer a
// part: blkid says nothing of size and log, xfs_logprint nothing else than the log,
// dumpe2fs nothing of the device. BOOTRACE_BINARY is the program, for what the command
// takes.
func TestSpeed(t *testing.T) {
	if os.Getenv("BOOTRACE_INSPECT_BENCH") == "" {
		t.Skip("measures: make inspect-bench")
	}
	need(t, "blkid", "xfs_logprint", "xfs_repair", "mkfs.xfs", "mkfs.ext4", "dumpe2fs", "e2fsck")
	xfs := mounted(t, makeXFS(t, 1024*mib), "", busy)
	ext := mounted(t, makeExt(t, "ext4", 1024*mib), "", busy)
	binary := os.Getenv("BOOTRACE_BINARY")
	for _, tc := range []struct {
		name, image string
		kind        Kind
		tools       [][]string
	}{
		{"a dirty XFS", xfs, KindXFS, [][]string{{"blkid", "-p"}, {"xfs_logprint", "-t"}, {"xfs_repair", "-n"}}},
		{"a dirty ext4", ext, KindExt, [][]string{{"blkid", "-p"}, {"dumpe2fs", "-h"}, {"e2fsck", "-n"}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			want(t, only(t, &lookAt(t, tc.image)[0], tc.kind), StateDirty, 0)
			const rounds = 15
			took := map[string][]cost{}
			note := func(name string, c cost) { took[name] = append(took[name], c) }
			const library = "Inspect, the library"
			commands := slices.Clone(tc.tools)
			if binary != "" {
				commands = append(commands, []string{binary, "inspect"}, []string{binary, "--version"})
			}
			if _, err := exec.LookPath("guestfish"); err != nil {
				t.Log("NOT RUN: guestfish is not installed")
			} else {
				c := measured(t, "guestfish", "--ro", "-a", tc.image, "run", ":", "list-filesystems")
				note("guestfish --ro", c)
			}
			for range rounds {
				note(library, spent(func() {
					list := Inspect(t.Context(), image.Reader{Host: image.LocalHost{}}, []guest.Image{{Path: tc.image, Format: "raw", Storage: guest.StorageFile}})
					if list[0].Report == nil || len(all(list[0].Report.Disk, tc.kind)) != 1 {
						t.Fatal("nothing was found")
					}
				}))
				note("Look, on an open disk", spent(func() { lookAt(t, tc.image) }))
				for _, command := range commands {
					name := fmt.Sprint(filepath.Base(command[0]), " ", command[1])
					args := command[1:]
					if command[1] != "--version" {
						args = append(slices.Clone(args), tc.image)
					}
					note(name, measured(t, command[0], args...))
				}
			}
			own := median(took["Look, on an open disk"])
			for n, list := range took {
				c := median(list)
				t.Logf("%-24s %9.2f ms, %9.2f ms of processor: %6.1f times the look", n, ms(c.wall), ms(c.processor), float64(c.processor)/float64(own.processor))
			}
			same := tc.tools[len(tc.tools)-1]
			ratio := float64(median(took[same[0]+" "+same[1]]).processor) / float64(own.processor)
			t.Logf("a look takes a %.0fth of the processor time of %s, which answers the same question", ratio, same[0])
			const least = 10
			if ratio < least {
				t.Errorf("a look is to take a %dth of that", least)
			}
		})
	}
}

// TestThousandDisks looks at a thousand disks, as at the boot of a host: plain ones,
// partitions, LVM and qcow2, most of them dirty.
func TestThousandDisks(t *testing.T) {
	if os.Getenv("BOOTRACE_INSPECT_BENCH") == "" {
		t.Skip("measures: make inspect-bench")
	}
	need(t, "qemu-img", "sfdisk")
	xfs := mounted(t, makeXFS(t, 512*mib), "", busy)
	ext := mounted(t, makeExt(t, "ext4", 512*mib), "", busy)
	table := blank(t, 600*mib)
	if err := writeFile(table+".in", "label: gpt\nstart=2048, size=1048576\n"); err != nil {
		t.Fatal(err)
	}
	run(t, "sh", "-c", `sfdisk -q "$1" <"$1.in"`, "sh", table)
	run(t, "dd", "if="+xfs, "of="+table, "bs=1M", "seek=1", "conv=notrunc,sparse", "status=none")
	dir := t.TempDir()
	template, overlay := filepath.Join(dir, "template"), filepath.Join(dir, "overlay")
	run(t, "qemu-img", "convert", "-q", "-c", "-f", "raw", "-O", "qcow2", table, template)
	run(t, "qemu-img", "create", "-q", "-f", "qcow2", "-b", template, "-F", "qcow2", overlay)
	const disks = 1000
	var guests [][]guest.Image
	for n := range disks {
		from := []string{xfs, ext, table, overlay}[n%4]
		disk := guest.Image{Path: filepath.Join(dir, fmt.Sprint("disk", n)), Format: "raw", Storage: guest.StorageFile}
		if from == overlay {
			disk.Format, disk.Backing = "qcow2", []guest.Image{{Path: template, Format: "qcow2", Storage: guest.StorageFile}}
		}
		if err := os.Link(from, disk.Path); err != nil {
			t.Fatal(err)
		}
		guests = append(guests, []guest.Image{disk})
	}
	found, reads := 0, 0
	// The service takes one census of all processes a second, for all.
	census := image.TakeCensus()
	beside := Beside{Writers: func(_ context.Context, c *image.Chain) ([]image.Use, bool) { return census.Writers(c) }}
	c := spent(func() {
		for _, g := range guests {
			for _, d := range beside.Inspect(t.Context(), image.Reader{Host: image.LocalHost{}}, g) {
				d.Walk(func(l *Layer) {
					if l.State == StateDirty {
						found++
					}
				})
				reads += d.Report.Reads
			}
		}
	})
	t.Logf("%d disks: %.2f s, %.2f s of processor, %d reads", disks, c.wall.Seconds(), c.processor.Seconds(), reads)
	if found != disks {
		t.Errorf("%d of %d are dirty", found, disks)
	}
	if c.processor > 2*time.Second {
		t.Error("that is more than 2 s of processor")
	}
}

// cost is what something took: time, and time of a processor. The latter hardly depends
// on what else runs.
type cost struct{ wall, processor time.Duration }

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func median(list []cost) cost {
	slices.SortFunc(list, func(a, b cost) int { return int(a.processor - b.processor) })
	return list[len(list)/2]
}

func spent(f func()) cost {
	processor := func() time.Duration {
		var u unix.Rusage
		if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
			return 0
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	begun, before := time.Now(), processor()
	f()
	return cost{time.Since(begun), processor() - before}
}

// measured runs a command whose exit status says nothing: xfs_repair -n has 1 for
// everything dirty, blkid 0 for everything.
func measured(t *testing.T, name string, args ...string) cost {
	t.Helper()
	c := exec.Command(name, args...)
	begun := time.Now()
	_ = c.Run()
	if c.ProcessState == nil {
		t.Fatalf("%s could not be started", name)
	}
	return cost{time.Since(begun), c.ProcessState.UserTime() + c.ProcessState.SystemTime()}
}
