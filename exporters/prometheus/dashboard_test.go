package prometheus

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/bootrace/bootrace/exporters/internal/samples"
)

const dashboard = "../../packaging/grafana/bootrace.json"

// panel is as much of a Grafana panel as says what it asks for.
type panel struct {
	ID      int    `json:"id"`
	Title   string `json:"title"`
	Type    string `json:"type"`
	GridPos struct {
		H, W, X, Y int
	} `json:"gridPos"`
	Targets []struct {
		Expr   string `json:"expr"`
		Legend string `json:"legendFormat"`
	} `json:"targets"`
}

func loadDashboard(t *testing.T) (panels []panel, variables []string) {
	t.Helper()
	text, err := os.ReadFile(dashboard)
	if err != nil {
		t.Fatal(err)
	}
	var d struct {
		Panels     []panel `json:"panels"`
		Templating struct {
			List []struct {
				Name       string `json:"name"`
				Definition string `json:"definition"`
			} `json:"list"`
		} `json:"templating"`
	}
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	for _, v := range d.Templating.List {
		variables = append(variables, v.Definition)
	}
	return d.Panels, variables
}

// exported are the labels of each series that Write writes, and the values that each
// label has, over everything that there can be.
func exported(t *testing.T) map[string]map[string]map[string]bool {
	t.Helper()
	metrics := map[string]map[string]map[string]bool{}
	line := regexp.MustCompile(`^([a-z_]+)(?:\{(.*)\})? `)
	for _, name := range []string{"demo", "held", "kinds", "verdicts"} {
		stats := whole(samples.Load(t, name))
		for _, mode := range []string{"trace", "enforce"} {
			stats.Service.Mode = mode
			for text := range strings.Lines(write(t, stats)) {
				m := line.FindStringSubmatch(text)
				if m == nil || strings.HasPrefix(text, "#") {
					continue
				}
				if metrics[m[1]] == nil {
					metrics[m[1]] = map[string]map[string]bool{}
				}
				for _, l := range label.FindAllStringSubmatch(m[2], -1) {
					if metrics[m[1]][l[1]] == nil {
						metrics[m[1]][l[1]] = map[string]bool{}
					}
					metrics[m[1]][l[1]][l[3]] = true
				}
			}
		}
	}
	return metrics
}

var (
	label    = regexp.MustCompile(`([a-z_]+)(=|!=|=~|!~)"([^"]*)"`)
	selector = regexp.MustCompile(`\b(bootrace_[a-z_]+)(\{[^}]*\})?`)
	by       = regexp.MustCompile(`\bby \(([^)]*)\)`)
	legend   = regexp.MustCompile(`\{\{ *([a-z_]+) *\}\}`)
)

// scraped are the labels that Prometheus adds.
var scraped = []string{"job", "instance"}

// Each metric, label and value that the dashboard names is one that is exported.
func TestDashboard(t *testing.T) {
	metrics := exported(t)
	panels, variables := loadDashboard(t)
	if len(panels) < 15 || len(variables) < 3 {
		t.Fatalf("%d panels, %d variables", len(panels), len(variables))
	}
	for _, v := range variables {
		for _, m := range selector.FindAllStringSubmatch(v, -1) {
			if metrics[m[1]] == nil {
				t.Errorf("variable %s: no metric %s is exported", v, m[1])
			}
		}
	}
	ids := map[int]bool{}
	for _, p := range panels {
		if ids[p.ID] || p.GridPos.X+p.GridPos.W > 24 {
			t.Errorf("%s: its id or place is not its own: %+v", p.Title, p)
		}
		ids[p.ID] = true
		if p.Type != "row" && len(p.Targets) == 0 {
			t.Errorf("%s asks for nothing", p.Title)
		}
		for _, target := range p.Targets {
			labels := slices.Clone(scraped)
			found := selector.FindAllStringSubmatch(target.Expr, -1)
			if len(found) == 0 {
				t.Errorf("%s: no metric in %s", p.Title, target.Expr)
			}
			for _, m := range found {
				of := metrics[m[1]]
				if of == nil {
					t.Errorf("%s: no metric %s is exported", p.Title, m[1])
				}
				for l := range of {
					labels = append(labels, l)
				}
				if !strings.Contains(m[2], `job=~"$job"`) || !strings.Contains(m[2], `instance=~"$instance"`) {
					t.Errorf("%s: %s is of all hosts, whichever are chosen", p.Title, m[1])
				}
				for _, l := range label.FindAllStringSubmatch(m[2], -1) {
					switch {
					case slices.Contains(scraped, l[1]):
					case of[l[1]] == nil:
						t.Errorf("%s: %s has no label %s", p.Title, m[1], l[1])
					case !of[l[1]][l[3]]:
						t.Errorf("%s: the label %s of %s is never %q", p.Title, l[1], m[1], l[3])
					}
				}
			}
			for _, m := range by.FindAllStringSubmatch(target.Expr, -1) {
				for name := range strings.SplitSeq(m[1], ",") {
					if name = strings.TrimSpace(name); !slices.Contains(labels, name) {
						t.Errorf("%s: no metric in it has a label %s: %s", p.Title, name, target.Expr)
					}
				}
			}
			for _, m := range legend.FindAllStringSubmatch(target.Legend, -1) {
				if !slices.Contains(labels, m[1]) {
					t.Errorf("%s: no label %s for its legend", p.Title, m[1])
				}
			}
		}
	}
}

// Prometheus' own parser takes each query.
func TestPromtoolDashboard(t *testing.T) {
	panels, _ := loadDashboard(t)
	var b strings.Builder
	b.WriteString("groups:\n- name: dashboard\n  rules:\n")
	for _, p := range panels {
		for _, target := range p.Targets {
			expr, err := json.Marshal(strings.NewReplacer("$__rate_interval", "5m", "$job", ".*", "$instance", ".*").Replace(target.Expr))
			if err != nil {
				t.Fatal(err)
			}
			b.WriteString("  - record: a:b\n    expr: " + string(expr) + "\n")
		}
	}
	path := filepath.Join(t.TempDir(), "rules.yaml")
	if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	promtool(t, "", "check", "rules", "--lint=none", path)
}
