package hostile

import (
	"fmt"
	"strings"
	"time"
)

// One command line names thousands of disks, or paths of 4,000 bytes, or has bytes in
// it that a terminal obeys.
func init() {
	register("drives", func(a *attacker) error {
		a.abandon()
		for i := range a.many(5, 40) {
			name := fmt.Sprintf("drives-%d-%d", a.Seed, i)
			args := missing(name, 5000)
			switch a.between(0, 3) {
			case 1:
				args = []string{"-name", name}
				for n := range 300 {
					args = append(args, "-drive", fmt.Sprintf("file=/dev/%s%d,if=none,format=raw", strings.Repeat("y/", 1980), n))
				}
			case 2:
				args = append([]string{"-name", name + "\x1b]0;x\a\u009b31m\u202e\n\xff"}, missing(name, 100)[2:]...)
			}
			if _, err := a.start(args...); err != nil {
				return err
			}
			time.Sleep(time.Duration(a.between(0, 300)) * time.Millisecond)
		}
		time.Sleep(time.Hour)
		return nil
	})
}
