package event

import (
	"go/ast"
	"go/parser"
	"go/token"
	"testing"
)

// Every kind that is declared is known: one that is forgotten would make each
// record that has it incomplete.
func TestKnown(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "event.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	declared := 0
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if name, ok := spec.Type.(*ast.Ident); ok && name.Name == "Kind" {
			declared += len(spec.Names)
		}
		return true
	})
	if declared != len(kinds) || declared == 0 {
		t.Errorf("%d kinds are declared, %d known", declared, len(kinds))
	}
	if Kind("later").Known() || !LVM.Known() {
		t.Error("a kind of a later version is known, or one of this version is not")
	}
}
