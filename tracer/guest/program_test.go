package guest

import (
	"strings"
	"testing"
)

func TestIsProgram(t *testing.T) {
	for name, want := range map[string]bool{
		"/usr/bin/qemu-system-x86_64":                       true,
		"/usr/local/qemu-4.2.0/bin/qemu-system-x86_64":      true,
		"/usr/libexec/qemu-kvm":                             true,
		"/usr/bin/kvm":                                      true,
		"kvm":                                               true,
		"qemu-system-x86":                                   true, // comm
		"/snap/lxd/current/bin/qemu-system-x86_64":          true,
		"/nix/store/x-qemu/bin/.qemu-system-x86_64-wrapped": true,
		".qemu-system-x86":                                  true, // comm
		"/usr/bin/qemu-system-x86_64 (deleted)":             true,
		"/opt/kata/bin/qemu-lite-system-x86_64":             true,
		"/usr/bin/qemu-kvm-one":                             true,
		"/usr/bin/cloud-hypervisor":                         true,
		"cloud-hyperviso":                                   true, // comm
		"/srv/jailer/firecracker/1/root/firecracker":        true,
		"crosvm":                               true,
		"lkvm":                                 true,
		"/usr/bin/qemu-img":                    false,
		"/usr/bin/qemu-nbd":                    false,
		"/usr/bin/qemu-x86_64-static":          false,
		"/usr/bin/qemu-storage-daemon":         false,
		"/usr/sbin/lvm":                        false,
		"kvm-nx-lpage-recovery-1":              false,
		"/usr/lib/qemu-system-x86_64/vgchange": false,
		"jailer":                               false,
		"":                                     false,
	} {
		if got := IsProgram(name); got != want {
			t.Errorf("IsProgram(%q) = %v", name, got)
		}
	}
}

// TestWhichProgram: the file that was executed says more than argv[0], which is
// up to the launcher, and a script is not the guest that it executes.
func TestWhichProgram(t *testing.T) {
	drive := []string{"-drive", "file=/dev/vg/a,if=virtio"}
	for name, tt := range map[string]struct {
		parser     Parser
		args       []string
		hypervisor string
		guest      bool
	}{
		"argv[0] is a name":     {Parser{Program: "/usr/bin/kvm"}, append([]string{"web"}, drive...), "qemu", true},
		"the file has no name":  {Parser{Program: "/proc/self/fd/3"}, append([]string{"/usr/bin/kvm"}, drive...), "qemu", true},
		"a script":              {Parser{Program: "/usr/bin/kvm"}, append([]string{"/bin/sh", "/usr/bin/kvm"}, drive...), "", false},
		"a script with options": {Parser{Program: "/usr/bin/kvm"}, append([]string{"/bin/sh", "-e", "/usr/bin/kvm"}, drive...), "", false},
		"a tool":                {Parser{Program: "/usr/bin/qemu-nbd", Watched: true}, append([]string{"kvm"}, drive...), "", false},
		"unread":                {Parser{Program: "/usr/bin/kvm", Watched: true}, nil, "", true},
	} {
		g := tt.parser.Parse(tt.args)
		if g.Hypervisor != tt.hypervisor || g.IsGuest != tt.guest {
			t.Errorf("%s: %+v", name, g)
		}
	}
}

// TestHypervisors: each has a command line in testdata. Where that is understood, it is
// known what the hold can be told to watch, and what gives a guest an identity.
func TestHypervisors(t *testing.T) {
	guests := map[string]Guest{}
	for _, args := range seeds(t) {
		if g := Parse(args); g.IsGuest {
			guests[g.Hypervisor] = g
		}
	}
	for _, h := range hypervisors {
		g, ok := guests[h.name]
		switch {
		case !ok:
			t.Errorf("%s: no command line in testdata runs a guest of it", h.name)
		case g.Unparsed && (len(h.places) > 0 || Identify(h.name) != ""):
			t.Errorf("%s: its command line is not understood, and places or identify promise more", h.name)
		case !g.Unparsed && (len(h.places) == 0 || Identify(h.name) == ""):
			t.Errorf("%s: its command line is understood, and places or identify are missing", h.name)
		}
	}
}

// TestUnread: what was not read of a configuration is said, and is no "no disks".
func TestUnread(t *testing.T) {
	long := strings.Repeat("[drive]\nfile = \"/dev/vg/a\"\n", maxConfigLines/2+1)
	for name, parser := range map[string]Parser{
		"no reader":      {},
		"too many lines": {ReadFile: func(string) ([]byte, error) { return []byte(long), nil }},
		"too long":       {ReadFile: func(string) ([]byte, error) { return make([]byte, MaxFile+1), nil }},
	} {
		g := parser.Parse([]string{"kvm", "-readconfig", "/etc/vm.cfg"})
		if !strings.Contains(g.Unknown, "/etc/vm.cfg") || len(g.NotUnderstood) == 0 {
			t.Errorf("%s: unknown %q, problems %v", name, g.Unknown, g.NotUnderstood)
		}
	}
}

// TestManyDisks: a foreign file can't make more disks than there is room for.
func TestManyDisks(t *testing.T) {
	text := `{"drives":[` + strings.Repeat(`{"path_on_host":"a"},`, maxDisks+1) + `{}]}`
	parser := Parser{ReadFile: func(string) ([]byte, error) { return []byte(text), nil }}
	g := parser.Parse([]string{"firecracker", "--config-file", "x"})
	if len(g.Disks) != maxDisks || g.Unknown == "" {
		t.Errorf("%d disks, unknown %q", len(g.Disks), g.Unknown)
	}
}

func TestMatches(t *testing.T) {
	names := []string{"qemu-system-", "kvm", "cloud-hypervisor"}
	for program, want := range map[string]bool{
		"qemu-system-x86_64": true, "/usr/bin/kvm": true, "cloud-hyperviso": true, "kvm_stat": false, "qemu-kvm": false,
	} {
		if Matches(names, program) != want {
			t.Errorf("%s: %v", program, !want)
		}
	}
}

func FuzzCloudHypervisor(f *testing.F) {
	f.Add("--kernel\nvmlinux\n--disk\npath=/dev/vg/a\npath=\"b,c\",[x]", `{"disks":[{"path":"/x"}]}`)
	f.Add("--platform=uuid=3aad3b6b-0000-4000-8000-000000000001,oem_strings=[a,b]\n--restore\nsource_url=file:///x", "")
	f.Fuzz(func(t *testing.T, text, file string) { fuzzVMM(t, "cloud-hypervisor", text, file) })
}

func FuzzFirecracker(f *testing.F) {
	f.Add("--config-file\nx\n--id\ny", `{"drives":[{"path_on_host":"/dev/vg/a"}],"pmem":[{"path_on_host":"b"}]}`)
	f.Fuzz(func(t *testing.T, text, file string) { fuzzVMM(t, "firecracker", text, file) })
}

func fuzzVMM(t *testing.T, program, text, file string) {
	args := append([]string{program}, strings.Split(text, "\n")...)
	parser := Parser{ReadFile: func(string) ([]byte, error) { return []byte(file), nil }}
	g := parser.Parse(args)
	if g.IsGuest == (g.NotGuest != "") || len(g.Disks) > maxDisks || len(g.NotUnderstood) > maxProblems+1 {
		t.Errorf("%+v", g)
	}
	checkRedaction(t, parser, args)
}

func TestCloudHypervisorSecrets(t *testing.T) {
	for _, args := range [][]string{
		{"cloud-hypervisor", "--cmdline", "root=/dev/vda password=hunter2"},
		{"cloud-hypervisor", "--cmdline=hunter2"},
		{"cloud-hypervisor", "--platform", "uuid=3aad3b6b-0000-4000-8000-000000000001,oem_strings=[io.systemd.credential:k=hunter2]"},
	} {
		if out := strings.Join(RedactCommand(args), " "); strings.Contains(out, "hunter2") {
			t.Error(out)
		}
	}
}
