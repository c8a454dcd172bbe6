package kernels

import (
	"strings"
	"testing"
)

func TestFind(t *testing.T) {
	for _, k := range Bootable() {
		if got, err := Find(k.Name); err != nil || got.Name != k.Name {
			t.Errorf("Find(%q) = %+v, %v", k.Name, got, err)
		}
		if k.Name == "" || k.Suite == "" || k.Package == "" {
			t.Errorf("incomplete: %+v", k)
		}
	}
	if got, err := Find(""); err != nil || got.Name != Default {
		t.Errorf("Find of the empty name = %+v, %v", got, err)
	}
	if _, err := Find("9.9"); err == nil || !strings.Contains(err.Error(), Default) {
		t.Errorf("got %v, want an error that names the choice", err)
	}
}

// The table has every kernel and every ability.
func TestTable(t *testing.T) {
	table := Table()
	for _, k := range All() {
		if !strings.Contains(table, " "+k.Name+" |") || k.Of == "" || len(k.Abilities) == 0 {
			t.Errorf("incomplete: %+v", k)
		}
		for _, a := range k.Abilities {
			if !strings.Contains(table, "| "+string(a)+" |") {
				t.Errorf("%s is not in the table", a)
			}
		}
	}
}
