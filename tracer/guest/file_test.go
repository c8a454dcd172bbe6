package guest

import (
	"strings"
	"testing"
)

func TestParseFile(t *testing.T) {
	for _, tc := range []struct{ name, format, path, got string }{
		{"/dev/vg/base", "", "/dev/vg/base", "/file"},
		{"/dev/vg/base", "raw", "/dev/vg/base", "raw/file"},
		{"/dev/vg/a,b", "qcow2", "/dev/vg/a,b", "qcow2/file"},
		{"file:base", "qcow2", "base", "qcow2/file"},
		{"host_device:/dev/vg/base", "qcow2", "/dev/vg/base", "qcow2/file"},
		{"/dev/vg/base", "host_device", "/dev/vg/base", "raw/file"},
		{`json:{"driver":"qcow2","file":{"driver":"host_device","filename":"/dev/vg/b"}}`, "", "/dev/vg/b", "qcow2/file"},
		{`json:{"driver":"raw","file.filename":"/dev/vg/b"}`, "", "/dev/vg/b", "raw/file"},
		{"nbd://host/export", "qcow2", "nbd://host/export", "qcow2/network"},
		{"rbd:pool/image:key=abc", "", "rbd:pool/image:key=[redacted]", "/network"},
		{"/dev/fdset/3", "", "/dev/fdset/3", "/fd"},
	} {
		image, problems := ParseFile(tc.name, tc.format)
		if image.Path != tc.path || image.Format+"/"+string(image.Storage) != tc.got {
			t.Errorf("%s as %q: %+v", tc.name, tc.format, image)
		}
		if len(problems) > 0 {
			t.Errorf("%s: %v", tc.name, problems)
		}
	}
}

func TestParseFileProblems(t *testing.T) {
	for _, name := range []string{"json:{", "strange:thing", `json:{"driver":"qcow2","file":"node"}`} {
		if _, problems := ParseFile(name, ""); len(problems) != 1 {
			t.Errorf("%s: %v", name, problems)
		}
	}
	deep := "json:" + strings.Repeat(`{"driver":"raw","file":`, 5000)
	if _, problems := ParseFile(deep, ""); len(problems) != 1 || len(problems[0].Arg) > maxProblemArg {
		t.Errorf("a name without end: %d problems", len(problems))
	}
}

func TestIsRelative(t *testing.T) {
	for name, want := range map[string]bool{
		"base": true, "a/b:c": true, "./base": true,
		"": false, "/dev/vg/base": false, "nbd:host:10809": false, "json:{}": false, "file:base": false,
	} {
		if got := IsRelative(name); got != want {
			t.Errorf("%q: %v", name, got)
		}
	}
}
