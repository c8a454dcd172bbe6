package devmap

import (
	"strings"
	"testing"
)

func TestNames(t *testing.T) {
	for _, tc := range []struct{ vg, lv, layer, name string }{
		{"vgdata", "root", "", "vgdata-root"},
		{"vg-data", "web-01", "", "vg--data-web--01"},
		{"vg-data", "web-01", "real", "vg--data-web--01-real"},
		{"vg", "pool_tdata", "", "vg-pool_tdata"},
		{"vg", "pool", "tpool", "vg-pool-tpool"},
		{"vg-", "lv", "", "vg---lv"},
		{"vgdata", "73bd7f2a-9779-46d6-885d-92783ac4f6b9", "", "vgdata-73bd7f2a--9779--46d6--885d--92783ac4f6b9"},
	} {
		if got := JoinName(tc.vg, tc.lv, tc.layer); got != tc.name {
			t.Errorf("JoinName(%q, %q, %q) = %q, want %q", tc.vg, tc.lv, tc.layer, got, tc.name)
		}
		vg, lv, layer, ok := SplitName(tc.name)
		if !ok || vg != tc.vg || lv != tc.lv || layer != tc.layer {
			t.Errorf("SplitName(%q) = %q, %q, %q, %v", tc.name, vg, lv, layer, ok)
		}
	}
	for _, name := range []string{"", "dm_73bd", "-lv", "vg-", "a--b"} {
		if vg, lv, layer, ok := SplitName(name); ok {
			t.Errorf("SplitName(%q) = %q, %q, %q, want not ok", name, vg, lv, layer)
		}
	}
}

func TestMangle(t *testing.T) {
	for plain, mangled := range map[string]string{
		"vg--data-web":  "vg--data-web",
		"my disk":       `my\x20disk`,
		"a/b":           `a\x2fb`,
		"#+-.:=@_":      "#+-.:=@_",
		"Ü":             `\xc3\x9c`,
		"back\\slash":   `back\x5cslash`,
		"half\\x2":      `half\x5cx2`,
		"new\nline\x00": `new\x0aline\x00`,
	} {
		if got := Mangle(plain); got != mangled {
			t.Errorf("Mangle(%q) = %q, want %q", plain, got, mangled)
		}
		if got := Unmangle(mangled); got != plain {
			t.Errorf("Unmangle(%q) = %q, want %q", mangled, got, plain)
		}
	}
	if got := Mangle(`my\x20disk`); got != `my\x20disk` {
		t.Errorf("a mangled name is mangled again: %q", got)
	}
}

func FuzzMangle(f *testing.F) {
	f.Add("my disk")
	f.Add(`\x41\x`)
	f.Fuzz(func(t *testing.T, name string) {
		mangled := Mangle(name)
		if again := Mangle(mangled); again != mangled {
			t.Errorf("Mangle(%q) = %q, and again %q", name, mangled, again)
		}
		if strings.Contains(name, `\x`) {
			return // taken for mangled
		}
		if got := Unmangle(mangled); got != name {
			t.Errorf("Unmangle(Mangle(%q)) = %q", name, got)
		}
	})
}

func FuzzNameRoundTrip(f *testing.F) {
	f.Add("vg-data", "web-01", "real")
	f.Add("vg-", "a", "")
	f.Fuzz(func(t *testing.T, vg, lv, layer string) {
		for _, part := range []string{vg, lv} {
			if part == "" || part[0] == '-' || strings.Contains(part, `\x`) {
				return // LVM refuses these
			}
		}
		if strings.ContainsAny(layer, `-\`) || strings.HasSuffix(vg+lv, `\`) {
			return
		}
		gotVG, gotLV, gotLayer, ok := SplitName(JoinName(vg, lv, layer))
		if !ok || gotVG != vg || gotLV != lv || gotLayer != layer {
			t.Errorf("(%q, %q, %q) came back as (%q, %q, %q), %v", vg, lv, layer, gotVG, gotLV, gotLayer, ok)
		}
	})
}
