package hostile

import (
	"fmt"
	"time"
)

// Thousands of starts wait for hundreds of disks each that never come.
func init() {
	register("starts", func(a *attacker) error {
		a.abandon()
		n, disks := a.many(500, 5000), a.between(1, 200)
		if a.N > 0 {
			disks = 16
		}
		for i := range n {
			if _, err := a.start(missing(fmt.Sprintf("starts-%d-%d", a.Seed, i), disks)...); err != nil {
				return fmt.Errorf("start %d: %w", i, err)
			}
		}
		time.Sleep(time.Hour)
		return nil
	})
}
