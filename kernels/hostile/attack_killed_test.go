package hostile

import (
	"fmt"
	"time"
)

// Starts are killed the moment that they are held, or just before, or just after.
func init() {
	register("killed", func(a *attacker) error {
		for i := 0; ; i++ {
			p, err := a.start(missing(fmt.Sprintf("killed-%d-%d", a.Seed, i), a.between(1, 8))...)
			if err != nil {
				return err
			}
			time.Sleep(time.Duration(a.between(0, 3000)) * time.Microsecond)
			if err := p.Kill(); err != nil {
				return err
			}
			if _, err := p.Wait(); err != nil {
				return err
			}
		}
	})
}
