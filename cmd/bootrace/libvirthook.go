package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/bootrace/bootrace/tracer/control"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/libvirt"
	"github.com/bootrace/bootrace/tracer/readiness"
	"github.com/bootrace/bootrace/tracer/service"
)

// libvirtHookCommand is what libvirt's hook runs. libvirt takes every status
// but 0 for a start that must not be, so whatever goes wrong here is status 0;
// exitNotYet is the one exception, where the operator's policy is to deny.
func libvirtHookCommand() *cli.Command {
	return &cli.Command{
		Name:      "libvirt-hook",
		Usage:     "keep a domain's start back as enforce mode would; libvirt's hook runs this",
		ArgsUsage: "DOMAIN OPERATION SUBOPERATION [EXTRA]",
		Hidden:    true,
		Action: func(c *cli.Context) error {
			args := c.Args()
			if args.Get(1)+"/"+args.Get(2) != event.DomainStarts {
				return nil
			}
			h := libvirtHook{in: os.Stdin, socket: control.Socket, log: waitLog(c), wait: waitFor, begin: beginLimit}
			return h.bounded(c.Context)
		},
	}
}

// libvirtHook is one call of the hook at the beginning of a start.
type libvirtHook struct {
	in     io.Reader
	socket string
	log    *slog.Logger
	wait   func(context.Context, readiness.Request, time.Duration, *slog.Logger, func(*readiness.Verdict)) (waited, error)
	begin  time.Duration // how long it may take until it is known what to wait for
}

const (
	// askLimit is how long the service may take to answer; it takes milliseconds.
	askLimit = time.Second
	// beginLimit is how long libvirt may take to hand the domain over, and the
	// service to answer.
	beginLimit = 5 * time.Second
	// endLimit is how long all that comes after the deadline may take.
	endLimit = 3 * time.Second
)

// bounded runs the hook for as long as the policy says and no longer, whatever
// hangs: the service, storage, libvirt's end of the pipe.
func (h *libvirtHook) bounded(ctx context.Context) error {
	ended := make(chan error, 1)
	deadline := make(chan time.Duration, 1)
	go func() {
		defer func() {
			if p := recover(); p != nil {
				h.log.Error("the start is not held", "panic", p)
				ended <- nil
			}
		}()
		ended <- h.run(ctx, deadline)
	}()
	limit := time.NewTimer(h.begin)
	defer limit.Stop()
	for {
		select {
		case err := <-ended:
			return err
		case d := <-deadline:
			limit.Reset(d + endLimit)
		case <-ctx.Done():
			return nil
		case <-limit.C:
			h.log.Warn("the start goes on: what it waits for does not come to an end")
			return nil
		}
	}
}

func (h *libvirtHook) run(ctx context.Context, deadline chan<- time.Duration) error {
	domain, policy := h.start(ctx)
	if !policy.Enforce || len(domain.Disks) == 0 || policy.Deadline <= 0 {
		return nil
	}
	for _, what := range domain.Unknown {
		h.log.Warn("not waited for", "disk", what)
	}
	deadline <- policy.Deadline
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	held := &hookHold{h: h, let: cancel, start: service.HookStart{
		Guest: cmp.Or(domain.Name, domain.UUID), Identity: identityOf(domain), Since: event.Now(),
		Deadline: event.Now().Add(policy.Deadline), Deny: policy.Deny,
	}}
	out, err := h.wait(ctx, readiness.Request{Disks: domain.Disks}, policy.Deadline, h.log, held.waits)
	let := new(letGo)
	if errors.As(context.Cause(ctx), &let) {
		held.over(context.WithoutCancel(ctx), let.why, event.HoldAllowed, domain.UUID)
		return nil
	}
	switch {
	case out.Ready:
		held.over(ctx, event.ReleaseReady, event.HoldAllowed, "")
		return nil
	case out.At == 0 || ctx.Err() != nil:
		held.over(context.WithoutCancel(ctx), event.ReleaseEnd, event.HoldAllowed, domain.UUID)
		return nil // what is wrong here must not keep a guest from starting
	case policy.Deny:
		held.over(ctx, event.ReleaseDeadline, event.HoldDenied, "")
		return &exitError{fmt.Errorf("the start of %q is denied: %w", domain.Name, err), exitNotYet}
	}
	held.over(ctx, event.ReleaseDeadline, event.HoldAllowed, domain.UUID)
	h.log.Warn("the start goes on although its disks are not ready", "domain", domain.Name, "error", err)
	return nil
}

// identityOf names the domain over reboots, as package guest does.
func identityOf(d *libvirt.Domain) string {
	if d.UUID != "" {
		return "uuid:" + d.UUID
	}
	return "name:" + d.Name
}

// start returns what is to start, and what the service would do with it: nothing
// where it is not there, or does not answer. libvirt starts domains while the
// host boots, and none of them must wait for that. The service records the domain,
// in trace mode, too: libvirt may give up without ever executing qemu.
func (h *libvirtHook) start(ctx context.Context) (*libvirt.Domain, service.StartPolicy) {
	var policy service.StartPolicy
	domain, err := libvirt.Parse(h.in)
	if err == nil {
		var info []byte
		if info, err = json.Marshal(domain.Record()); err == nil {
			args := map[string]string{"name": domain.Name, "uuid": domain.UUID, "domain": string(info)}
			err = h.ask(ctx, control.Request{Do: control.Policy, Args: args}, &policy)
		}
	}
	if err != nil {
		h.log.Warn("the start is not held", "error", err)
		return nil, service.StartPolicy{}
	}
	return domain, policy
}

func (h *libvirtHook) ask(ctx context.Context, r control.Request, into any) error {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	return control.Call(ctx, h.socket, r, into)
}

// hookHold is a hold as the service is told of it.
type hookHold struct {
	h     *libvirtHook
	start service.HookStart
	let   context.CancelCauseFunc
	told  atomic.Bool
}

// letGo is the end of a hold that the service wants.
type letGo struct{ why event.HoldReason }

func (e *letGo) Error() string { return string(e.why) }

// waits tells the service of the hold, and lets the start go when it says so, or
// is gone. That is for the first thing that is waited for: later ones are another
// part of the same.
func (o *hookHold) waits(v *readiness.Verdict) {
	if !o.told.CompareAndSwap(false, true) {
		return
	}
	o.start.Blockers, o.start.More = v.Blockers[:min(len(v.Blockers), 16)], max(len(v.Blockers)-16, 0)
	text, err := json.Marshal(&o.start)
	if err != nil {
		o.h.log.Warn("the hold can't be released", "error", err)
		return
	}
	go func() {
		var why event.HoldReason
		err := control.Call(context.Background(), o.h.socket, control.Request{Do: control.HookHold, Args: map[string]string{"start": string(text)}}, &why)
		refused := new(control.RefusedError)
		switch {
		case err == nil:
			o.let(&letGo{why})
		case errors.As(err, &refused): // by a service of an older version
			o.h.log.Warn("the hold can't be released", "error", err)
		default: // with the service all holds end
			o.let(&letGo{event.ReleaseEnd})
		}
	}()
}

// over tells how the hold ended, and the service not to keep back again a guest
// (by its UUID) that was let go with its disks not ready.
func (o *hookHold) over(ctx context.Context, why event.HoldReason, outcome event.HoldOutcome, uuid string) {
	if !o.told.Load() {
		return // its disks were ready
	}
	text, err := json.Marshal(&service.HookEnd{HookStart: o.start, Reason: why, Outcome: outcome})
	if err == nil {
		args := map[string]string{"end": string(text), "text": fmt.Sprintf("domain %q: %s: %s", o.start.Guest, outcome, why)}
		if uuid != "" {
			args["let-go"] = uuid
		}
		err = o.h.ask(ctx, control.Request{Do: control.HookHeld, Args: args}, nil)
	}
	if err != nil {
		o.h.log.Warn("the hold is not recorded", "error", err)
	}
}
