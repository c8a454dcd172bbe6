package guest

import (
	compare "cmp"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
)

var update = flag.Bool("update", false, "write what Parse returns into testdata; read the difference before you commit it")

// TestCases runs the command lines in testdata. An archive has two files a
// case: NAME, a line for each option with its value, and NAME.want, what
// describe makes of the Guest. A file called NAME.conf is what a command
// line reads as NAME, or NAME.conf. Names that begin with "renamed" are of programs that the configuration
// names.
func TestCases(t *testing.T) {
	archives, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(archives) == 0 {
		t.Fatalf("find test cases: %v, %d archives", err, len(archives))
	}
	for _, path := range archives {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) { runArchive(t, path) })
	}
}

func runArchive(t *testing.T, path string) {
	archive, err := txtar.ParseFile(path)
	if err != nil {
		t.Fatal(err)
	}
	parser := Parser{ReadFile: archiveReader(archive)}
	out := &txtar.Archive{Comment: archive.Comment}
	for _, f := range archive.Files {
		switch {
		case strings.HasSuffix(f.Name, ".want"):
			continue
		case strings.HasSuffix(f.Name, ".conf"):
			out.Files = append(out.Files, f)
			continue
		}
		args := commandLine(string(f.Data))
		parser.Watched = strings.HasPrefix(f.Name, "renamed")
		got := describe(parser.Parse(args))
		out.Files = append(out.Files, f, txtar.File{Name: f.Name + ".want", Data: []byte(got)})
		parser := parser
		t.Run(f.Name, func(t *testing.T) {
			if diff := cmp.Diff(content(archive, f.Name+".want"), got); diff != "" && !*update {
				t.Errorf("wrong guest (-want +got):\n%s", diff)
			}
			checkRedaction(t, parser, args)
		})
	}
	if *update {
		if err := os.WriteFile(path, txtar.Format(out), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// checkRedaction is the property of Redact: nothing that Parse tells is lost,
// and a second time changes nothing.
func checkRedaction(t testing.TB, parser Parser, args []string) {
	t.Helper()
	once := parser.Redact(args)
	if diff := cmp.Diff(once, parser.Redact(once)); diff != "" {
		t.Errorf("Redact changes its own result:\n%s", diff)
	}
	if diff := cmp.Diff(parser.Parse(args), parser.Parse(once)); diff != "" {
		t.Errorf("Parse understands another guest after Redact:\n%s", diff)
	}
}

func archiveReader(archive *txtar.Archive) func(string) ([]byte, error) {
	return func(path string) ([]byte, error) {
		name := strings.TrimSuffix(filepath.Base(path), ".conf") + ".conf"
		if text := content(archive, name); text != "" {
			return []byte(text), nil
		}
		return nil, errors.New("no such file")
	}
}

func content(archive *txtar.Archive, name string) string {
	for _, f := range archive.Files {
		if f.Name == name {
			return string(f.Data)
		}
	}
	return ""
}

// commandLine reads the form of testdata: argv[0], then a line for each option,
// whose value is all that follows its first space.
func commandLine(text string) []string {
	var args []string
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if name, value, ok := strings.Cut(line, " "); ok && (strings.HasPrefix(line, "-") || name == "|") {
			if name != "|" {
				args = append(args, name)
			}
			args = append(args, value)
		} else {
			args = append(args, line)
		}
	}
	return args
}

// describe writes a Guest in few words.
func describe(g Guest) string {
	var b strings.Builder
	if g.IsGuest {
		fmt.Fprintf(&b, "guest %q\n", g.Name)
	} else {
		fmt.Fprintf(&b, "not a guest: %s\n", g.NotGuest)
	}
	if g.IsGuest && g.Hypervisor != "qemu" {
		fmt.Fprintf(&b, "of %s\n", compare.Or(g.Hypervisor, "an unknown program"))
	}
	if g.Unknown != "" {
		fmt.Fprintf(&b, "unknown: %s\n", g.Unknown)
	}
	if g.Identity.Kind != "" {
		fmt.Fprintf(&b, "identity %s from %s\n", g.Identity, g.Identity.From)
	}
	if g.Daemonize {
		b.WriteString("daemonize\n")
	}
	if g.Snapshot {
		b.WriteString("snapshot\n")
	}
	if g.Incoming != "" {
		fmt.Fprintf(&b, "incoming %s\n", g.Incoming)
	}
	for _, d := range g.Disks {
		what := string(d.Kind)
		if d.Device != "" {
			what += " on " + strings.TrimSpace(d.Device+" "+d.DeviceID)
		}
		if d.Serial != "" {
			what += ", serial " + d.Serial
		}
		if d.Snapshot {
			what += ", snapshot"
		}
		fmt.Fprintf(&b, "%s (%s)", d.ID, what)
		describeImage(&b, &d.Image, "", "    ")
	}
	if len(g.Taps) > 0 {
		fmt.Fprintf(&b, "taps %s\n", strings.Join(g.Taps, " "))
	}
	for _, p := range g.NotUnderstood {
		fmt.Fprintf(&b, "not understood: %s: %s\n", p.Arg, p.Reason)
	}
	return b.String()
}

func describeImage(b *strings.Builder, i *Image, role, indent string) {
	b.WriteString(role + ":")
	if i.Storage != StorageFile {
		b.WriteString(" " + strings.TrimSpace(string(i.Storage)+" "+i.Protocol))
	}
	format := i.Format
	if format == "" && i.Storage != StorageNone {
		format = "probed"
	}
	for _, s := range []string{format, i.Path} {
		if s != "" {
			b.WriteString(" " + s)
		}
	}
	for _, flag := range []struct {
		set  bool
		text string
	}{
		{i.Node != "", "node=" + i.Node},
		{i.Offset != 0, fmt.Sprintf("offset=%d", i.Offset)},
		{i.ReadOnly, "ro"},
		{i.NoBacking, "no-backing"},
		{i.Needs, "needed"},
	} {
		if flag.set {
			b.WriteString(" " + flag.text)
		}
	}
	if i.FD != nil {
		fmt.Fprintf(b, " fdset=%d fds=%v %q", i.FD.Set, i.FD.FDs, i.FD.Opaque)
	}
	b.WriteString("\n")
	describeBelow(b, i, indent)
}

func describeBelow(b *strings.Builder, i *Image, indent string) {
	for n := range i.Members {
		describeImage(b, &i.Members[n], indent+"member", indent+"    ")
	}
	if i.DataFile != nil {
		describeImage(b, i.DataFile, indent+"data file", indent+"    ")
	}
	for n := range i.Backing {
		describeImage(b, &i.Backing[n], indent+"backing", indent+"    ")
	}
}
