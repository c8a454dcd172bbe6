package text

import (
	"fmt"
	"io"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/bootrace/bootrace/exporters/words"
	"github.com/bootrace/bootrace/tracer/config"
)

// commentCol is where the origins of short values stand.
const commentCol = 32

// Config writes a configuration as YAML, with a comment at each key that says where it
// was set. notUsed says why the running service does not use it, empty where it does.
func Config(w io.Writer, files []string, values []config.Value, notUsed string, opts Options) error {
	p := newPrinter(w, opts)
	var from paragraph
	switch {
	case len(files) == 0:
		from.Say("# There is no configuration file: these are the defaults.", dim)
	default:
		from.Say("# From", dim)
		for i, file := range files {
			if i > 0 {
				from.Say("then", dim)
			}
			from.Add(p.name(file, words.PathCols), dim)
		}
	}
	p.comment(from)
	if notUsed != "" {
		var t paragraph
		t.Say("# The running service does not use this: "+p.clean(notUsed), warn)
		p.comment(t)
	}
	section := ""
	for _, v := range values {
		parts := strings.Split(v.Key, ".")
		indent := strings.Repeat("  ", len(parts)-1)
		if before := strings.Join(parts[:len(parts)-1], "."); before != section {
			if section = before; before != "" {
				p.line(styled(before+":", strong))
			}
		}
		text, err := yaml.Marshal(v.Node)
		if err != nil {
			return fmt.Errorf("write the configuration: %s: %w", v.Key, err)
		}
		lines := strings.Split(strings.TrimRight(string(text), "\n"), "\n")
		key := indent + parts[len(parts)-1] + ":"
		st, origin := strong, "default"
		if v.Origin != nil {
			origin = fmt.Sprintf("%s:%d", p.name(v.Origin.File, words.PathCols), v.Origin.Line)
		}
		if v.Default {
			st = plain
			if v.Origin != nil {
				origin += ", the default"
			}
		}
		if len(lines) == 1 && v.Node.Kind == yaml.ScalarNode || len(lines) == 1 && len(v.Node.Content) == 0 {
			key += " " + p.clean(lines[0])
			lines = nil
		}
		p.line(styled(pad(key, commentCol), st), styled(" # "+origin, dim))
		for _, line := range lines {
			p.line(styled(indent+"  "+p.clean(line), st))
		}
	}
	return p.flush()
}

// comment writes a paragraph whose further lines are comments, too.
func (p *printer) comment(t paragraph) {
	var line paragraph
	used := 0
	for _, w := range t.Words {
		if n := wordColumns(w); used > 0 && used+1+n > p.width {
			p.write(line, 0)
			line = paragraph{}
			line.Add("#", dim)
			used = 2
		}
		line.Words = append(line.Words, w)
		used += wordColumns(w) + 1
	}
	p.write(line, 0)
}
