package text

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/bootrace/bootrace/tracer/timeline"
	"github.com/bootrace/bootrace/tracer/timeline/histories"
)

// boot makes the timeline of a history, whose lines write adds.
func boot(tb testing.TB, write func(add func(format string, args ...any))) *timeline.Timeline {
	tb.Helper()
	var p histories.Writer
	add := func(format string, args ...any) {
		if err := p.Line(fmt.Sprintf(format, args...)); err != nil {
			tb.Fatal(err)
		}
	}
	add("0.1 sources")
	write(add)
	return timeline.Build(timeline.Boot{ID: "3f2a91c0-0000", Host: "kvm7", Kernel: "k", Current: true}, timeline.Options{}, slices.Values(p.Events()))
}

// activate writes what makes a volume, as a command does that belongs to a unit.
func activate(add func(string, ...any), at float64, lv string, minor, pid int, args ...string) {
	by := fmt.Sprintf("pid=%d comm=%s args: %s", pid, args[0], strings.Join(args, " "))
	add("%.4f dm_create lv=%s dev=253:%d %s", at, lv, minor, by)
	add("%.4f dm_load lv=%s dev=253:%d table=0_2048_linear_8:16_0 %s", at+.0002, lv, minor, by)
	add("%.4f dm_resume lv=%s dev=253:%d live=%.4f flags=32 %s", at+.0006, lv, minor, at+.0004, by)
	add("%.4f uevent change dm-%d dev=253:%d seq=%d", at+.0007, minor, minor, 100+minor)
	add("%.4f udev change dm-%d dev=253:%d seq=%d lv=%s DM_ACTIVATION=1 links=/dev/%s", at+.001, minor, minor, 100+minor, lv, lv)
}

// largeBoot is a host of a thousand guests, of which 300 come before their
// volumes: seven commands make them, or one for each.
func largeBoot(tb testing.TB, oneEach bool) *timeline.Timeline {
	return boot(tb, func(add func(string, ...any)) {
		for g := range 1000 {
			lv, vg := fmt.Sprintf("vg%d/web%03d", g%7, g), fmt.Sprintf("vg%d", g%7)
			made, pid, args := 5+float64(g)/500, 40, []string{"vgchange", "-aay", "soon"}
			if g < 300 {
				made, pid, args = 60+float64(g)/500, 50+g%7, []string{"vgchange", "-aay", vg}
				if oneEach {
					pid, args = 5000+g, []string{"lvchange", "-ay", lv}
				}
			}
			activate(add, made, lv, g+1, pid, args...)
			start := 20 + float64(g)/100
			add("%.4f exec pid=%d args: qemu-system-x86_64 -name web%03d -drive file=/dev/%s", start, 10000+g, g, lv)
			if g < 300 {
				add("%.4f open pid=%d /dev/%s ENOENT", start+.1, 10000+g, lv)
				add("%.4f exit pid=%d status=1", start+.2, 10000+g)
			} else {
				add("%.4f open pid=%d /dev/%s dev=253:%d", start+.1, 10000+g, lv, g+1)
			}
		}
		add("100 mark log_end")
	})
}

func races(tb testing.TB, tl *timeline.Timeline) string {
	tb.Helper()
	var b bytes.Buffer
	if err := Races(&b, tl, Options{Width: 100}); err != nil {
		tb.Fatal(err)
	}
	return b.String()
}

func unwrapped(s string) string { return strings.Join(strings.Fields(s), " ") }

// What has a few reasons is a page, however many guests it is about.
func TestRacesLarge(t *testing.T) {
	for _, oneEach := range []bool{false, true} {
		tl := largeBoot(t, oneEach)
		out := races(t, tl)
		if lines := strings.Count(out, "\n"); lines > 85 {
			t.Errorf("one command each: %t: %d lines:\n%s", oneEach, lines, out)
		}
		flat := unwrapped(out)
		want := []string{"300 guests failed, 700 guests fine: 300 races"}
		if oneEach {
			want = append(want, "300 guests failed for one reason (300 different commands or devices): web000, web001,", "and 296 more; none of them runs", "--guest NAME tells one guest alone, --format json everything.")
		} else {
			for vg := range 7 {
				want = append(want, fmt.Sprintf("`vgchange -aay vg%d`", vg))
			}
			want = append(want, "43 guests failed for one reason: web000, web007,", "42 guests failed for one reason: web006, web013,", "and 39 more")
		}
		for _, s := range want {
			if !strings.Contains(flat, s) {
				t.Errorf("one command each: %t: no %q in:\n%s", oneEach, s, out)
			}
		}
		one := races(t, tl.Only("web007"))
		if flat := unwrapped(one); !strings.Contains(flat, "1 guest failed: 1 race") || !strings.Contains(flat, "Guest web007: too late.") || strings.Contains(flat, "web000") {
			t.Errorf("one guest:\n%s", one)
		}
	}
}

// A guest that is restarted in a loop is one story, with its end.
func TestRacesLoop(t *testing.T) {
	for name, comes := range map[string]bool{"runs": true, "down": false} {
		tl := boot(t, func(add func(string, ...any)) {
			for i := range 58 {
				at := 10 + float64(i)
				add("%.1f exec pid=%d args: qemu-system-x86_64 -name web -drive file=/dev/vg/web", at, 100+i)
				add("%.1f open pid=%d /dev/vg/web ENOENT", at+.1, 100+i)
				add("%.1f exit pid=%d status=1", at+.2, 100+i)
			}
			if comes {
				activate(add, 70, "vg/web", 1, 50, "vgchange", "-aay")
				add("80 exec pid=900 args: qemu-system-x86_64 -name web -drive file=/dev/vg/web")
				add("80.1 open pid=900 /dev/vg/web dev=253:1")
			}
			add("100 mark log_end")
		})
		out := races(t, tl)
		want := "Guest web failed 58 times in 58 starts, from 10.000 s to 67.000 s; it does not run at the end of the record."
		if comes {
			want = "Guest web failed 58 times in 59 starts, from 10.000 s to 67.000 s; it runs since 80.000 s."
		}
		if !strings.Contains(unwrapped(out), want) || strings.Count(out, "\n") > 20 {
			t.Errorf("%s: no %q in:\n%s", name, want, out)
		}
	}
}

// A guest that failed each time, for another reason each time, is not told to have failed
// once in two starts.
func TestRacesTwoReasons(t *testing.T) {
	out := unwrapped(races(t, boot(t, func(add func(string, ...any)) {
		for pid, disk := range map[int]string{101: "a", 102: "never"} {
			at := float64(pid - 100)
			add("%.1f exec pid=%d args: qemu-system-x86_64 -name two -drive file=/dev/vg/a -drive file=/dev/vg/never", at, pid)
			add("%.1f open pid=%d /dev/vg/%s ENOENT", at+.1, pid, disk)
			add("%.1f exit pid=%d status=1", at+.2, pid)
		}
		activate(add, 1.5, "vg/a", 1, 50, "vgchange", "-aay")
		add("100 mark log_end")
	})))
	if want := "Guest two failed 2 times in 2 starts, once for this reason, at 1.000 s; it does not run"; !strings.Contains(out, want) {
		t.Errorf("no %q in:\n%s", want, out)
	}
}

// A margin that is known as a window is the same number in all texts: the middle.
func TestOneMargin(t *testing.T) {
	tl := boot(t, func(add func(string, ...any)) {
		add("5 exec pid=100 args: qemu-system-x86_64 -name web -drive file=/dev/vg/web")
		add("5.1 open pid=100 /dev/vg/web ENOENT")
		add("6..7 dm_create lv=vg/web dev=253:1")
		add("7..8 dm_load lv=vg/web dev=253:1 table=0_2048_linear_8:16_0")
		add("8..10 dm_resume lv=vg/web dev=253:1 flags=32")
		add("10 uevent change dm-1 dev=253:1 seq=1")
		add("10..12 udev change dm-1 dev=253:1 seq=1 lv=vg/web DM_ACTIVATION=1 links=/dev/vg/web")
		add("100 mark log_end")
	})
	f := tl.Races()[0]
	if f.Ready.From != 10e9 || f.Ready.At != 12e9 || f.NS != -69e8 || f.Width != 2e9 {
		t.Fatalf("ready %+v, margin %+v", f.Ready, f.Margin)
	}
	var b bytes.Buffer
	if err := Show(&b, tl, Options{Width: 120}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"web, /dev/vg/web, 5.900 s ±1.000 s too early", " 5.900 s too early", "ready 11.000 s"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("show: no %q in:\n%s", want, b.String())
		}
	}
	out := races(t, tl)
	if want := "it became ready at 11.000 s ±1.000 s: 5.900 s ±1.000 s too early."; !strings.Contains(unwrapped(out), want) {
		t.Errorf("races: no %q in:\n%s", want, out)
	}
	for _, s := range []string{b.String(), out} {
		for _, other := range []string{"6.900 s", "4.900 s"} {
			if strings.Contains(s, other) {
				t.Errorf("%s of the same margin in:\n%s", other, s)
			}
		}
	}
}
