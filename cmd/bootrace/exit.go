package main

import (
	"fmt"

	"github.com/bootrace/bootrace/tracer/timeline"
)

// The exit statuses, the same for all commands. Those that hand on what is
// recorded and judge nothing (export, metrics, deliver) have only the first three.
const (
	// exitDone: it is done, and nothing is wrong.
	exitDone = 0
	// exitFailed: the command failed.
	exitFailed = 1
	// exitUsage: it was used in a wrong way.
	exitUsage = 2
	// exitTrouble: it found trouble. Of a boot: a guest that failed, was denied,
	// never started, came too early, or runs on the wrong disk. Of several boots:
	// any of them. Of a host: it can't be traced, its guests can't be held, or it
	// can't do what its configuration asks.
	exitTrouble = 3
	// exitNotYet: the time was over.
	exitNotYet = 4
	// exitUnknown: no trouble is known, and what is recorded is not enough to say
	// that there was none.
	exitUnknown = 5
)

// exitError ends the program with a status; a nil error says nothing.
type exitError struct {
	error
	status int
}

func (e *exitError) Unwrap() error { return e.error }

func usageError(format string, args ...any) error {
	return &exitError{fmt.Errorf(format, args...), exitUsage}
}

// outcome ends the program with the status of an outcome. That a guest was at
// risk and had luck is no trouble.
func outcome(o timeline.Outcome) error {
	switch o {
	case timeline.OutcomeFailed:
		return &exitError{status: exitTrouble}
	case timeline.OutcomeUnknown:
		return &exitError{status: exitUnknown}
	}
	return nil
}
