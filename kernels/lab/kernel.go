package lab

import (
	"context"
	"fmt"
	"io"
	"path/filepath"

	"github.com/bootrace/bootrace/kernels"
)

// Kernel unpacks the kernel of a name, of Debian as the lab's machines have it, into a
// folder, and returns its image and the folder with its modules. An empty name means
// kernels.Default. It is for tests whose machines have no Debian around the kernel.
func Kernel(ctx context.Context, name, dir string, progress io.Writer) (image, modules string, err error) {
	kernel, err := kernels.Find(name)
	if err != nil {
		return "", "", err
	}
	c, err := openCache("")
	if err != nil {
		return "", "", err
	}
	b := builder{host: host{progress: newProgress(progress)}, cache: c, kernel: kernel}
	if err := b.need(ctx, []tool{{"mmdebstrap", "mmdebstrap"}, {"tar", "tar"}}); err != nil {
		return "", "", err
	}
	base, _, err := b.base(ctx)
	if err != nil {
		return "", "", err
	}
	defer base.Close()
	if err := b.run(ctx, nil, "tar", "-C", dir, "--no-same-owner", "--wildcards", "-xf", base.path("root.tar"),
		"./boot", "./usr/lib/modules"); err != nil {
		return "", "", fmt.Errorf("unpack the kernel %s: %w", kernel.Name, err)
	}
	if image, err = onlyFile(dir, "boot/vmlinuz-*", "usr/lib/modules/*/vmlinuz"); err != nil {
		return "", "", err
	}
	modules, err = onlyFile(dir, "usr/lib/modules/*/modules.dep")
	return image, filepath.Dir(modules), err
}
