package service

import (
	"context"
	"os"
	"strconv"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// Where starts are held, a service that hangs keeps guests from starting. So
// systemd ends it when it does not say in time that all is well (WatchdogSec),
// and it says so only while holds are looked after.

// environment of the unit, which an instance from the initramfs has not got.
const (
	envSocket   = "NOTIFY_SOCKET"
	envWatchdog = "WATCHDOG_USEC"
)

// UnitEnvironment is what an adopted instance needs to know of the unit that it
// becomes a part of.
func UnitEnvironment() map[string]string {
	return map[string]string{envSocket: os.Getenv(envSocket), envWatchdog: os.Getenv(envWatchdog)}
}

// joinUnit takes the unit's environment over.
func joinUnit(env map[string]string) error {
	for _, name := range []string{envSocket, envWatchdog} {
		if env[name] == "" {
			continue
		}
		if err := os.Setenv(name, env[name]); err != nil {
			return err
		}
	}
	return os.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))
}

// feed tells systemd that all is well, as long as it is, several times in each
// period. An instance from the initramfs begins when it is adopted.
func (s *Service) feed(ctx context.Context) {
	select {
	case <-s.adopted:
	case <-ctx.Done():
		return
	}
	period, err := daemon.SdWatchdogEnabled(false)
	if err != nil || period == 0 {
		return
	}
	tick := time.NewTicker(period / 4)
	defer tick.Stop()
	for {
		if err := s.enforcer.healthy(); err != nil {
			s.log.Error("holds are not looked after: systemd will end this process", "error", err)
		} else if _, err := daemon.SdNotify(false, daemon.SdNotifyWatchdog); err != nil {
			s.log.Warn("systemd is not told that all is well", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
