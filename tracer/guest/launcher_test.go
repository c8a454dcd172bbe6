package guest

import (
	"strings"
	"testing"
)

func TestLaunched(t *testing.T) {
	for line, want := range map[string]string{
		"/usr/bin/env qemu-system-x86_64 -m 1":                              "qemu-system-x86_64 -m 1",
		"env -i LANG=C /usr/bin/kvm -m 1":                                   "/usr/bin/kvm -m 1",
		"sudo -u kvm qemu-kvm -m 1":                                         "qemu-kvm -m 1",
		"sudo -E qemu-kvm":                                                  "qemu-kvm",
		"nice -n 5 taskset -c 1 cloud-hypervisor --kernel x":                "cloud-hypervisor --kernel x",
		"systemd-run --scope -- firecracker --id a":                         "firecracker --id a",
		"ip netns exec blue lkvm run":                                       "lkvm run",
		"jailer --id a --exec-file /bin/firecracker --uid 1 -- --no-api -x": "/bin/firecracker --id a --no-api -x",
		"jailer --id a":                                                     "",
		"virsh start kvm":                                                   "", "sh -c qemu-kvm": "", "env": "", "env virsh start web": "", "qemu-kvm -m 1": "", "rpm -qf /usr/bin/qemu-kvm": "",
	} {
		if got := strings.Join(Launched(strings.Fields(line)), " "); got != want {
			t.Errorf("%s: %q", line, got)
		}
	}
}
