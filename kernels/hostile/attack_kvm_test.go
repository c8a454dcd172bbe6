package hostile

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// A program called kvm is a guest by its name. It forks thousands: more than the 4,096
// that may be followed of one user.
func init() {
	register("kvm", func(a *attacker) error {
		shell, err := os.ReadFile("/bin/sh")
		if err != nil {
			return err
		}
		program := filepath.Join(a.Dir, "kvm")
		if err := os.WriteFile(program+".new", shell, 0o755); err != nil {
			return err
		}
		if err := os.Rename(program+".new", program); err != nil {
			return err
		}
		script := fmt.Sprintf("mkfifo wait-%[1]d; i=0; while [ $i -lt %[2]d ]; do (read x) <>wait-%[1]d & i=$((i+1)); done; wait", a.Seed, a.many(1000, 5000))
		return unix.Exec(program, []string{program, "-c", script}, os.Environ())
	})
}
