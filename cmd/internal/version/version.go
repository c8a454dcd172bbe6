// Package version says which version of the sources a program was built from.
package version

import "runtime/debug"

// linked is set by the linker; `make build` does.
var linked string

// String is such as v0.2.0, or v0.2.0-5-g1a2b3c4 after it. A program that `go build`
// or `go install` made has the version that Go knows.
func String() string {
	if linked != "" {
		return linked
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return "unknown"
}
