package text

import (
	"bytes"
	"errors"
	"testing"

	"github.com/bootrace/bootrace/tracer/devmap"
	"github.com/bootrace/bootrace/tracer/guest"
	"github.com/bootrace/bootrace/tracer/image"
)

var explained = map[string][]string{
	// A guest whose disk is a qcow2 image on a volume, with a template below.
	"chain": {
		"/usr/bin/qemu-system-x86_64", "-name", "guest=shop-c,debug-threads=on", "-uuid", "6f6b5ec2-2f1f-4ba5-9a0c-0b6c0d5f3a03",
		"-pidfile", "/run/shop-c.pid", "-netdev", "tap,id=n0,ifname=tap7,script=no", "-incoming", "tcp:0:4444",
		"-blockdev", `{"driver":"qcow2","node-name":"n0","file":{"driver":"host_device","filename":"/dev/vg0/shop-c"},` +
			`"backing":{"driver":"qcow2","file":{"driver":"host_device","filename":"/dev/vg0/template-c"},` +
			`"backing":{"driver":"raw","file":{"driver":"host_device","filename":"/dev/vg0/base"}}}}`,
		"-device", "virtio-blk-pci,drive=n0,id=virtio-disk0",
		"-drive", "file=rbd:pool/image:id=admin:key=AQAhunter2==,format=raw,if=none,id=net0",
		"-drive", "file=/dev/fdset/4,format=qcow2,if=none,id=fd0", "-add-fd", "fd=30,set=4",
		"-drive", "if=none,id=cd0,media=cdrom,readonly=on", "-drive", "file=/dev/vg0/shop-c,if=ide,format=raw,snapshot=on",
		"-drive", "if=pflash,file=/usr/share/OVMF/code.fd,format=raw,readonly=on", "-frobnicate", "-no-such=1",
	},
	"question": {"qemu-kvm", "-version"},
	"nothing":  {"qemu-kvm", "-m", "16M"},
	"hostile": {
		"/tmp/\x1b[2J/qemu-system-x86_64", "-name", "a\x1b]0;owned\a\u202eb", "-drive", "file=/dev/\x9b31m/\xff\n/x,format=\x1b[m,id=\x1b]8;;http://x\a",
		"-\x1b[31mfoo",
	},
}

func TestExplain(t *testing.T) {
	for name, args := range explained {
		for variant, opts := range map[string]Options{"80": {}, "40": {Width: 40}, "120-color": {Width: 120, Color: true}, "80-ascii": {ASCII: true}} {
			t.Run(name+"-"+variant, func(t *testing.T) {
				g := guest.Parse(args)
				var b bytes.Buffer
				if err := Explain(&b, "", &g, nil, opts); err != nil {
					t.Fatal(err)
				}
				checkOutput(t, b.Bytes(), opts)
				if bytes.Contains(b.Bytes(), []byte("hunter2")) {
					t.Error("a secret")
				}
				golden(t, "explain-"+name+"-"+variant, b.Bytes())
			})
		}
	}
}

func TestExplainWriteError(t *testing.T) {
	g := guest.Parse(explained["chain"])
	if err := Explain(full{}, "", &g, nil, Options{}); !errors.Is(err, errFull) {
		t.Errorf("got %v", err)
	}
}

// Command lines come from outside: no list of images may take the width.
func TestExplainDeepChain(t *testing.T) {
	deep := guest.Image{Path: "/dev/vg0/base", Storage: guest.StorageFile, Needs: true}
	for range 500 {
		deep = guest.Image{Path: "/dev/vg0/x", Format: "qcow2", Storage: guest.StorageFile, Needs: true, Members: []guest.Image{deep}}
	}
	g := guest.Guest{IsGuest: true, Disks: []guest.Disk{{ID: "d", Image: deep}}}
	for _, opts := range []Options{{}, {Width: 1}, {Width: 40, Color: true}} {
		var b bytes.Buffer
		if err := Explain(&b, "", &g, nil, opts); err != nil {
			t.Fatal(err)
		}
		checkOutput(t, b.Bytes(), opts)
	}
}

// What headers name, and what is wrong with them.
func TestExplainHeaders(t *testing.T) {
	g := guest.Parse([]string{"qemu-kvm", "-name", "web", "-hda", "/dev/vg0/web", "-hdb", "/dev/vg0/bad", "-cdrom", "nbd:h:1"})
	chains := []*image.Chain{
		{Members: []image.Member{
			{Path: "/dev/vg0/web", Over: -1, Role: image.RoleDisk, Format: "qcow2", State: image.StateRead, Storage: guest.StorageFile},
			{Path: "/dev/vg0/snap\x1b[31m", Role: image.RoleBacking, FromHeader: true, Format: "qcow2", State: image.StateRead, Name: "vg0-snap", Size: 1 << 30, On: &devmap.Device{Below: []devmap.Device{{Node: "sda"}, {Node: "sdb"}}}, Storage: guest.StorageFile},
			{Path: "/dev/vg0/base", Over: 1, Role: image.RoleBacking, FromHeader: true, State: image.StateAbsent, Why: "no such file", Storage: guest.StorageFile},
			{Path: "/etc/shadow", Over: 1, Role: image.RoleData, FromHeader: true, State: image.StateRefused, Why: "a header names it", Storage: guest.StorageFile},
		}, Cut: "too many"},
		{Members: []image.Member{{Path: "/dev/vg0/bad", Over: -1, Role: image.RoleDisk, State: image.StateUnreadable, Why: "version 9 is not known"}}},
		nil,
	}
	for variant, opts := range map[string]Options{"80": {}, "40": {Width: 40}} {
		var b bytes.Buffer
		if err := Explain(&b, "", &g, chains, opts); err != nil {
			t.Fatal(err)
		}
		checkOutput(t, b.Bytes(), opts)
		golden(t, "explain-headers-"+variant, b.Bytes())
	}
}
