package ebpf

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
)

// TestNothingAsksBPFAtTheStart: a program of ours that starts makes no bpf(2) call by
// that alone. Some kernels without BTF are tainted by the first one, and log a line.
func TestNothingAsksBPFAtTheStart(t *testing.T) {
	const asks = "github.com/cilium/ebpf/rlimit" // in its init
	read := 0
	err := filepath.WalkDir("../../..", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		read++
		for _, i := range file.Imports {
			if strings.Trim(i.Path.Value, `"`) == asks {
				t.Errorf("%s imports %s", path, asks)
			}
		}
		return nil
	})
	if err != nil || read < 100 {
		t.Errorf("read %d files: %v", read, err)
	}
}
