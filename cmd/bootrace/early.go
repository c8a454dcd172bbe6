package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/bootrace/bootrace/tracer/service"
)

// listeningFD is where the child of `early` says that it listens.
const listeningFD = 3

// startLimit is how long the initramfs waits for that, at the most.
const startLimit = 2 * time.Second

func earlyCommand() *cli.Command {
	return &cli.Command{
		Name:   "early",
		Usage:  "start tracing in the background (the initramfs runs this)",
		Hidden: true,
		Flags:  []cli.Flag{&cli.BoolFlag{Name: "foreground", Hidden: true}},
		Action: func(c *cli.Context) error {
			if c.Bool("foreground") {
				return runService(c, true)
			}
			return startEarly()
		},
	}
}

// startEarly starts this program again, in a session of its own, and returns
// when it listens: uevents queue from then on, so udev may begin. The probes
// attach while it does.
func startEarly() error {
	if err := os.MkdirAll(service.RunDir, 0o700); err != nil {
		return fmt.Errorf("early: %w", err)
	}
	out, err := os.OpenFile(filepath.Join(service.RunDir, "early.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("early: %w", err)
	}
	defer out.Close()
	r, w, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("early: %w", err)
	}
	defer r.Close()
	child := exec.Command("/proc/self/exe", "early", "--foreground")
	// An argv[0] that begins with @ keeps a systemd in the initramfs from
	// ending the process at the switch of root.
	child.Args[0] = "@bootrace"
	child.Dir = "/"
	child.Stdout, child.Stderr = out, out
	child.ExtraFiles = []*os.File{w} // descriptor 3
	child.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := child.Start(); err != nil {
		return fmt.Errorf("early: start in the background: %w", err)
	}
	w.Close()
	if err := r.SetReadDeadline(time.Now().Add(startLimit)); err != nil {
		return fmt.Errorf("early: %w", err)
	}
	if _, err := r.Read(make([]byte, 1)); err != nil {
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return fmt.Errorf("early: not listening after %s; the boot goes on", startLimit)
		}
		return fmt.Errorf("early: ended at once: see %s", out.Name())
	}
	return child.Process.Release()
}

// listening returns what to do once uevents queue up.
func listening(early bool) func() {
	if !early {
		return func() {}
	}
	pipe := os.NewFile(listeningFD, "listening")
	return func() {
		_, _ = pipe.Write([]byte{1}) // nobody waits any longer: no harm
		pipe.Close()
	}
}
