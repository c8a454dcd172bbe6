package hostile

import (
	"fmt"
	"runtime/debug"
	"time"

	"golang.org/x/sys/unix"
)

// Thousands of threads wait in open(2) of a FIFO below /dev, which nobody writes to.
func init() {
	register("fifo", func(a *attacker) error {
		path := fmt.Sprintf("/dev/shm/bootrace-hostile-%d", a.Seed)
		if err := unix.Mkfifo(path, 0o600); err != nil {
			return err
		}
		debug.SetMaxThreads(1 << 15)
		for range a.many(500, 1500) { // the share of a user is 1,024, where tasks don't keep their own
			go func() { _, _ = unix.Open(path, unix.O_RDONLY, 0) }()
		}
		time.Sleep(3 * time.Second)
		_ = unix.Unlink(path) // those who wait have it
		time.Sleep(time.Hour)
		return nil
	})
}
