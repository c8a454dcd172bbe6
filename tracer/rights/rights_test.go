package rights

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// proc is a root with the /proc of this process: its capabilities, and its
// namespaces and those of process 1.
func proc(t *testing.T, status string, links map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for _, dir := range []string{"proc/self/ns", "proc/1/ns"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(root, "proc/self/status"), []byte(status), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, target := range links {
		if err := os.Symlink(target, filepath.Join(root, "proc", name)); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestComplaint(t *testing.T) {
	const all, docker = "Name:\tx\nCapPrm:\t0000000000000000\nCapEff:\t000001ffffffffff\n", "CapEff:\t00000000a80425fb\n"
	host := map[string]string{"self/ns/pid": "pid:[4026531836]", "self/ns/user": "user:[4026531837]", "self/ns/net": "net:[4026531840]", "1/ns/net": "net:[4026531840]"}
	container := map[string]string{"self/ns/pid": "pid:[4026532301]", "self/ns/user": "user:[4026531837]", "self/ns/net": "net:[4026532303]", "1/ns/net": "net:[4026532303]"}
	hostPID := map[string]string{"self/ns/pid": "pid:[4026531836]", "self/ns/user": "user:[4026531837]", "self/ns/net": "net:[4026532303]", "1/ns/net": "net:[4026531840]"}
	rootless := map[string]string{"self/ns/pid": "pid:[4026532301]", "self/ns/user": "user:[4026532300]"}
	for name, tt := range map[string]struct {
		status string
		links  map[string]string
		want   string // a part; empty: nothing to complain of
	}{
		"a host":                          {all, host, ""},
		"nothing to read":                 {"", nil, ""},
		"a container":                     {docker, container, "root without CAP_SYS_ADMIN, CAP_SYS_PTRACE, CAP_NET_ADMIN; in a container, which has its own namespaces (pid)"},
		"a privileged one":                {all, container, "namespaces (pid)"},
		"a privileged one, --pid=host":    {all, hostPID, "namespaces (net)"},
		"a container without root's root": {all, rootless, "namespaces (pid, user)"},
	} {
		t.Run(name, func(t *testing.T) {
			r := Own(proc(t, tt.status, tt.links))
			r.Root = true // whoever runs this test
			got := r.Complaint()
			if tt.want == "" && got != "" || !strings.Contains(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			if (got == "") != (r.Remedy() == "") {
				t.Errorf("complaint %q, remedy %q", got, r.Remedy())
			}
		})
	}
}

// Where this test runs, it reads what the kernel says.
func TestOwn(t *testing.T) {
	r := Own("/")
	if r.Root != (os.Geteuid() == 0) {
		t.Errorf("%+v", r)
	}
	if _, ok := effective("/"); !ok {
		t.Error("the capabilities were not read")
	}
	if !r.Root && !strings.Contains(r.Complaint(), "not root") {
		t.Errorf("%q", r.Complaint())
	}
}
