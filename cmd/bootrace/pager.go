package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"github.com/bootrace/bootrace/exporters/words"
)

// usualPager shows colours, ends by itself where all fits on the screen, and leaves
// on the screen what was read. Its options are in pagerOptions.
const usualPager = "less"

// pagerOptions are less' own, where its user has set none: -F, -R and -X.
const pagerOptions = "LESS=FRX"

func pagerFlag() cli.Flag {
	return &cli.BoolFlag{Name: "no-pager", Usage: "print all at once, also on a terminal"}
}

// paged has write write to the command's standard output: on a terminal through a
// pager, everywhere else as it is. Where the pager can't be started it is printed
// without one, and that is said.
func paged(c *cli.Context, write func(io.Writer) error) error {
	out, ok := words.Raw(c.App.Writer).(*os.File)
	if !ok || c.Bool("no-pager") || !term.IsTerminal(int(out.Fd())) {
		return write(c.App.Writer)
	}
	cmd := pager(out, os.Getenv)
	if cmd == nil {
		return write(c.App.Writer)
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		return write(c.App.Writer)
	}
	if err := cmd.Start(); err != nil {
		return write(c.App.Writer)
	}
	// Its reader may have seen enough before the end, and the pager is gone then.
	err = errors.Join(unlessClosed(write(in)), unlessClosed(in.Close()))
	var exit *exec.ExitError
	if wait := cmd.Wait(); errors.As(wait, &exit) && exit.ExitCode() >= notStarted {
		fmt.Fprintf(c.App.ErrWriter, "bootrace: there is no pager %s: printed without it\n", cmd.Args[len(cmd.Args)-1])
		return write(c.App.Writer)
	}
	return err
}

// notStarted is from which status on a shell says that it could not run a program.
const notStarted = 126

// unlessClosed is err, nil where it says that nobody reads any more.
func unlessClosed(err error) error {
	if errors.Is(err, os.ErrClosed) || errors.Is(err, syscall.EPIPE) {
		return nil
	}
	return err
}

// pager returns the pager that the user wants, not started, nil for none.
func pager(out *os.File, getenv func(string) string) *exec.Cmd {
	wanted := cmp.Or(getenv("BOOTRACE_PAGER"), getenv("PAGER"), usualPager)
	// Who may only run bootrace as root is not to get a shell from the pager.
	asRoot := getenv("SUDO_UID") != ""
	if asRoot && wanted != "cat" {
		wanted = usualPager
	}
	if wanted == "cat" || getenv("TERM") == "dumb" {
		return nil
	}
	if wanted == usualPager {
		if _, err := exec.LookPath(wanted); err != nil {
			return nil
		}
	}
	cmd := exec.Command("/bin/sh", "-c", wanted)
	cmd.Stdout, cmd.Stderr = out, os.Stderr
	cmd.Env = os.Environ()
	if getenv("LESS") == "" {
		cmd.Env = append(cmd.Env, pagerOptions)
	}
	if asRoot {
		cmd.Env = append(cmd.Env, "LESSSECURE=1")
	}
	return cmd
}
