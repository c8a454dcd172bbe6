package config

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
)

// tree writes files into a folder, and returns the path of config.yaml in it.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "config.yaml")
}

func TestDropIns(t *testing.T) {
	path := tree(t, map[string]string{
		"config.yaml":             "mode: trace\nkeep-boots: 7\nenforce:\n  deadline: 10s\n  on-timeout: deny\n",
		"config.d/90-last.yaml":   "enforce: {deadline: 30s}\n",
		"config.d/10-first.yaml":  "mode: enforce\n\nenforce:\n  deadline: 20s\nguest-binaries: [kvm]\n",
		"config.d/20-empty.yaml":  "",
		"config.d/.hidden.yaml":   "no: such-key\n",
		"config.d/10-first.yaml~": "no: such-key\n",
	})
	l, err := Read(path)
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.Mode, want.KeepBoots, want.GuestBinaries = Enforcing, 7, []string{"kvm"}
	want.Enforce.Deadline, want.Enforce.OnTimeout = 30*time.Second, Deny
	if diff := cmp.Diff(want, l.Config); diff != "" {
		t.Error(diff)
	}
	var names []string
	for _, f := range l.Files {
		names = append(names, filepath.Base(f))
	}
	if want := []string{"config.yaml", "10-first.yaml", "20-empty.yaml", "90-last.yaml"}; !slices.Equal(names, want) {
		t.Errorf("read %v, want %v", names, want)
	}
	values, err := l.Values()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Dir(path)
	for _, v := range values {
		want, ok := map[string]Origin{
			"mode":             {filepath.Join(dir, "config.d/10-first.yaml"), 1},
			"keep-boots":       {path, 2},
			"enforce.deadline": {filepath.Join(dir, "config.d/90-last.yaml"), 1}, "enforce.on-timeout": {path, 5},
			"guest-binaries": {filepath.Join(dir, "config.d/10-first.yaml"), 5},
		}[v.Key]
		if ok != (v.Origin != nil) || ok && *v.Origin != want {
			t.Errorf("%s is from %+v, want %+v", v.Key, v.Origin, want)
		}
		if v.Default == ok {
			t.Errorf("%s: default %t", v.Key, v.Default)
		}
	}
}

// What is wrong in a drop-in names that file.
func TestDropInErrors(t *testing.T) {
	for name, c := range map[string]struct {
		files map[string]string
		want  []string
	}{
		"unknown key": {map[string]string{"config.yaml": "", "config.d/a.yaml": "mode: trace\nmodus: x\n"}, []string{"config.d/a.yaml: line 2: field modus is not known"}},
		"not valid":   {map[string]string{"config.yaml": "keep-boots: 3\n", "config.d/a.yaml": "keep-boots: 0\n", "config.d/b.yaml": "mode: trace\n"}, []string{"config.d/a.yaml: keep-boots 0"}},
		"together":    {map[string]string{"config.yaml": "", "config.d/a.yaml": "export: {key-file: x}\n"}, []string{"config.d/a.yaml: export: cert-file and key-file go together"}},
		"yml":         {map[string]string{"config.yaml": "", "config.d/a.yml": "mode: enforce\n"}, []string{"config.d/a.yml", "rename it"}},
		"in the file": {map[string]string{"config.yaml": "keep-boots: few\n", "config.d/a.yaml": ""}, []string{"config.yaml: line 1: few: want a whole number"}},
	} {
		_, err := Read(tree(t, c.files))
		for _, want := range c.want {
			if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%s: %v, want %q", name, err, want)
			}
		}
	}
	// A later file can repair what is valid only together.
	if _, err := Read(tree(t, map[string]string{"config.yaml": "export: {key-file: x}\n", "config.d/a.yaml": "export: {cert-file: y}\n"})); err != nil {
		t.Error(err)
	}
}

// What is printed can be read again, and says the same; secrets are not in it.
func TestValuesAgain(t *testing.T) {
	l, err := Read(tree(t, map[string]string{"config.yaml": "keep-size: 1234567\nexport: {headers: {authorization: s3cret}}\n" +
		"enforce:\n  activate: after 10s\n  guests:\n    - name: a*\n      deadline: 5s\n      activate: never\n"}))
	if err != nil {
		t.Fatal(err)
	}
	values, err := l.Values()
	if err != nil {
		t.Fatal(err)
	}
	again := Default()
	for _, v := range values {
		text, err := yaml.Marshal(v.Node)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), "s3cret") {
			t.Errorf("%s: %s", v.Key, text)
		}
		indented := strings.ReplaceAll("\n"+strings.TrimRight(string(text), "\n"), "\n", "\n    ")
		key := v.Key + ":"
		if section, name, ok := strings.Cut(v.Key, "."); ok {
			key = section + ":\n  " + name + ":"
		}
		if err := decode([]byte(key+indented+"\n"), &again); err != nil {
			t.Errorf("%s: %v:\n%s", v.Key, err, text)
		}
	}
	again.Export.Headers = l.Export.Headers
	if diff := cmp.Diff(l.Config, again); diff != "" {
		t.Error(diff)
	}
}
