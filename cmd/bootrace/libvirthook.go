package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/bootrace/bootrace/tracer/control"
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
			if args.Get(1) != "prepare" || args.Get(2) != "begin" {
				return nil
			}
			h := libvirtHook{in: os.Stdin, socket: control.Socket, log: waitLog(c), wait: waitFor}
			return h.run(c.Context)
		},
	}
}

// libvirtHook is one call of the hook at the beginning of a start.
type libvirtHook struct {
	in     io.Reader
	socket string
	log    *slog.Logger
	wait   func(context.Context, readiness.Request, time.Duration, *slog.Logger) (waited, error)
}

// askLimit is how long the service may take to answer; it takes milliseconds.
const askLimit = 2 * time.Second

func (h *libvirtHook) run(ctx context.Context) error {
	domain, policy := h.begin(ctx)
	if !policy.Enforce || len(domain.Disks) == 0 || policy.Deadline <= 0 {
		return nil
	}
	for _, what := range domain.Unknown {
		h.log.Warn("not waited for", "disk", what)
	}
	out, err := h.wait(ctx, readiness.Request{Disks: domain.Disks}, policy.Deadline, h.log)
	h.tell(ctx, domain, &out, policy.Deny)
	switch {
	case out.Ready || out.At == 0 || ctx.Err() != nil:
		return nil //nolint:nilerr // what is wrong here must not keep a guest from starting
	case policy.Deny:
		return &exitError{fmt.Errorf("the start of %q is denied: %w", domain.Name, err), exitNotYet}
	}
	h.log.Warn("the start goes on although its disks are not ready", "domain", domain.Name, "error", err)
	return nil
}

// begin returns what is to start, and what the service would do with it: nothing
// where it is not there, or does not answer. libvirt starts domains while the
// host boots, and none of them must wait for that.
func (h *libvirtHook) begin(ctx context.Context) (*libvirt.Domain, service.StartPolicy) {
	var policy service.StartPolicy
	domain, err := libvirt.Parse(h.in)
	if err == nil {
		err = h.ask(ctx, control.Request{Do: control.Policy, Args: map[string]string{"name": domain.Name, "uuid": domain.UUID}}, &policy)
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

// quick is how long a start takes that needs no record, because its disks were
// ready, at the most.
const quick = 200 * time.Millisecond

// tell has the service record a start that was kept back, and not keep one back again
// that was let go at its deadline.
func (h *libvirtHook) tell(ctx context.Context, d *libvirt.Domain, out *waited, deny bool) {
	if out.At == 0 || out.Ready && out.Waited < quick {
		return
	}
	text := fmt.Sprintf("domain %q, %s: ready", d.Name, out.Waited.Round(time.Millisecond))
	if words := out.Words(); len(words) > 0 {
		text = fmt.Sprintf("domain %q, %s: not ready: %s", d.Name, out.Waited.Round(time.Millisecond), words[0])
	}
	args := map[string]string{"text": text}
	if !out.Ready && !deny {
		args["let-go"] = d.UUID
	}
	if err := h.ask(ctx, control.Request{Do: control.HookHeld, Args: args}, nil); err != nil {
		h.log.Warn("the hold is not recorded", "error", err)
	}
}
