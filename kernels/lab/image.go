package lab

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/kernels"
)

// guest holds what the lab puts into a machine: rootfs, copied over its root,
// and setup.sh, run in it once.
//
//go:embed guest
var guest embed.FS

// Install puts a program into the tree below root, as its
// "make install DESTDIR=root" does. root is empty at first.
type Install func(ctx context.Context, root string) error

// MakeInstall is "make build install" in the sources at repo, with further make
// variables such as "INITRAMFS=no". The initramfs part is installed unless they
// say otherwise: the machine has initramfs-tools.
func MakeInstall(repo string, vars ...string) Install {
	return func(ctx context.Context, root string) error {
		args := append([]string{"--silent", "-C", repo, "build", "install", "DESTDIR=" + root, "INITRAMFS=yes"}, vars...)
		return host{}.run(ctx, nil, "make", args...)
	}
}

// Image is a machine's root file system, kernel and initramfs, in the cache.
type Image struct {
	*entry
	host  host
	cache cache
}

const (
	rootFile   = "root.img" // ext4, sparse
	kernelFile = "vmlinuz"
	initrdFile = "initrd"
)

// rootSize is the size in bytes of the root file system.
const rootSize = 4 << 30

// keptImages is how many images stay in the cache, at 0.7 GB each.
const keptImages = 6

// builder makes bases and images.
type builder struct {
	host
	cache    cache
	kernel   kernels.Kernel
	mirror   string
	userland string   // Debian's suite; empty for kernels.Userland
	packages []string // beyond the usual ones
	install  Install
	enable   []string
}

// image returns the image with the builder's program and rootfs.
func (b builder) image(ctx context.Context, rootfs string) (*Image, error) {
	base, baseKey, err := b.base(ctx)
	if err != nil {
		return nil, err
	}
	defer base.Close()
	work, err := b.cache.temp()
	if err != nil {
		return nil, err
	}
	defer work.remove()

	own, stage := work.path("own"), work.path("stage")
	if err := errors.Join(copyGuest(own), os.Mkdir(stage, 0o755)); err != nil {
		return nil, fmt.Errorf("unpack the lab's files: %w", err)
	}
	if b.install != nil {
		if err := b.stage(ctx, stage); err != nil {
			return nil, fmt.Errorf("install bootrace: %w", err)
		}
	}
	recipe := struct {
		Version int // of the code below
		Base    string
		Enable  []string
	}{1, baseKey, b.enable}
	key, err := keyOf(recipe, own, stage, rootfs)
	if err != nil {
		return nil, err
	}
	e, err := b.cache.get(ctx, "image", key, func(dir string) error {
		return b.makeImage(ctx, dir, key, base.path("root.tar"), filepath.Join(own, "rootfs"), stage, rootfs)
	})
	if err != nil {
		return nil, fmt.Errorf("make the machine's image: %w", err)
	}
	return &Image{e, b.host, b.cache}, b.cache.keep("image", keptImages)
}

// stage installs into dir. One lab at a time: two makes would build the same
// files.
func (b builder) stage(ctx context.Context, dir string) error {
	lock, err := lockFile(ctx, filepath.Join(b.cache.dir, "install.lock"), unix.LOCK_EX)
	if err != nil {
		return err
	}
	defer lock.Close()
	b.progress.printf("installing bootrace")
	return b.install(ctx, dir)
}

func copyGuest(dir string) error {
	sub, err := fs.Sub(guest, "guest")
	if err != nil {
		return err
	}
	if err := os.CopyFS(dir, sub); err != nil {
		return err
	}
	return makeExecutable(filepath.Join(dir, "rootfs"))
}

// makeImage fills dir with the image whose root is the base with overlays
// copied over it in turn.
func (b builder) makeImage(ctx context.Context, dir, key, base string, overlays ...string) (err error) {
	tree := filepath.Join(dir, "tree")
	if err := os.Mkdir(tree, 0o755); err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, b.asRoot(context.WithoutCancel(ctx), nil, "rm", "-rf", "--one-file-system", tree))
	}()
	b.progress.printf("making the image: unpacking the base")
	if err := b.asRoot(ctx, nil, "tar", "-xpf", base, "-C", tree, "--numeric-owner"); err != nil {
		return err
	}
	for _, overlay := range overlays {
		if overlay == "" {
			continue
		}
		if err := b.copyOver(ctx, overlay, tree); err != nil {
			return err
		}
	}
	b.progress.printf("making the image: update-initramfs")
	if err := b.setUp(ctx, tree, key); err != nil {
		return err
	}
	if err := b.copyBoot(ctx, tree, dir); err != nil {
		return err
	}
	b.progress.printf("making the image: file system")
	return b.makeRoot(ctx, tree, filepath.Join(dir, rootFile))
}

// copyOver copies what is in from over to, owned by root. Where to has a
// symbolic link to a folder, as /lib is one to /usr/lib, it is followed.
func (b builder) copyOver(ctx context.Context, from, to string) error {
	packed, err := b.output(ctx, nil, "tar", "-cf", "-", "-C", from, "--owner=0", "--group=0", ".")
	if err != nil {
		return err
	}
	return b.asRoot(ctx, bytes.NewReader(packed), "tar", "-xpf", "-", "-C", to,
		"--no-overwrite-dir", "--keep-directory-symlink", "--numeric-owner")
}

// setUp runs setup.sh in the tree.
func (b builder) setUp(ctx context.Context, tree, key string) error {
	script, err := guest.ReadFile("guest/setup.sh")
	if err != nil {
		return err
	}
	args := append([]string{tree, "/usr/bin/env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "/bin/sh", "-e", "-s", key}, b.enable...)
	if err := b.asRoot(ctx, bytes.NewReader(script), "chroot", args...); err != nil {
		return fmt.Errorf("set up the machine's root: %w", err)
	}
	return nil
}

func (b builder) copyBoot(ctx context.Context, tree, dir string) error {
	kernel, err := onlyFile(tree, "boot/vmlinuz-*", "usr/lib/modules/*/vmlinuz")
	if err != nil {
		return err
	}
	initrd, err := onlyFile(tree, "boot/initrd.img-*")
	if err != nil {
		return err
	}
	packed := filepath.Join(dir, "initrd.packed")
	for from, to := range map[string]string{kernel: filepath.Join(dir, kernelFile), initrd: packed} {
		if err := b.asRoot(ctx, nil, "install", "-m", "0644", from, to); err != nil {
			return err
		}
	}
	if err := unpack(packed, filepath.Join(dir, initrdFile)); err != nil {
		return fmt.Errorf("unpack the initramfs: %w", err)
	}
	return os.Remove(packed)
}

func onlyFile(tree string, patterns ...string) (string, error) {
	for _, pattern := range patterns {
		files, err := filepath.Glob(filepath.Join(tree, pattern))
		switch {
		case err != nil:
			return "", err
		case len(files) == 1:
			return files[0], nil
		case len(files) > 1:
			return "", fmt.Errorf("the base has %d kernels: remove it from the cache", len(files))
		}
	}
	return "", fmt.Errorf("the base has no %s: remove it from the cache", patterns[0])
}

// unpack copies an initramfs, uncompressed if it was made with zstd, as
// Debian's is, or with gzip, as it is where initramfs-tools does not find the
// kernel's configuration: the emulated kernel would need seconds to do it.
func unpack(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	magic := make([]byte, 4)
	if _, err := in.ReadAt(magic, 0); err != nil {
		return err
	}
	var r io.Reader = in
	switch {
	case bytes.Equal(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		z, err := zstd.NewReader(in)
		if err != nil {
			return err
		}
		defer z.Close()
		r = z
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		z, err := gzip.NewReader(in)
		if err != nil {
			return err
		}
		defer z.Close()
		r = z
	}
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, r)
	return errors.Join(err, out.Close())
}

func (b builder) makeRoot(ctx context.Context, tree, image string) error {
	f, err := os.Create(image)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Truncate(rootSize), f.Close()); err != nil {
		return err
	}
	// The options spare the machine the work of initializing the rest later.
	return b.asRoot(ctx, nil, "mkfs.ext4", "-q", "-F", "-L", "lab-root", "-U", rootUUID, "-E", "lazy_itable_init=0,nodiscard", "-d", tree, image)
}

// rootUUID is that of the root file system, as fstab and the kernel's command
// line name it.
const rootUUID = "6c61622d-726f-4f74-a000-000000000001"
