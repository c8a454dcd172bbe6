package prometheus

import (
	"bytes"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/bootrace/bootrace/exporters/words"
)

// page is a page of metrics in the text format, version 0.0.4.
//
// https://prometheus.io/docs/instrumenting/exposition_formats
type page struct{ b bytes.Buffer }

// line is one sample: its labels, as written, and its value.
type line struct {
	labels string
	value  float64
}

// sample is a value with its labels, as name and value in turn.
func sample(value float64, labels ...string) line {
	var b strings.Builder
	for i := 0; i+1 < len(labels); i += 2 {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(labels[i])
		b.WriteString(`="`)
		b.WriteString(escape.Replace(words.Clean(labels[i+1])))
		b.WriteByte('"')
	}
	return line{b.String(), value}
}

// escape is for label values, which may be foreign.
var escape = strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`)

func (p *page) gauge(name, help string, lines ...line)   { p.family(name, help, "gauge", lines) }
func (p *page) counter(name, help string, lines ...line) { p.family(name, help, "counter", lines) }

func (p *page) family(name, help, kind string, lines []line) {
	if len(lines) == 0 {
		return
	}
	p.head(name, help, kind)
	for _, l := range lines {
		p.line(name, l)
	}
}

func (p *page) head(name, help, kind string) {
	fmt.Fprintf(&p.b, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind)
}

func (p *page) line(name string, l line) {
	p.b.WriteString(name)
	if l.labels != "" {
		p.b.WriteString("{" + l.labels + "}")
	}
	p.b.WriteString(" " + float(l.value) + "\n")
}

func (p *page) histogram(name, help string, d *distribution) {
	p.head(name, help, "histogram")
	var count uint64
	for i, n := range d.counts {
		count += n
		bound := infinity
		if i < len(d.bounds) {
			bound = d.bounds[i]
		}
		p.line(name+"_bucket", sample(float64(count), "le", float(bound)))
	}
	p.line(name+"_sum", sample(d.sum))
	p.line(name+"_count", sample(float64(count)))
}

func float(v float64) string {
	if v == infinity {
		return "+Inf"
	}
	return strconv.FormatFloat(v, 'g', -1, 64)
}

func (p *page) flush(w io.Writer) error {
	if _, err := w.Write(p.b.Bytes()); err != nil {
		return fmt.Errorf("write metrics: %w", err)
	}
	return nil
}
