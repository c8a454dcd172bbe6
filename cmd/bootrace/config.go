package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v2"
	"go.yaml.in/yaml/v3"

	"github.com/bootrace/bootrace/exporters/text"
	"github.com/bootrace/bootrace/tracer/config"
	"github.com/bootrace/bootrace/tracer/control"
	"github.com/bootrace/bootrace/tracer/service"
)

// configJSON is what `config --format json` prints.
type configJSON struct {
	// Files are those that were read, in order: the later one wins.
	Files  []string          `json:"files"`
	Values []configValueJSON `json:"values"`
	// NotUsed says why the running service does not use them, null where it does, or
	// none runs.
	NotUsed *string `json:"not_used"`
}

// configValueJSON is one key of the configuration.
type configValueJSON struct {
	Key   string `json:"key"`   // such as enforce.deadline
	Value string `json:"value"` // as YAML, in one line; secrets are left out
	// File and Line are where it was set last, null where it was not.
	File *string `json:"file"`
	Line *int    `json:"line"`
	// Default is set where the value is the default, wherever it was set.
	Default bool `json:"default"`
}

func configCommand() *cli.Command {
	return &cli.Command{
		Name:  "config",
		Usage: "the configuration, and where each value comes from",
		Description: "/etc/bootrace/config.yaml is read first, then the files in /etc/bootrace/config.d that end\n" +
			"in .yaml, in the order of their names. The later one wins. `bootrace check --config FILE`\n" +
			"checks a file before it is installed.",
		Flags: []cli.Flag{formatFlag(), colorFlag(), pagerFlag(),
			&cli.PathFlag{Name: "config", Value: config.Path, Usage: "read this `FILE` and the drop-ins beside it"}},
		Action: func(c *cli.Context) error {
			if err := noArgs(c); err != nil {
				return err
			}
			asJSON, err := wantJSON(c)
			if err != nil {
				return err
			}
			loaded, err := config.Read(c.Path("config"))
			if err != nil {
				return err
			}
			values, err := loaded.Values()
			if err != nil {
				return err
			}
			notUsed := ""
			if c.Path("config") == config.Path {
				notUsed = unused(c, &loaded)
			}
			if asJSON {
				return writeConfigJSON(c.App.Writer, &loaded, values, notUsed)
			}
			return paged(c, func(w io.Writer) error {
				return text.Config(w, loaded.Files, values, notUsed, output(c))
			})
		},
	}
}

// unused says why the running service does not do what the files say, empty where it
// does, as far as it tells, and where none runs.
func unused(c *cli.Context, l *config.Loaded) string {
	var st service.Status
	if askStatus(c.Context, control.Socket, statusLimit, &st) != nil {
		return ""
	}
	switch {
	case st.ConfigErr != "":
		return st.ConfigErr + "; now they can be read: `systemctl reload bootrace` applies them"
	case st.Mode != l.Mode:
		return fmt.Sprintf("it runs in mode %s: `systemctl reload bootrace` applies what changed", st.Mode)
	}
	return ""
}

func writeConfigJSON(w io.Writer, l *config.Loaded, values []config.Value, notUsed string) error {
	doc := configJSON{Files: append([]string{}, l.Files...), Values: []configValueJSON{}}
	if notUsed != "" {
		doc.NotUsed = &notUsed
	}
	for _, v := range values {
		v.Node.Style = yaml.FlowStyle
		line, err := yaml.Marshal(v.Node)
		if err != nil {
			return err
		}
		one := configValueJSON{Key: v.Key, Value: strings.TrimSpace(string(line)), Default: v.Default}
		if v.Origin != nil {
			one.File, one.Line = &v.Origin.File, &v.Origin.Line
		}
		doc.Values = append(doc.Values, one)
	}
	return writeJSON(w, doc)
}

// checkConfig says whether a file can be used as the configuration, and nothing of
// this host.
func checkConfig(c *cli.Context, path string) error {
	loaded, err := config.Read(path)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(c.App.Writer, "this version can use %s\n", strings.Join(loaded.Files, " and "))
	return err
}
