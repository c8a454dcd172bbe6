// Command driver starts guests in a machine of the lab where starts are held, and
// checks what becomes of them. Under the name of qemu-system-x86_64 it is such a
// guest itself: it opens its disks as qemu does and says what came of it. Two
// hundred of the real one don't fit into a small machine.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

func main() {
	if strings.HasPrefix(filepath.Base(os.Args[0]), "qemu-system-") {
		os.Exit(beGuest(os.Args))
	}
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "driver:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("usage: driver mass|killed|stuck|stopped|launcher|upgrade|replaced|probes|orders N")
	}
	n := 0
	if len(args) > 1 {
		n, _ = strconv.Atoi(args[1])
	}
	if err := os.MkdirAll(results, 0o755); err != nil {
		return err
	}
	switch args[0] {
	case "mass":
		return mass()
	case "killed":
		return killed()
	case "stuck":
		return stuck()
	case "stopped":
		return stopped()
	case "launcher":
		return launcherKills()
	case "upgrade":
		return upgrade()
	case "replaced":
		return replaced()
	case "probes":
		return probes(max(n, 30))
	case "orders":
		return orders(max(n, 10))
	}
	return fmt.Errorf("there is no %q", args[0])
}
