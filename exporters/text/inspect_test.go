package text

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/bootrace/bootrace/tracer/image"
	"github.com/bootrace/bootrace/tracer/inspect"
)

const gib = int64(1) << 30

// inspections are what people have to understand: a disk that came back shorter,
// one that is only dirty, a guest that runs, a second part that is another one,
// and bytes that their owner chose.
var inspections = map[string][]inspect.Inspection{
	"short": {{Guest: "web-a", Disks: []inspect.InspectedDisk{{
		Path: "/dev/vg0/web-a",
		Report: &inspect.Report{Name: "/dev/vg0/web-a", Disk: &inspect.Layer{Kind: inspect.KindDisk, Has: 8 * gib, Inside: []*inspect.Layer{{
			Kind: inspect.KindGPT, Needs: 20 * gib, Has: 8 * gib, UUID: "9a3c1f0e-5f6b-4f57-8f52-7b8f6f0a2c11", Checked: []string{"header, its copy, entries"},
			Inside: []*inspect.Layer{{
				Kind: inspect.KindPartition, Name: "2", Label: "root", Detail: "Linux file system", Offset: gib, Needs: 19*gib - 4096, Has: 7 * gib,
				Inside: []*inspect.Layer{{
					Kind: inspect.KindXFS, Label: "root", UUID: "1b671a64-40d5-491e-99b0-da01ff1f3341", Detail: "version 5", Needs: 19*gib - 4096, Has: 7 * gib,
					State: inspect.StateDirty, Why: "its log has changes that are not yet in their place",
					Checked: []string{"superblock; headers of 8 of 19 allocation groups", "the end of the log, sector 640 of 130816 in cycle 1"},
				}},
			}},
		}}}},
		Troubles: []inspect.Trouble{{Kind: inspect.Truncated, Layer: "gpt", Needs: 20 * gib, Has: 8 * gib, What: "it needs more bytes than there are"}},
	}}}},
	"dirty": {{Disks: []inspect.InspectedDisk{{
		Path: "/dev/vg0/db-b", Troubles: []inspect.Trouble{},
		Report: &inspect.Report{Name: "/dev/vg0/db-b", Disk: &inspect.Layer{Kind: inspect.KindDisk, Has: 4 * gib, Inside: []*inspect.Layer{{
			Kind: inspect.KindExt, Detail: "ext4", Needs: 4 * gib, Has: 4 * gib, State: inspect.StateDirty, Why: "its journal has changes that are not yet in their place",
			Times: []inspect.Stamp{{What: "mounted", At: time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)}}, Checked: []string{"superblock"},
		}}}},
	}}}},
	"running": {{Guest: "shop-c", PID: 4711, Notes: []string{"it may have further disks: -readconfig is not understood"}, Disks: []inspect.InspectedDisk{{
		Path:    "/dev/vg0/shop-c",
		Images:  []image.Extent{{Path: "/dev/vg0/shop-c", Format: "qcow2", Has: 2 * gib, Needs: 3 * gib, Virtual: 10 * gib}, {Path: "/dev/vg0/template-c", Format: "raw", Has: gib, Virtual: gib, Why: "there is no active table behind it"}},
		Writers: []image.Use{{PID: 4711, Program: "qemu-system-x86", Path: "/dev/vg0/shop-c"}},
		Report: &inspect.Report{Name: "/dev/vg0/shop-c", Disk: &inspect.Layer{Kind: inspect.KindDisk, Has: 10 * gib, Inside: []*inspect.Layer{{
			Kind: inspect.KindXFS, Detail: "version 5", Needs: 10 * gib, Has: 10 * gib, State: inspect.StateUnknown, Why: "it is in use, and changes while it is looked at",
		}}}},
		Troubles: []inspect.Trouble{{Kind: inspect.Truncated, Layer: "qcow2 image /dev/vg0/shop-c", Needs: 3 * gib, Has: 2 * gib, What: "the image has clusters in use beyond the end of its device"}},
		Unknown:  []string{"/dev/vg0/template-c: there is no active table behind it", "xfs: it is in use, and changes while it is looked at"},
	}}}},
	"parts": {{Disks: []inspect.InspectedDisk{{
		Path: "/dev/mapper/dm_x",
		Report: &inspect.Report{Name: "/dev/mapper/dm_x", Disk: &inspect.Layer{Kind: inspect.KindDisk, Has: 4 * gib, Inside: []*inspect.Layer{{
			Kind: inspect.KindPV, Name: "centos", Needs: 4 * gib, Has: 4 * gib, Inside: []*inspect.Layer{{
				Kind: inspect.KindLV, Name: "root", Needs: 3 * gib, Has: 3 * gib, Inside: []*inspect.Layer{{
					Kind: inspect.KindXFS, Needs: 3 * gib, Has: 3 * gib, State: inspect.StateErrors, Why: "its superblock says that it needs repair",
					Absent: &inspect.Absent{From: gib, Looked: 5, Zeros: true},
					Damage: []inspect.Damage{{What: "AGF of allocation group 0", At: 512, Check: "its CRC-32C is 00000001 and should be 00000002"}},
				}},
			}, {Kind: inspect.KindLV, Name: "pool", Needs: gib, Has: -1, State: inspect.StateUnknown, Why: "it is of type thin, which is not looked into"}},
		}}}},
		Troubles: []inspect.Trouble{
			{Kind: inspect.PartMissing, Layer: "lvm-pv centos, lvm-lv root, xfs", At: gib, What: "from byte 1073741824 on its headers are absent: 5 were looked for, and zeros are in their place"},
			{Kind: inspect.Damaged, Layer: "lvm-pv centos, lvm-lv root, xfs", At: 512, What: "AGF of allocation group 0: its CRC-32C is 00000001 and should be 00000002"},
			{Kind: inspect.FSErrors, Layer: "lvm-pv centos, lvm-lv root, xfs", What: "its superblock says that it needs repair"},
		},
		Unknown: []string{"lvm-pv centos, lvm-lv pool: it is of type thin, which is not looked into"},
	}, {Path: "/dev/vg0/dead", Why: "the storage did not answer in time", Unknown: []string{"the storage did not answer in time"}}}}},
	// What helps depends on what is damaged, and what dirty means on what is dirty.
	"damages": {{Disks: []inspect.InspectedDisk{{
		Path: "/dev/vg0/mail",
		Images: []image.Extent{{
			Path: "/dev/vg0/mail", Format: "qcow2", Has: 4 * gib, Virtual: 4 * gib, Damage: "its header says that it is corrupt",
			Unknown: []string{"how much of its device is in use was not found out: its reference counts may be behind"},
		}},
		Report: &inspect.Report{Name: "/dev/vg0/mail", Disk: &inspect.Layer{Kind: inspect.KindDisk, Has: 4 * gib, Inside: []*inspect.Layer{{
			Kind: inspect.KindGPT, Needs: 4 * gib, Has: 4 * gib, Damage: []inspect.Damage{{What: "entries", At: 1024, Check: "their CRC-32 is 00000001 and should be 00000002"}},
			Inside: []*inspect.Layer{{
				Kind: inspect.KindPartition, Name: "1", Needs: gib, Has: gib, Inside: []*inspect.Layer{{
					Kind: inspect.KindFAT, Detail: "FAT32", Needs: gib, Has: gib, State: inspect.StateDirty, Why: "it was not unmounted; there is no log to replay",
				}},
			}},
		}}}},
		Troubles: []inspect.Trouble{
			{Kind: inspect.Damaged, Layer: "qcow2 image /dev/vg0/mail", In: inspect.KindImage, What: "its header says that it is corrupt"},
			{Kind: inspect.Damaged, Layer: "gpt", In: inspect.KindGPT, At: 1024, What: "entries: their CRC-32 is 00000001 and should be 00000002"},
		},
		Unknown: []string{"/dev/vg0/mail: how much of its device is in use was not found out: its reference counts may be behind"},
	}}}},
	"hostile": {{Disks: []inspect.InspectedDisk{{
		Path: "/dev/\x1b[2Jx",
		Report: &inspect.Report{Disk: &inspect.Layer{Kind: inspect.KindDisk, Has: gib, Inside: []*inspect.Layer{{
			Kind: inspect.KindLUKS, Label: "a\x1b]0;owned\a\u202eb\n", UUID: "\xff\x00", State: inspect.StateEncrypted, Why: "what is inside can't be seen without the key",
		}}}},
	}}}},
}

func TestInspect(t *testing.T) {
	for name, list := range inspections {
		for variant, opts := range map[string]Options{"80": {}, "40": {Width: 40}, "80-ascii": {ASCII: true}} {
			t.Run(name+"-"+variant, func(t *testing.T) {
				var b bytes.Buffer
				if err := Inspect(&b, list, opts); err != nil {
					t.Fatal(err)
				}
				checkOutput(t, b.Bytes(), opts)
				if bytes.Contains(bytes.ToLower(b.Bytes()), []byte("file system is fine")) {
					t.Error("nobody can say that")
				}
				golden(t, "inspect-"+name+"-"+variant, b.Bytes())
			})
		}
	}
}

func TestInspectWriteError(t *testing.T) {
	if err := Inspect(full{}, inspections["short"], Options{}); !errors.Is(err, errFull) {
		t.Errorf("got %v", err)
	}
}

// Layers can be as deep as a disk's owner likes, within the bounds of inspect.
func TestInspectDeep(t *testing.T) {
	l := &inspect.Layer{Kind: inspect.KindXFS, Has: gib}
	for range 200 {
		l = &inspect.Layer{Kind: inspect.KindLV, Name: "v", Has: gib, Inside: []*inspect.Layer{l}}
	}
	for _, opts := range []Options{{}, {Width: 1}, {Width: 40, Color: true}} {
		var b bytes.Buffer
		if err := Inspect(&b, []inspect.Inspection{{Disks: []inspect.InspectedDisk{{Report: &inspect.Report{Disk: l}}}}}, opts); err != nil {
			t.Fatal(err)
		}
		checkOutput(t, b.Bytes(), opts)
	}
}
