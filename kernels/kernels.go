// Package kernels is the list of kernels that bootrace is built and tested
// for, and where each one comes from. Package lab boots them.
package kernels

import (
	"fmt"
	"slices"
	"strings"
)

// Userland is the Debian suite of everything but the kernel. It is the same
// for all kernels, so that a difference between two of them is the kernel's.
const Userland = "bookworm"

// Default is the name of the kernel that is used where none is asked for.
const Default = "6.1"

// Kernel is one supported kernel.
type Kernel struct {
	// Name is the kernel's series, as in "6.1".
	Name string
	// Suite is the Debian suite whose Package is that series.
	Suite string
	// Package is the Debian package that brings it in.
	Package string
}

// All returns the supported kernels, the oldest first.
func All() []Kernel {
	return []Kernel{
		{Name: "6.1", Suite: "bookworm", Package: "linux-image-amd64"},
	}
}

// Find returns the kernel of that name; the empty name is Default's.
func Find(name string) (Kernel, error) {
	if name == "" {
		name = Default
	}
	all := All()
	i := slices.IndexFunc(all, func(k Kernel) bool { return k.Name == name })
	if i < 0 {
		return Kernel{}, fmt.Errorf("kernel %q is not one of the supported ones: choose from %s", name, strings.Join(names(all), ", "))
	}
	return all[i], nil
}

func names(ks []Kernel) []string {
	var s []string
	for _, k := range ks {
		s = append(s, k.Name)
	}
	return s
}
