package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/bootrace/bootrace/cmd/internal/version"
)

// manualCommand writes the manual pages: of each command from its own help, of the
// configuration from the file that is installed, of the units from the units.
func manualCommand() *cli.Command {
	return &cli.Command{
		Name:      "manual",
		Usage:     "write the manual pages into a folder (`make build` runs this)",
		ArgsUsage: "FOLDER",
		Hidden:    true,
		Flags: []cli.Flag{
			&cli.PathFlag{Name: "config", Usage: "the `FILE` that is installed as config.yaml"},
			&cli.PathFlag{Name: "units", Usage: "the `FOLDER` with the units"},
			&cli.StringFlag{Name: "date", Usage: "the pages' `DATE`"},
		},
		Action: func(c *cli.Context) error {
			if c.NArg() != 1 {
				return usageError("manual takes one folder")
			}
			m := manual{app: c.App, dir: c.Args().First(), date: c.String("date")}
			return m.write(c.Path("config"), c.Path("units"))
		},
	}
}

type manual struct {
	app       *cli.App
	dir, date string
}

func (m *manual) write(config, units string) error {
	if err := os.MkdirAll(m.dir, 0o755); err != nil {
		return err
	}
	pages := []*manPage{m.overview()}
	for _, c := range m.app.VisibleCommands() {
		if c.Name != "help" {
			pages = append(pages, m.command(c))
		}
	}
	text, err := os.ReadFile(config)
	if err != nil {
		return err
	}
	pages = append(pages, m.config(string(text)))
	p, err := m.units(units)
	if err != nil {
		return err
	}
	for _, p := range append(pages, p) {
		if err := os.WriteFile(filepath.Join(m.dir, p.file()), []byte(p.text.String()), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// manPage is one page, in the language of man(7).
type manPage struct {
	name    string
	section string
	text    strings.Builder
}

func (m *manual) page(name, section, what string) *manPage {
	p := &manPage{name: name, section: section}
	fmt.Fprintf(&p.text, ".TH %s %s %s \"bootrace %s\"\n", strings.ToUpper(name), section, m.date, version.String())
	p.line(".ad l") // no wide gaps beside names that are not broken
	p.heading("NAME")
	p.line(name + " \\- " + roff(what))
	return p
}

func (p *manPage) file() string       { return p.name + "." + p.section }
func (p *manPage) heading(s string)   { p.line(".SH " + s) }
func (p *manPage) line(s string)      { p.text.WriteString(s + "\n") }
func (p *manPage) paragraph(s string) { p.line(".PP"); p.prose(s) }

// prose writes text; a line that begins with a blank stays a line.
func (p *manPage) prose(s string) {
	for line := range strings.Lines(s) {
		line = strings.TrimRight(line, " \n")
		switch {
		case line == "":
			p.line(".PP")
		case strings.HasPrefix(line, " "):
			p.line(".br")
			p.line("\\&" + roff(line))
		default:
			p.line(roff(line))
		}
	}
}

// item writes a term and what it is.
func (p *manPage) item(term, what string) {
	p.line(".TP")
	p.line("\\fB" + roff(term) + "\\fR")
	p.prose(what)
}

// roff is text as man(7) takes it.
func roff(s string) string {
	s = strings.NewReplacer(`\`, `\e`, "-", `\-`, "'", `\(aq`, "`", `\(ga`, "^", `\(ha`, "~", `\(ti`, "µ", `\(mc`, "±", `\(+-`).Replace(s)
	s = listComma.ReplaceAllString(s, `,\:$1`)
	if strings.HasPrefix(s, ".") {
		return `\&` + s
	}
	return s
}

// listComma is a comma within a list of names: a place at which a line may break.
var listComma = regexp.MustCompile(`,([a-z./])`)

func (m *manual) overview() *manPage {
	p := m.page("bootrace", "8", m.app.Usage)
	p.heading("SYNOPSIS")
	p.line("\\fBbootrace\\fR \\fICOMMAND\\fR [\\fIOPTION\\fR...] [\\fIARGUMENT\\fR...]")
	p.heading("DESCRIPTION")
	p.prose(m.app.Description)
	p.heading("COMMANDS")
	for _, c := range m.app.VisibleCommands() {
		p.item(c.Name, c.Usage)
	}
	p.heading("EXIT STATUS")
	for _, e := range exitStatuses {
		p.item(strconv.Itoa(e.status), e.means)
	}
	p.heading("FILES")
	p.item("/etc/bootrace/config.yaml", "the settings: bootrace-config(5)")
	p.item("/etc/bootrace/config.d/*.yaml", "further settings, read after it in the order of their names")
	p.item("/var/lib/bootrace", "the recorded boots; in /run/bootrace until it can be written")
	p.item("/run/bootrace/control", "where the service answers: root, and the members of group bootrace what changes nothing; they may read the recorded boots, too (usermod -aG bootrace NAME)")
	p.heading("ENVIRONMENT")
	p.item("NO_COLOR", "no colours, whatever the terminal can do")
	p.item("COLUMNS", "the width where the output is no terminal")
	p.heading("SEE ALSO")
	p.line("bootrace\\-races(8), bootrace\\-show(8), bootrace\\-config(5), bootrace.service(8)")
	return p
}

// exitStatuses are those of all commands, as exit.go has them.
var exitStatuses = []struct {
	status int
	means  string
}{
	{exitDone, "done, and nothing is wrong"},
	{exitFailed, "the command failed"},
	{exitUsage, "it was used in a wrong way"},
	{exitTrouble, "trouble: a guest that failed; a host that can't be traced, or whose guests can't be held; no waiting will help"},
	{exitNotYet, "the time was over"},
	{exitUnknown, "not known: no trouble is known, and the record is not enough to say that there was none"},
}

func (m *manual) command(c *cli.Command) *manPage {
	p := m.page("bootrace-"+c.Name, "8", c.Usage)
	p.heading("SYNOPSIS")
	p.line("\\fBbootrace " + c.Name + "\\fR [\\fIOPTION\\fR...] " + roff(c.ArgsUsage))
	p.heading("DESCRIPTION")
	what := c.Description
	if what == "" {
		what = strings.ToUpper(c.Usage[:1]) + c.Usage[1:] + "."
	}
	p.prose(what)
	if strings.Contains(c.ArgsUsage, "BOOT") {
		p.paragraph(m.app.Description)
	}
	if len(c.Flags) > 0 {
		p.heading("OPTIONS")
	}
	for _, f := range c.Flags {
		doc, ok := f.(cli.DocGenerationFlag)
		if !ok {
			continue
		}
		placeholder, usage := "VALUE", doc.GetUsage()
		if parts := strings.SplitN(usage, "`", 3); len(parts) == 3 {
			placeholder, usage = parts[1], parts[0]+parts[1]+parts[2]
		}
		var names []string
		for _, n := range f.Names() {
			names = append(names, typed(n))
		}
		term := strings.Join(names, ", ")
		if doc.TakesValue() {
			term += " " + placeholder
		}
		if d := doc.GetDefaultText(); d != "" && d != "false" && doc.TakesValue() {
			usage += " (default: " + d + ")"
		}
		p.item(term, usage)
	}
	p.heading("EXIT STATUS")
	p.line("As of all commands: bootrace(8).")
	p.heading("SEE ALSO")
	p.line("bootrace(8)")
	return p
}

// config is the file that is installed: its comments are the text, its keys stand as
// they are typed.
func (m *manual) config(text string) *manPage {
	p := m.page("bootrace-config", "5", "what bootrace does while a host boots, and where it sends that")
	p.heading("SYNOPSIS")
	p.line("/etc/bootrace/config.yaml")
	p.heading("DESCRIPTION")
	literal := false
	end := func() {
		if literal {
			p.line(".fi")
			p.line(".RE")
		}
		literal = false
	}
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, " \n")
		comment, ok := strings.CutPrefix(strings.TrimLeft(line, " "), "#")
		switch {
		case line == "":
			end()
			p.line(".PP")
		case ok:
			end()
			comment = strings.TrimPrefix(comment, " ")
			p.prose(comment)
		default:
			if !literal {
				p.line(".RS 4")
				p.line(".nf")
				literal = true
			}
			p.line("\\fB" + roff(line) + "\\fR")
		}
	}
	end()
	p.heading("SEE ALSO")
	p.line("bootrace(8), bootrace.service(8)")
	return p
}

// units are all in one page, each with its description and what its comments say.
func (m *manual) units(dir string) (*manPage, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.[st][eoa][rc]*"))
	if err != nil {
		return nil, err
	}
	slices.Sort(files)
	p := m.page("bootrace.service", "8", "the units that trace a host, send its boots and serve its metrics")
	p.heading("DESCRIPTION")
	p.line("None is enabled by itself: `systemctl enable \\-\\-now bootrace` starts tracing.")
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		var what strings.Builder
		for line := range strings.Lines(string(text)) {
			if d, ok := strings.CutPrefix(line, "Description="); ok {
				what.WriteString(strings.TrimSpace(d) + ".\n")
			} else if c, ok := strings.CutPrefix(line, "# "); ok {
				what.WriteString(strings.TrimSpace(c) + "\n")
			}
		}
		p.item(filepath.Base(file), what.String())
	}
	p.heading("SEE ALSO")
	p.line("bootrace(8), bootrace\\-config(5), systemd(1)")
	return p, nil
}
