package inspect

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

const mib = 1 << 20

func makeXFS(t testing.TB, size int64, args ...string) string {
	t.Helper()
	need(t, "mkfs.xfs", "xfs_logprint")
	image := blank(t, size)
	// mkfs.xfs makes no small logs any more but for xfstests, which it knows by these.
	for _, name := range []string{"TEST_DIR", "TEST_DEV", "QA_CHECK_FS"} {
		t.(interface{ Setenv(string, string) }).Setenv(name, "1")
	}
	run(t, "mkfs.xfs", append([]string{"-q", "-L", "root"}, append(args, image)...)...)
	return image
}

// logState is what xfs_logprint says of the log.
func logState(t testing.TB, image string) State {
	t.Helper()
	out, err := exec.Command("xfs_logprint", "-t", image).CombinedOutput()
	switch text := string(out); {
	case strings.Contains(text, "<CLEAN>"):
		return StateClean
	case strings.Contains(text, "<DIRTY>"):
		return StateDirty
	default:
		t.Fatalf("xfs_logprint: %v\n%s", err, out)
	}
	return ""
}

// busy writes enough for the log to have something to replay.
const busy = `i=0; while [ $i -lt 400 ]; do echo $i > f$i; i=$((i+1)); done; sync -f .; mkdir -p d; i=0; while [ $i -lt 300 ]; do echo $i > d/f$i; i=$((i+1)); done; rm -f f1*`

func TestXFS(t *testing.T) {
	const size = 512 * mib
	for name, args := range map[string][]string{
		"default": nil, "version 4": {"-m", "crc=0,finobt=0,rmapbt=0,reflink=0,bigtime=0,inobtcount=0"},
		"small blocks": {"-b", "size=1024"}, "large sectors": {"-s", "size=4096"}, "stripes": {"-d", "su=64k,sw=2", "-l", "su=64k"},
		"version 1 log": {"-m", "crc=0,finobt=0,rmapbt=0,reflink=0,bigtime=0,inobtcount=0", "-l", "version=1"},
	} {
		t.Run(name, func(t *testing.T) {
			image := makeXFS(t, size, args...)
			l := only(t, &lookAt(t, image)[0], KindXFS)
			want(t, l, StateClean, 0)
			needs := l.Needs
			if needs > size || needs < size-mib || l.Label != "root" || l.UUID == "" {
				t.Errorf("size %d, label %q, uuid %q", l.Needs, l.Label, l.UUID)
			}
			fresh := l.Generation
			dirty := mounted(t, image, "", busy) // kernels from 6.18 on may lack version 4
			if got := logState(t, dirty); got != StateDirty {
				t.Fatalf("the copy of a mounted file system is %s", got)
			}
			l = only(t, &lookAt(t, dirty)[0], KindXFS)
			want(t, l, StateDirty, 0)
			if l.Generation <= fresh {
				t.Errorf("generation %x after %x", l.Generation, fresh)
			}
			l = only(t, &lookAt(t, image)[0], KindXFS) // unmounted by now
			want(t, l, StateClean, 0)
			for _, image := range []string{image, dirty} {
				state := logState(t, image)
				for _, less := range []int64{4096, 100 * mib} {
					l := only(t, &lookAt(t, cut(t, image, needs-less))[0], KindXFS)
					want(t, l, state, less)
				}
			}
		})
	}
}

// The log's end is found wherever it is, also where it has gone round.
func TestXFSLogPositions(t *testing.T) {
	if testing.Short() {
		t.Skip("it mounts and fills a file system six times")
	}
	image := makeXFS(t, 320*mib, "-l", "size=10m")
	states := map[State]int{}
	for _, options := range []string{"logbsize=32k", "logbsize=256k", "wsync"} {
		for range 2 {
			churn := `for n in 1 2 3 4; do ` + busy + `; rm -rf d f*; done; echo x > y`
			copied := mounted(t, image, options, churn)
			for _, i := range []string{copied, image} {
				l := only(t, &lookAt(t, i)[0], KindXFS)
				if want := logState(t, i); l.State != want {
					t.Errorf("%s: state %s (%s), xfs_logprint says %s", options, l.State, l.Why, want)
				}
				states[l.State]++
			}
		}
	}
	l := only(t, &lookAt(t, image)[0], KindXFS)
	if cycle := l.Generation >> 32; cycle < 2 {
		t.Errorf("the log never went round: cycle %d", cycle)
	}
	if states[StateClean] == 0 || states[StateDirty] == 0 {
		t.Errorf("states seen: %v", states)
	}
}

// A file system that was grown just before the power was cut: the first
// superblock has the old size, and only the copies tell that it needs more.
func TestXFSGrown(t *testing.T) {
	need(t, "xfs_growfs", "xfs_db")
	image := makeXFS(t, 512*mib)
	run(t, "truncate", "-s", "1536M", image)
	grown := mounted(t, image, "", `xfs_growfs . >/dev/null; echo x > y`)
	primary := run(t, "xfs_db", "-r", "-c", "sb 0", "-c", "p dblocks", grown)
	if !strings.Contains(primary, "dblocks = 131072") {
		t.Skipf("NOT RUN: the first superblock was written before the copy was made: %s", primary)
	}
	l := only(t, &lookAt(t, grown)[0], KindXFS)
	want(t, l, StateDirty, 0)
	if l.Needs != 1536*mib {
		t.Errorf("it needs %d bytes:\n%s", l.Needs, dump(l))
	}
	l = only(t, &lookAt(t, cut(t, grown, 512*mib))[0], KindXFS)
	want(t, l, StateDirty, 1024*mib)
	if !strings.Contains(strings.Join(l.Notes, "\n"), "it was being grown") {
		t.Errorf("notes %q", l.Notes)
	}
}

func TestXFSDamage(t *testing.T) {
	const size = 512 * mib
	image := makeXFS(t, size)
	group := int64(size / 4)
	for name, tc := range map[string]struct {
		image   string
		damaged []string
		state   State
		needs   int64
	}{
		"superblock":   {flip(t, image, 200), []string{"superblock"}, StateClean, size},
		"zeroed":       {overwrite(t, image, 0, make([]byte, 512)), []string{"superblock"}, StateClean, size},
		"AGF":          {flip(t, image, 512+60), []string{"AGF of allocation group 0"}, StateClean, size},
		"AGI":          {flip(t, image, 2*group+1024+60), []string{"AGI of allocation group 2"}, StateClean, size},
		"AGFL":         {flip(t, image, 3*group+1536+100), []string{"AGFL of allocation group 3"}, StateClean, size},
		"copy":         {flip(t, image, group+200), []string{"superblock copy of allocation group 1"}, StateClean, size},
		"middle group": {overwrite(t, image, 2*group, make([]byte, 2048)), []string{"headers of allocation group 2"}, StateClean, size},
	} {
		l := only(t, &lookAt(t, tc.image)[0], KindXFS)
		if l.Needs != tc.needs {
			t.Errorf("%s: needs %d", name, l.Needs)
		}
		t.Run(name, func(t *testing.T) { want(t, l, tc.state, 0, tc.damaged...) })
	}
	// The flag that xfs_admin -O sets while it works. xfs_db of 6.1 can't.
	sector := readAt(t, image, 0, 512)
	sector[219] |= xfsNeedsRepair
	le.PutUint32(sector[xfsSuperCRC:], crcWithout(castagnoli, sector, xfsSuperCRC))
	repair := overwrite(t, image, 0, sector)
	want(t, only(t, &lookAt(t, repair)[0], KindXFS), StateErrors, 0)
}

// Another device has the place of the second part.
func TestXFSSecondPart(t *testing.T) {
	const size, groups = 8 << 30, 64
	image := makeXFS(t, size, "-d", "agcount=64")
	half := cut(t, image, size/2)
	if err := os.Truncate(half, size); err != nil {
		t.Fatal(err)
	}
	l := only(t, &lookAt(t, half)[0], KindXFS)
	if l.Absent == nil || l.Absent.From != size/2 || !l.Absent.Zeros {
		t.Errorf("absent %+v, want from %d on\n%s", l.Absent, size/2, dump(l))
	}
	if l.Short() != 0 || len(l.Damage) != 0 {
		t.Error(dump(l))
	}
	// The whole of another file system's second half is no damage of a sector.
	other := makeXFS(t, size, "-d", "agcount=64")
	stale := image
	for n := int64(groups / 2); n < groups; n++ {
		at := n * (size / groups)
		stale = overwrite(t, stale, at, readAt(t, other, at, 2048))
	}
	l = only(t, &lookAt(t, stale)[0], KindXFS)
	if len(l.Damage) == 0 || !strings.Contains(l.Damage[0].Check, "another file system") {
		t.Error(dump(l))
	}
}

func TestXFSLogBeyondEnd(t *testing.T) {
	image := makeXFS(t, 512*mib)
	l := only(t, &lookAt(t, cut(t, image, 100*mib))[0], KindXFS)
	want(t, l, StateUnknown, 412*mib)
	if !strings.Contains(l.Why, "beyond the end") {
		t.Errorf("why %q", l.Why)
	}
}

// A small template that grew has very many groups: a sample of them is looked at.
func TestXFSManyGroups(t *testing.T) {
	image := makeXFS(t, 64<<30, "-d", "agcount=500")
	r := lookAt(t, image)[0]
	want(t, only(t, &r, KindXFS), StateClean, 0)
	if r.Reads > 100 {
		t.Errorf("%d reads", r.Reads)
	}
}

func TestXFSNewUUID(t *testing.T) {
	need(t, "xfs_admin")
	image := makeXFS(t, 512*mib)
	run(t, "xfs_admin", "-U", "11111111-2222-3333-4444-555555555555", image)
	l := only(t, &lookAt(t, image)[0], KindXFS)
	want(t, l, StateClean, 0)
	if l.UUID != "11111111-2222-3333-4444-555555555555" {
		t.Errorf("uuid %s", l.UUID)
	}
}
