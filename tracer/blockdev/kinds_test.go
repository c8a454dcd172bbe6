package blockdev

import (
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strconv"
	"testing"

	"github.com/bootrace/bootrace/tracer/devmap"
)

// Each kind that has a constant has all that is asked of one.
func TestKinds(t *testing.T) {
	constants := kindConstants(t)
	if len(constants) != len(kinds) {
		t.Errorf("%d constants, and %d kinds in kinds", len(constants), len(kinds))
	}
	for name, kind := range constants {
		of, ok := kinds[kind]
		switch {
		case !ok:
			t.Errorf("%s has no line in kinds", name)
		case of.name == "":
			t.Errorf("%s lacks a name in kinds", name)
		case of.announcesUse && !of.late:
			t.Errorf("%s: what is announced when it can be used is there before, so late has to be set", name)
		}
		if kind != Partition && !slices.ContainsFunc(forms, func(f form) bool { return f.kind == kind }) {
			t.Errorf("%s: forms has no kernel name that means it", name)
		}
	}
}

// kindConstants has the constants of the type Kind, by name.
func kindConstants(t *testing.T) map[string]Kind {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "blockdev.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	constants := map[string]Kind{}
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if of, ok := spec.Type.(*ast.Ident); !ok || of.Name != "Kind" {
			return true
		}
		text, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
		if err != nil {
			t.Fatal(err)
		}
		constants[spec.Names[0].Name] = Kind(text)
		return true
	})
	return constants
}

// A link in a folder of another kind is no volume of LVM's, and devmap has its own list of
// the folders that are none. Of these two it is not said: a group may be called so.
func TestFoldersAreNoGroups(t *testing.T) {
	mayBeGroups := []string{"rbd-pool", "storpool"}
	owners := map[string]Kind{}
	for _, kind := range Kinds() {
		for _, folder := range kinds[kind].folders {
			if other, taken := owners[folder]; taken {
				t.Errorf("/dev/%s is said to be of %s and of %s", folder, string(other), string(kind))
			}
			owners[folder] = kind
			if _, _, group := devmap.Volume("/dev/" + folder + "/x"); group != slices.Contains(mayBeGroups, folder) {
				t.Errorf("%s: devmap takes /dev/%s for a volume group: %v (notGroups in tracer/devmap/path.go)", string(kind), folder, group)
			}
		}
	}
}
