package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/bootrace/bootrace/kernels"
	"github.com/bootrace/bootrace/tracer/emulate"
)

// Foreign is a program to run on a kernel of another architecture, with nothing
// else around it: no disk, no userland.
type Foreign struct {
	// Arch is the architecture, by the name that Debian and Go have for it.
	Arch string
	// Kernel is the name of one of the kernels; empty means kernels.Default.
	Kernel string
	// Program is a static program of that architecture.
	Program string
	Args    []string
	// Repo is the root of the sources, Out the folder for console.log.
	Repo, Out string
	// Timeout bounds the time of the machine; 0 means 10 minutes.
	Timeout time.Duration
	// Cache, Mirror and Progress are as in Options.
	Cache, Mirror string
	Progress      io.Writer
}

// foreignMachine is how QEMU has a machine of an architecture.
type foreignMachine struct {
	tool    tool
	machine string
	console string
}

var foreignMachines = map[string]foreignMachine{
	"arm64": {tool{"qemu-system-aarch64", "qemu-system-arm"}, "virt", "ttyAMA0"},
}

// foreignMemory is the machine's, in MiB.
const foreignMemory = "1024"

// RunForeign runs the program and returns its exit status.
func RunForeign(ctx context.Context, f Foreign) (int, error) {
	qemu, ok := foreignMachines[f.Arch]
	if !ok {
		return 0, fmt.Errorf("architecture %q is not one that the lab has machines of", f.Arch)
	}
	kernel, err := kernels.Find(f.Kernel)
	if err != nil {
		return 0, err
	}
	c, err := openCache(f.Cache)
	if err != nil {
		return 0, err
	}
	b := builder{host: host{progress: newProgress(f.Progress)}, cache: c, kernel: kernel, mirror: f.Mirror}
	if err := b.need(ctx, []tool{{"mmdebstrap", "mmdebstrap"}, {"cpio", "cpio"}, qemu.tool}); err != nil {
		return 0, err
	}
	image, err := b.foreignKernel(ctx, f.Arch)
	if err != nil {
		return 0, err
	}
	defer image.Close()
	work, err := c.temp()
	if err != nil {
		return 0, err
	}
	defer work.remove()
	initrd, err := b.foreignInitrd(ctx, f, work.dir)
	if err != nil {
		return 0, err
	}
	return b.runForeign(ctx, f, qemu, image.path(kernelFile), initrd)
}

// foreignKernel returns the entry that has Debian's kernel of that architecture.
func (b builder) foreignKernel(ctx context.Context, arch string) (*entry, error) {
	pkg := strings.TrimSuffix(b.kernel.Package, "amd64") + arch
	key, err := keyOf(struct {
		Version              int
		Arch, Suite, Package string
	}{1, arch, b.kernel.Suite, pkg})
	if err != nil {
		return nil, err
	}
	e, err := b.cache.get(ctx, "foreign", key, func(dir string) (err error) {
		b.progress.printf("fetching %s of Debian %s (a minute, once)", pkg, b.kernel.Suite)
		archives, err := b.archives(ctx)
		if err != nil {
			return err
		}
		tree := filepath.Join(dir, "tree")
		defer func() { err = errors.Join(err, b.asRoot(context.WithoutCancel(ctx), nil, "rm", "-rf", tree)) }()
		// A mirror's copy of sid can be past its Valid-Until; it is signed all the same.
		source := "deb [check-valid-until=no] " + archives.main + " " + b.kernel.Suite + " main\n"
		// Unpacked only: scripts of another architecture can't be run here.
		if err := b.asRoot(ctx, strings.NewReader(source), "mmdebstrap", "--quiet", "--variant=extract", "--format=directory",
			"--architectures="+arch, "--include="+pkg, b.kernel.Suite, tree, "-"); err != nil {
			return err
		}
		found, err := onlyFile(tree, "boot/vmlinuz-*", "usr/lib/modules/*/vmlinuz")
		if err != nil {
			return err
		}
		return b.asRoot(ctx, nil, "install", "-m", "0644", found, filepath.Join(dir, kernelFile))
	})
	if err != nil {
		return nil, fmt.Errorf("fetch the kernel %s of %s: %w", b.kernel.Name, arch, err)
	}
	return e, nil
}

// foreignInitrd makes an initramfs of the program and an init that runs it.
func (b builder) foreignInitrd(ctx context.Context, f Foreign, dir string) (string, error) {
	tree, initrd := filepath.Join(dir, "tree"), filepath.Join(dir, initrdFile)
	if err := os.Mkdir(tree, 0o755); err != nil {
		return "", err
	}
	if err := b.run(ctx, nil, "env", "CGO_ENABLED=0", "GOARCH="+f.Arch, "go", "build", "-C", f.Repo,
		"-o", filepath.Join(tree, "init"), "./kernels/lab/init"); err != nil {
		return "", fmt.Errorf("build the init of the foreign machine: %w", err)
	}
	if err := b.run(ctx, nil, "install", "-m", "0755", f.Program, filepath.Join(tree, "program")); err != nil {
		return "", err
	}
	if err := os.WriteFile(filepath.Join(tree, "arguments"), []byte(strings.Join(f.Args, "\n")+"\n"), 0o600); err != nil {
		return "", err
	}
	packed, err := b.output(ctx, strings.NewReader("init\nprogram\narguments\n"), "cpio", "--quiet", "-o", "-H", "newc", "-R", "0:0", "-D", tree)
	if err != nil {
		return "", fmt.Errorf("pack the initramfs of the foreign machine: %w", err)
	}
	return initrd, os.WriteFile(initrd, packed, 0o600)
}

var foreignEnd = regexp.MustCompile(`(?m)^program ended with status (\d+)\r?$`)

func (b builder) runForeign(ctx context.Context, f Foreign, qemu foreignMachine, kernel, initrd string) (int, error) {
	timeout := f.Timeout
	if timeout == 0 {
		timeout = 10 * time.Minute
	}
	if err := os.MkdirAll(f.Out, 0o755); err != nil {
		return 0, err
	}
	console := filepath.Join(f.Out, "console.log")
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("the machine was not done after %v: look at %s", timeout, console))
	defer cancel()
	b.progress.printf("booting kernel %s of %s; its console is %s", b.kernel.Name, f.Arch, console)
	err := b.run(ctx, nil, qemu.tool.name, "-no-user-config", "-nodefaults", "-display", "none", "-no-reboot",
		"-machine", qemu.machine, "-accel", "tcg", "-cpu", "max", "-smp", "1", "-m", foreignMemory,
		"-kernel", kernel, "-initrd", initrd, "-append", "quiet panic=-1 console="+qemu.console,
		"-chardev", "file,id=console,path="+emulate.Quote(console), "-serial", "chardev:console")
	if err != nil {
		return 0, fmt.Errorf("run QEMU: %w", err)
	}
	text, err := os.ReadFile(console)
	if err != nil {
		return 0, err
	}
	end := foreignEnd.FindSubmatch(text)
	if end == nil {
		return 0, fmt.Errorf("the machine ended before its program: %s%s", console, quoted(lastLines(string(text), 5)))
	}
	return strconv.Atoi(string(end[1]))
}
