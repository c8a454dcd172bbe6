package libvirt

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bootrace/bootrace/tracer/guest"
)

// describe writes a disk with its chain in one line.
func describe(i *guest.Image) string {
	text := i.Path + " " + i.Format
	if i.DataFile != nil {
		text += " data " + i.DataFile.Path
	}
	for n := range i.Backing {
		text += " < " + describe(&i.Backing[n])
	}
	if i.NoBacking {
		text += " end"
	}
	return text
}

func TestParse(t *testing.T) {
	for _, tc := range []struct {
		file    string
		name    string
		uuid    string
		disks   []string
		unknown []string
	}{
		{
			file: "inactive.xml", name: "web-a", uuid: "3aad3b6b-ddf8-474a-8906-06d83ef318cb",
			disks: []string{"/dev/vg0/web-a raw", "/dev/vg0/data qcow2", "/var/lib/libvirt/images/boot.iso raw"},
		},
		{
			file: "odd.xml", name: `strange "name" <&>`, uuid: "3aad3b6b-ddf8-474a-8906-06d83ef318cb",
			disks: []string{
				"/dev/vg0/top qcow2 < /dev/vg0/mid qcow2 < /dev/vg0/base raw end",
				"/dev/vg0/open qcow2 < /dev/vg0/below qcow2",
				"/dev/vg0/alone qcow2 end",
				"/dev/vg0/noformat raw",
				"/dev/vg0/meta qcow2 data /dev/vg0/bulk",
			},
			unknown: []string{"disk vdf is volume web of pool default"},
		},
	} {
		file, err := os.Open(filepath.Join("testdata", tc.file))
		if err != nil {
			t.Fatal(err)
		}
		d, err := Parse(file)
		file.Close()
		if err != nil {
			t.Errorf("%s: %v", tc.file, err)
			continue
		}
		if d.Name != tc.name || d.UUID != tc.uuid {
			t.Errorf("%s: name %q, uuid %q", tc.file, d.Name, d.UUID)
		}
		var disks []string
		for i := range d.Disks {
			disks = append(disks, describe(&d.Disks[i]))
		}
		if diff := cmp.Diff(tc.disks, disks); diff != "" {
			t.Errorf("%s: %s", tc.file, diff)
		}
		if diff := cmp.Diff(tc.unknown, d.Unknown); diff != "" {
			t.Errorf("%s: %s", tc.file, diff)
		}
	}
}

func TestParseErrors(t *testing.T) {
	for _, text := range []string{"", "<domain>", "<network/>", "no xml", "<domain><name>\x00</name></domain>"} {
		if d, err := Parse(strings.NewReader(text)); err == nil {
			t.Errorf("%q: %+v", text, d)
		}
	}
	long := "<domain><name>" + strings.Repeat("x", maxXML) + "</name></domain>"
	if _, err := Parse(strings.NewReader(long)); !errors.Is(err, ErrTooLong) {
		t.Errorf("%v", err)
	}
}

// A chain that an attacker made very deep costs no more than a real one.
func TestParseDeep(t *testing.T) {
	const depth = 5000
	store := "<backingStore type='block'><format type='qcow2'/><source dev='/dev/vg/x'/>"
	text := fmt.Sprintf("<domain><devices><disk type='block'><source dev='/dev/vg/top'/>%s%s</disk></devices></domain>",
		strings.Repeat(store, depth), strings.Repeat("</backingStore>", depth))
	d, err := Parse(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	if n := len(d.Disks[0].Backing); n != maxChain {
		t.Errorf("%d backing files", n)
	}
}

func FuzzParse(f *testing.F) {
	files, err := filepath.Glob("testdata/*.xml")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := Parse(strings.NewReader(string(data)))
		if err != nil {
			return
		}
		for i := range d.Disks {
			disk := &d.Disks[i]
			if disk.Path == "" || !disk.Needs || len(disk.Backing) > maxChain {
				t.Errorf("disk %+v", disk)
			}
		}
	})
}
