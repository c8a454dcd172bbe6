// Package report packs what somebody needs who helps from afar into one file, and reads
// the boots out of such a file again.
//
// The file is a tar archive, compressed with zstd: the logs of the last boots, what
// bootrace says of the host and of itself, the journal of its units, the settings of
// LVM and udev, the units that the boots name, and versions. Logs have lost their
// secrets when they were recorded; everything else loses them here, line by line, by
// the same rules (guest.RedactText). With Options.Anonymize names become placeholders,
// the same one wherever a name stands.
//
// What could not be had is in the file, too, with the reason: not found is a different
// thing from not looked for.
package report

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/klauspost/compress/zstd"

	"github.com/bootrace/bootrace/tracer/bootlog"
	"github.com/bootrace/bootrace/tracer/guest"
)

// Bounds, so that a report can be mailed, and asking for one costs a host little.
const (
	maxItem     = 4 << 20          // of one file that is no log, in bytes
	itemTimeout = 15 * time.Second // of one command
	maxUnits    = 40               // that boots name
)

// Item is a file that is put in beside the logs.
type Item struct {
	Name string // in the archive, such as "status.json"
	Data []byte
	Err  error // why it is not there
}

// Options say what goes in.
type Options struct {
	// Boots are those whose logs go in, the latest first.
	Boots []bootlog.Boot
	// MaxLogs is how many bytes all logs together may have before they are packed. The
	// logs that come later in Boots are left out, and that is said.
	MaxLogs int64
	// Items go in as they are, but for their secrets.
	Items []Item
	// Anonymize has placeholders in the place of names.
	Anonymize bool
	// Root is where files are read below, "/" on a host. Run runs a command, nil: this
	// host's.
	Root string
	Run  func(ctx context.Context, name string, args ...string) ([]byte, error)
	Now  time.Time
}

// Entry is what a report says of one of its files.
type Entry struct {
	Name string
	Size int64 // bytes, before they are packed
	What string
	Err  error // why it is not in it
}

// Write writes a report, and returns what is in it and what is not.
func Write(ctx context.Context, w io.Writer, o Options) ([]Entry, error) {
	z, err := zstd.NewWriter(w, zstd.WithEncoderConcurrency(1))
	if err != nil {
		return nil, err
	}
	r := &writer{ctx: ctx, o: o, tar: tar.NewWriter(z), units: slices.Clone(ownUnits)}
	if r.o.Run == nil {
		r.o.Run = run
	}
	r.names = newNames(o.Anonymize)
	for i := range o.Boots {
		r.learn(&o.Boots[i])
	}
	for _, step := range []func() error{r.logs, r.items, r.commands, r.settings, r.contents} {
		if err := step(); err != nil {
			return nil, fmt.Errorf("write the report: %w", err)
		}
	}
	if err := errors.Join(r.tar.Close(), z.Close()); err != nil {
		return nil, fmt.Errorf("write the report: %w", err)
	}
	return r.entries, nil
}

// ownUnits are those whose journals go in.
var ownUnits = []string{"bootrace.service", "bootrace-early.service", "bootrace-deliver.service", "bootrace-metrics.service", "bootrace-flush.service"}

type writer struct {
	ctx     context.Context
	o       Options
	tar     *tar.Writer
	names   *names
	units   []string
	entries []Entry
}

// learn finds in a boot's log the names that are to be replaced, and the units that
// acted in it.
func (r *writer) learn(b *bootlog.Boot) {
	log, err := b.Open()
	if err != nil {
		return // logs says so
	}
	defer log.Close()
	h := log.Header()
	r.names.host(h.HostName)
	r.names.boot(h.BootID)
	for e, err := range log.Events() {
		if err != nil {
			return
		}
		if e.Proc != nil && e.Proc.Unit != "" && len(r.units) < len(ownUnits)+maxUnits && isUnit(e.Proc.Unit) && !slices.Contains(r.units, e.Proc.Unit) {
			r.units = append(r.units, e.Proc.Unit)
		}
		r.names.learn(&e)
	}
}

// isUnit reports whether a name from a record can be a unit's, and no option.
func isUnit(name string) bool {
	return !strings.HasPrefix(name, "-") && !strings.ContainsAny(name, "/ \t\n") && strings.Contains(name, ".")
}

// put adds one file.
func (r *writer) put(name, what string, data []byte) error {
	h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o600, Size: int64(len(data)), ModTime: r.o.Now, Format: tar.FormatPAX}
	if err := r.tar.WriteHeader(h); err != nil {
		return err
	}
	if _, err := r.tar.Write(data); err != nil {
		return err
	}
	r.entries = append(r.entries, Entry{Name: name, Size: int64(len(data)), What: what})
	return nil
}

// text is put for what is foreign: cut to its bound, without secrets, and, where that is
// asked for, without names.
func (r *writer) text(name, what string, data []byte) error {
	cut := len(data) > maxItem
	if cut {
		data = data[:maxItem]
	}
	var out bytes.Buffer
	for line := range strings.Lines(string(data)) {
		out.WriteString(r.names.replace(redactLine(line)))
	}
	if cut {
		fmt.Fprintf(&out, "\n[bootrace: cut after %s]\n", humanize.IBytes(maxItem))
	}
	return r.put(name, what, out.Bytes())
}

// redactLine is guest.RedactText, and takes the values of a unit's environment.
func redactLine(line string) string {
	trimmed := strings.TrimLeft(line, " \t")
	for _, setting := range []string{"Environment=", "SetCredential=", "SetCredentialEncrypted="} {
		if strings.HasPrefix(trimmed, setting) {
			return setting + guest.Redacted + "\n"
		}
	}
	return guest.RedactText(line)
}

func (r *writer) missing(name, what string, err error) {
	r.entries = append(r.entries, Entry{Name: name, What: what, Err: err})
}

// logs are put as they are stored, or rewritten without names.
func (r *writer) logs() error {
	left := r.o.MaxLogs
	for i := range r.o.Boots {
		b := &r.o.Boots[i]
		name, what := logPrefix+b.ID+logSuffix, "the log of a boot"
		if !bootID.MatchString(b.ID) {
			r.missing(name, what, errors.New("its id is none of a boot"))
			continue
		}
		data, err := r.log(b, left)
		if errors.Is(err, errFull) {
			r.missing(name, what, fmt.Errorf("the logs together would be larger than %s: --max-size takes more", humanize.IBytes(uint64(r.o.MaxLogs))))
			continue
		}
		if err != nil {
			r.missing(name, what, err)
			continue
		}
		left -= int64(len(data))
		if err := r.put(name, what, data); err != nil {
			return err
		}
	}
	return nil
}

var errFull = errors.New("full")

// log is a boot's log as lines, at most limit bytes of it. What can't be read is left
// out, and shows as lost when the log is read again, because its numbers are missing.
func (r *writer) log(b *bootlog.Boot, limit int64) ([]byte, error) {
	log, err := b.Open()
	if err != nil {
		return nil, err
	}
	defer log.Close()
	h := log.Header()
	h.HostName = r.names.replace(h.HostName)
	var out bytes.Buffer
	lines := json.NewEncoder(&out)
	lines.SetEscapeHTML(false)
	if err := lines.Encode(h); err != nil {
		return nil, err
	}
	for e, err := range log.Events() {
		if err != nil {
			return nil, err
		}
		if e.ID == 0 { // said by the reader, and again by whoever reads this
			continue
		}
		changed, err := r.names.change(&e)
		if err != nil {
			return nil, err
		}
		if err := lines.Encode(changed); err != nil {
			return nil, err
		}
		if int64(out.Len()) > limit {
			return nil, errFull
		}
	}
	return out.Bytes(), nil
}

func (r *writer) items() error {
	for _, item := range r.o.Items {
		if item.Err != nil {
			r.missing(item.Name, "what bootrace says", item.Err)
			continue
		}
		if err := r.text(item.Name, "what bootrace says", item.Data); err != nil {
			return err
		}
	}
	return nil
}

// command is one whose output goes in.
type command struct {
	name, what string
	args       []string
}

func (r *writer) commands() error {
	journal := []string{"journalctl", "--no-pager", "--boot", "--output", "short-monotonic", "--lines", "20000"}
	for _, u := range ownUnits {
		journal = append(journal, "--unit", u)
	}
	list := []command{
		{"journal.txt", "the journal of bootrace's units, this boot", journal},
		{"journal-kernel.txt", "the kernel's messages, this boot", []string{"journalctl", "--no-pager", "--boot", "--dmesg", "--output", "short-monotonic", "--lines", "5000"}},
		{"units.txt", "the units of bootrace, and those that acted in the boots", append([]string{"systemctl", "cat", "--no-pager", "--"}, r.units...)},
		{"units-failed.txt", "units that failed", []string{"systemctl", "--no-pager", "--plain", "--failed"}},
		{"versions/kernel.txt", "versions", []string{"uname", "-srvm"}},
		{"versions/systemd.txt", "versions", []string{"systemctl", "--version"}},
		{"versions/lvm.txt", "versions", []string{"lvm", "version"}},
		{"versions/libvirt.txt", "versions", []string{"libvirtd", "--version"}},
		{"lvm/lvmconfig.txt", "LVM's settings that are not the defaults", []string{"lvmconfig", "--typeconfig", "diff"}},
		{"lvm/lvs.txt", "volumes, and what keeps them from being activated", []string{"lvs", "-a", "--readonly", "-o", "lv_name,vg_name,lv_attr,lv_size,lv_active,lv_skip_activation,segtype,devices"}},
		{"lvm/pvs.txt", "physical volumes", []string{"pvs", "-a", "--readonly"}},
		{"lsblk.txt", "block devices", []string{"lsblk", "-o", "NAME,KNAME,TYPE,SIZE,RO,FSTYPE,MOUNTPOINT"}},
	}
	for _, c := range list {
		ctx, cancel := context.WithTimeout(r.ctx, itemTimeout)
		out, err := r.o.Run(ctx, c.args[0], c.args[1:]...)
		if ctx.Err() != nil && r.ctx.Err() == nil {
			err = fmt.Errorf("%s gave no answer in %s", c.args[0], itemTimeout)
		}
		cancel()
		if r.ctx.Err() != nil {
			return context.Cause(r.ctx)
		}
		if len(out) == 0 {
			if err == nil {
				err = errors.New("there is none")
			}
			r.missing(c.name, c.what, err)
			continue
		}
		if err != nil { // it says what it has beside what it has not
			out = fmt.Appendf(out, "\n[bootrace: %s: %v]\n", c.args[0], err)
		}
		if err := r.text(c.name, c.what, out); err != nil {
			return err
		}
	}
	return nil
}

// run runs a command of this host, which gives way to everything else.
func run(ctx context.Context, name string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = []string{"LC_ALL=C.UTF-8", "LVM_SUPPRESS_FD_WARNINGS=1", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	cmd.WaitDelay = 2 * time.Second
	out := &head{most: maxItem + 1}
	cmd.Stdout, cmd.Stderr = out, out
	err := cmd.Run()
	if errors.Is(err, exec.ErrNotFound) {
		err = fmt.Errorf("%s is not installed", name)
	}
	return out.kept.Bytes(), err
}

// head keeps the beginning of what is written to it.
type head struct {
	kept bytes.Buffer
	most int
}

func (h *head) Write(p []byte) (int, error) {
	h.kept.Write(p[:min(len(p), max(h.most-h.kept.Len(), 0))])
	return len(p), nil
}

// settings are files that say how this host is set up.
func (r *writer) settings() error {
	for _, pattern := range []struct{ glob, what string }{
		{"etc/os-release", "versions"},
		{"etc/lvm/lvm.conf", "LVM's settings"}, {"etc/lvm/lvmlocal.conf", "LVM's settings"}, {"etc/lvm/devices/system.devices", "LVM's settings"},
		{"etc/udev/udev.conf", "udev's settings"}, {"etc/udev/rules.d/*.rules", "udev's rules of this host"},
		{"etc/initramfs-tools/initramfs.conf", "how the initramfs is made"}, {"etc/dracut.conf", "how the initramfs is made"}, {"etc/dracut.conf.d/*.conf", "how the initramfs is made"},
		{"proc/cmdline", "the kernel's command line"}, {"run/bootrace/early.log", "what the start in the initramfs said"},
	} {
		files, err := filepath.Glob(filepath.Join(r.o.Root, pattern.glob))
		if err != nil {
			return err
		}
		if len(files) == 0 && !strings.Contains(pattern.glob, "*") {
			r.missing("files/"+pattern.glob, pattern.what, errors.New("there is none"))
		}
		const most = 64
		for i, file := range files {
			name, err := filepath.Rel(r.o.Root, file)
			if err != nil {
				return err
			}
			if i == most {
				r.missing("files/"+pattern.glob, pattern.what, fmt.Errorf("%d more files", len(files)-most))
				break
			}
			data, err := readHead(file)
			if err != nil {
				r.missing("files/"+name, pattern.what, err)
				continue
			}
			if err := r.text("files/"+name, pattern.what, data); err != nil {
				return err
			}
		}
	}
	return nil
}

// readHead reads the beginning of a file, of nothing else: a pipe would have it wait.
func readHead(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, errors.Unwrap(err)
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("it is no file")
	}
	f, err := os.Open(path)
	if err != nil {
		var pathErr *fs.PathError
		if errors.As(err, &pathErr) {
			err = pathErr.Err
		}
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxItem+1))
}

// contents says what is in the report, and what is not.
func (r *writer) contents() error {
	var b strings.Builder
	fmt.Fprintf(&b, "A report of bootrace, made at %s.\n\n", r.o.Now.UTC().Format(time.RFC3339))
	b.WriteString("bootrace boots FILE lists the boots in it, bootrace races FILE judges the last one,\n" +
		"bootrace races FILE:-1 the one before.\n\n")
	b.WriteString(r.names.told())
	Contents(&b, r.entries)
	return r.put("README.txt", "this list", []byte(b.String()))
}

// Contents writes what is in a report, and what is not and why.
func Contents(w io.Writer, entries []Entry) {
	for _, e := range entries {
		if e.Err == nil {
			fmt.Fprintf(w, "%10s  %-40s  %s\n", humanize.IBytes(uint64(e.Size)), e.Name, e.What)
		}
	}
	fmt.Fprintln(w, "\nNot in it:")
	for _, e := range entries {
		if e.Err != nil {
			fmt.Fprintf(w, "%10s  %-40s  %s\n", "", e.Name, e.Err)
		}
	}
}
