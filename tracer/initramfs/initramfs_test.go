package initramfs

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestModules(t *testing.T) {
	dir := t.TempDir()
	text := "kernel/fs/xfs/xfs.ko.xz: kernel/lib/libcrc32c.ko.xz\nkernel/lib/libcrc32c.ko.xz:\n" +
		"kernel/drivers/virtio/virtio_pci.ko: kernel/v/virtio-pci-modern.ko kernel/v/virtio.ko\nkernel/v/virtio.ko:\n"
	if err := os.WriteFile(filepath.Join(dir, "modules.dep"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := Modules(dir, []string{"virtio_pci", "built_in", "xfs"})
	if err != nil {
		t.Fatal(err)
	}
	want := "kernel/v/virtio.ko kernel/v/virtio-pci-modern.ko kernel/drivers/virtio/virtio_pci.ko kernel/lib/libcrc32c.ko.xz kernel/fs/xfs/xfs.ko.xz"
	if strings.Join(got, " ") != want {
		t.Error(got)
	}
}
