package scenarios

import (
	"testing"

	"github.com/bootrace/bootrace/kernels/lab"
)

// A real libvirt domain whose volume is late. The script compares what libvirt
// does with the hook and without.
func TestLibvirt(t *testing.T) {
	play(t, "libvirt", func(o *lab.Options) {
		o.Packages = []string{"libvirt-daemon-system", "libvirt-clients"}
		o.Install = lab.MakeInstall(repo(t), "LIBVIRT=yes")
	})
}
