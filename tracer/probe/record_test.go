package probe

import (
	"encoding/base64"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"testing"

	"github.com/cilium/ebpf/ringbuf"
	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/bpf"
)

// The records under testdata/records come from TestRecord, run in a virtual
// machine with device-mapper: it prints lines "RECORD NUMBER-KIND BASE64", each
// of which is a file NUMBER-KIND.bin.
var record = flag.Bool("record", false, "print records for testdata/records")

func TestRecord(t *testing.T) {
	if !*record {
		t.Skip("run with -record to make new test data")
	}
	needDM(t)
	b := openTest(t, Options{})
	act(t, b)
	if err := b.reader.Flush(); err != nil {
		t.Fatal(err)
	}
	var r ringbuf.Record
	for n := 0; ; n++ {
		if err := b.reader.ReadInto(&r); errors.Is(err, ringbuf.ErrFlushed) {
			return
		} else if err != nil {
			t.Fatal(err)
		}
		h, _, err := view[bpf.Header](r.RawSample)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Printf("RECORD %02d-%s %s\n", n, h.Kind, base64.StdEncoding.EncodeToString(r.RawSample))
	}
}

// act does one of everything.
func act(t *testing.T, b Backend) {
	dm := dmTest{t}
	if out, err := exec.Command("modprobe", "dm_mod").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := b.DeviceMapperLoaded(); err != nil {
		t.Fatal(err)
	}
	_ = staying(fakeGuest(t, "qemu-system-x86_64", "-drive", "file=/dev/vg/lv,if=none,id=drive_0")).Run()
	dm.setup("create", "vg-lv", "--uuid", "LVM-recorded", "--notable")
	dm.setup("load", "vg-lv", "--table", "0 1024 error\n1024 3072 zero")
	dm.setup("resume", "vg-lv")
	_ = openErrno("/dev/mapper/vg-lv", unix.O_RDONLY)
	_ = os.Symlink("mapper/vg-lv", "/dev/.#recorded")
	_ = os.Rename("/dev/.#recorded", "/dev/recorded")
	dm.setup("suspend", "vg-lv")
	dm.setup("resume", "vg-lv")
	dm.setup("rename", "vg-lv", "vg-new")
	_, _ = dm.try("load", "vg-new", "--table", "0 8 crypt aes-cbc-essiv:sha256 0123456789abcdef0123456789abcdef 0 /dev/nowhere 0")
	dm.setup("remove", "--retry", "vg-new")
	_, _ = dm.try("remove", "vg-new")
	dm.setup("remove_all")
}
