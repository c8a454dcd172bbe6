package hostile

import (
	"fmt"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// Four threads look for what does not exist below /dev: distinct names, and the
// longest paths that there are.
func init() {
	register("opens", func(a *attacker) error {
		var all sync.WaitGroup
		for n := range 4 {
			all.Go(func() {
				long := strings.Repeat("x/", 1980)
				for i := 0; ; i++ {
					path := fmt.Sprintf("/dev/%d-%d-%d", a.Seed, n, i)
					if n%2 == 1 {
						path = fmt.Sprintf("/dev/%s%d", long, i)
					}
					if fd, err := unix.Open(path, unix.O_RDONLY, 0); err == nil {
						unix.Close(fd)
					}
				}
			})
		}
		all.Wait()
		return nil
	})
}
