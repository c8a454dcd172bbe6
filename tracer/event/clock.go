package event

import "golang.org/x/sys/unix"

// Now returns the current boottime.
func Now() Time { return read(unix.CLOCK_BOOTTIME) }

func read(clock int32) Time {
	var ts unix.Timespec
	if err := unix.ClockGettime(clock, &ts); err != nil {
		// CLOCK_BOOTTIME exists since Linux 2.6.39, and the address is ours.
		panic(err)
	}
	return Time(ts.Nano())
}

// WallOffset measures CLOCK_REALTIME - CLOCK_BOOTTIME. It takes several
// (boottime, realtime, boottime) readings and keeps the tightest; half of its
// width is the uncertainty.
func WallOffset() ClockInfo { return offset(unix.CLOCK_REALTIME) }

// MonotonicOffset measures CLOCK_BOOTTIME - CLOCK_MONOTONIC in nanoseconds:
// the time the host has spent suspended. udev stamps with CLOCK_MONOTONIC.
func MonotonicOffset() Duration {
	return Duration(-offset(unix.CLOCK_MONOTONIC).WallOffset)
}

func offset(clock int32) ClockInfo {
	best := ClockInfo{Uncertainty: 1 << 62}
	for range 10 {
		before := Now()
		other := read(clock)
		after := Now()
		if width := int64(after - before); width/2 < best.Uncertainty {
			best.Uncertainty = width / 2
			best.WallOffset = int64(other) - int64(before) - width/2
		}
	}
	return best
}

// ClockSynchronized reports whether the kernel takes the wall clock for
// synchronized, by NTP or another discipline (adjtimex(2), STA_UNSYNC).
func ClockSynchronized() bool {
	var t unix.Timex
	state, err := unix.Adjtimex(&t)
	return err == nil && state != unix.TIME_ERROR && t.Status&unix.STA_UNSYNC == 0
}
