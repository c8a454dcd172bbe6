package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/bootrace/bootrace/exporters/otlp"
)

// sendFlags are where and how to send. What they leave open, the variables
// OTEL_EXPORTER_OTLP_* say.
func sendFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "endpoint", Usage: "send to this `URL`: http://HOST:4318, or :4317 for gRPC; https:// for TLS"},
		&cli.StringFlag{Name: "protocol", Usage: "grpc or http/protobuf, where the port does not tell"},
		&cli.StringSliceFlag{Name: "header", Usage: "send this `NAME=VALUE`, too; better in OTEL_EXPORTER_OTLP_HEADERS, which no other user sees"},
		&cli.PathFlag{Name: "ca-file", Usage: "trust these certificates (PEM) instead of the host's"},
		&cli.PathFlag{Name: "cert-file", Usage: "show this certificate"},
		&cli.PathFlag{Name: "key-file", Usage: "its key"},
		&cli.DurationFlag{Name: "timeout", Value: otlp.DefaultTimeout, Usage: "of one request"},
	}
}

// receiver is where the boot is to be sent, nil where it is to be written.
func receiver(c *cli.Context, f format) (*otlp.Client, error) {
	if c.IsSet("output") && c.IsSet("endpoint") {
		return nil, usageError("export: a boot is sent (--endpoint) or written (--output), not both")
	}
	if c.IsSet("endpoint") && f.name != formatOTLP {
		return nil, usageError("export: only --format %s can be sent", formatOTLP)
	}
	if c.IsSet("output") || f.name != formatOTLP {
		return nil, nil
	}
	env, err := otlp.FromEnv(os.Getenv)
	if err != nil {
		return nil, usageError("export: %w", err)
	}
	cfg := otlp.Config{
		Endpoint: c.String("endpoint"), Protocol: c.String("protocol"),
		CAFile: c.Path("ca-file"), CertFile: c.Path("cert-file"), KeyFile: c.Path("key-file"),
		Headers: map[string]string{},
	}
	if c.IsSet("timeout") {
		cfg.Timeout = c.Duration("timeout")
	}
	for i, h := range c.StringSlice("header") {
		name, value, ok := strings.Cut(h, "=")
		if !ok || name == "" {
			return nil, usageError("export: --header number %d: want NAME=VALUE", i+1)
		}
		cfg.Headers[strings.ToLower(name)] = value
	}
	if cfg = cfg.Or(env); cfg.Endpoint == "" {
		return nil, nil
	}
	client, err := otlp.NewClient(cfg)
	if err != nil {
		return nil, usageError("export: %w", err)
	}
	return client, nil
}

// errNotSettled: what is sent can't be taken back.
var errNotSettled = errors.New("this boot has not settled yet, so there is nothing that will not change: export it to a file (-o), or wait")

// send sends the boot, as far as it has settled.
func send(c *cli.Context, to *otlp.Client, b *openedBoot) error {
	defer to.Close()
	p := newProgress(c.App.ErrWriter, "sent", "spans")
	defer p.done()
	spans := 0
	for r, err := range otlp.EncodeAll(b.stands) {
		if err != nil {
			return fmt.Errorf("export: %w", err)
		}
		if err := to.Send(c.Context, r); err != nil {
			return fmt.Errorf("export: %w", err)
		}
		spans += r.SpanCount()
		p.add(r.SpanCount())
	}
	if spans == 0 && b.running {
		return errNotSettled
	}
	return nil
}
