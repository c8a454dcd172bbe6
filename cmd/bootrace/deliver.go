package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/urfave/cli/v2"

	"github.com/bootrace/bootrace/exporters/delivery"
	"github.com/bootrace/bootrace/exporters/otlp"
	"github.com/bootrace/bootrace/tracer/bootlog"
	"github.com/bootrace/bootrace/tracer/config"
	"github.com/bootrace/bootrace/tracer/control"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/service"
)

// deliveryDir is where in the state folder the delivery keeps what it needs.
const deliveryDir = "export"

func deliverCommand() *cli.Command {
	return &cli.Command{
		Name:  "deliver",
		Usage: "send the boots to the configured endpoint as they settle (systemd runs this)",
		Flags: []cli.Flag{
			&cli.PathFlag{Name: "config", Value: config.Path, Usage: "read this `FILE`"},
			&cli.PathFlag{Name: "state-dir", Value: service.StateDir, Usage: "send the boots recorded in this `FOLDER`"},
			&cli.BoolFlag{Name: "once", Usage: "send what there is, and end"},
		},
		Action: func(c *cli.Context) error {
			if err := noArgs(c); err != nil {
				return err
			}
			return deliver(c, slog.New(slog.NewTextHandler(c.App.ErrWriter, nil)))
		},
	}
}

// deliver runs until it is told to stop; a SIGHUP has it read the configuration
// again.
func deliver(c *cli.Context, log *slog.Logger) error {
	reload := make(chan os.Signal, 1)
	signal.Notify(reload, syscall.SIGHUP)
	defer signal.Stop(reload)
	cfg, err := loadExport(c, log)
	for err == nil {
		ctx, stop := context.WithCancel(c.Context)
		ended := make(chan error, 1)
		go func() { ended <- deliverAs(ctx, c, cfg, log) }()
		select {
		case err = <-ended:
			stop()
			return err
		case <-reload:
			stop()
			if err = <-ended; err == nil {
				cfg, err = loadExport(c, log)
			}
		}
	}
	return err
}

// loadExport reads the configuration. Its headers are for nobody else.
func loadExport(c *cli.Context, log *slog.Logger) (config.Config, error) {
	loaded, err := config.Read(c.Path("config"))
	cfg := loaded.Config
	if err != nil {
		return cfg, err
	}
	for _, path := range loaded.Files {
		if info, err := os.Stat(path); err == nil && len(cfg.Export.Headers) > 0 && info.Mode().Perm()&0o077 != 0 {
			log.Warn("the configuration holds headers and others may read it: chmod 600", "file", path)
		}
	}
	return cfg, nil
}

func deliverAs(ctx context.Context, c *cli.Context, cfg config.Config, log *slog.Logger) error {
	to, err := otlpConfig(cfg.Export)
	if err != nil {
		return err
	}
	if to.Endpoint == "" && c.Bool("once") {
		return fmt.Errorf("deliver: nothing is sent: no endpoint is configured: set export: endpoint: in %s, or OTEL_EXPORTER_OTLP_ENDPOINT", c.Path("config"))
	}
	if to.Endpoint == "" {
		log.Info("nothing is sent: no endpoint is configured (export: endpoint)")
		return nil
	}
	client, err := otlp.NewClient(to)
	if err != nil {
		return fmt.Errorf("export: %w", err)
	}
	defer client.Close()
	d, err := delivery.New(delivery.Options{
		Store:   bootStore(c),
		Settled: settledAt,
		Dir:     filepath.Join(c.Path("state-dir"), deliveryDir), SpoolSize: int64(cfg.Export.SpoolSize),
		Sender: client, Log: log,
		Open: func(boot *bootlog.Boot) (*delivery.Record, error) { return openRecord(boot, cfg.NearMiss) },
	})
	if err != nil {
		return err
	}
	if c.Bool("once") {
		return deliverOnce(ctx, d, c.App.Writer)
	}
	log.Info("delivering", "to", client.Address())
	return d.Run(ctx)
}

// deliverOnce sends what there is, and fails where some of it could not be sent:
// who runs it once has nobody else to notice.
func deliverOnce(ctx context.Context, d *delivery.Delivery, w io.Writer) error {
	before := d.Status()
	if err := d.Once(ctx); err != nil {
		return err
	}
	st := d.Status()
	sent := humanize.Comma(int64(st.Sent - before.Sent))
	switch {
	case st.SendError != "":
		return fmt.Errorf("deliver: sent %s spans, %d requests wait: %s", sent, st.Waiting, st.SendError)
	case st.Refused > before.Refused:
		return fmt.Errorf("deliver: sent %s spans, %d requests were refused: %s", sent, st.Refused-before.Refused, st.LastRefusal)
	case st.Waiting > 0: // it was told to stop
		return fmt.Errorf("deliver: sent %s spans, %d requests wait", sent, st.Waiting)
	case st.Sent == before.Sent:
		fmt.Fprintln(w, "nothing new to send: what has settled of the recorded boots was sent before")
	default:
		fmt.Fprintf(w, "sent %s spans\n", sent)
	}
	return nil
}

// otlpConfig is the configuration, and where that is silent the environment.
func otlpConfig(e config.Export) (otlp.Config, error) {
	env, err := otlp.FromEnv(os.Getenv)
	if err != nil {
		return env, err
	}
	own := otlp.Config{
		Endpoint: e.Endpoint, Protocol: e.Protocol, Headers: e.Headers,
		CAFile: e.CAFile, CertFile: e.CertFile, KeyFile: e.KeyFile,
	}.Or(env)
	if os.Getenv("OTEL_EXPORTER_OTLP_COMPRESSION") == "" && os.Getenv("OTEL_EXPORTER_OTLP_TRACES_COMPRESSION") == "" {
		own.Compression = e.Compression
	}
	if env.Timeout == 0 {
		own.Timeout = e.Timeout
	}
	return own, nil
}

// settledAt asks the service when the boot last settled, and has it write what
// it holds back.
func settledAt(ctx context.Context) (event.Time, bool) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	var st service.Status
	if err := control.Call(ctx, control.Socket, control.Request{Do: control.Status}, &st); err != nil {
		return 0, false
	}
	err := control.Call(ctx, control.Socket, control.Request{Do: control.Sync}, nil)
	return st.Settled, err == nil || !errors.Is(err, context.DeadlineExceeded)
}
