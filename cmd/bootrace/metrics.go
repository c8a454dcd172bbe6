package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"runtime/debug"
	"sync"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/bootrace/bootrace/cmd/internal/version"
	"github.com/bootrace/bootrace/exporters/delivery"
	"github.com/bootrace/bootrace/exporters/prometheus"
	"github.com/bootrace/bootrace/tracer/bootlog"
	"github.com/bootrace/bootrace/tracer/config"
	"github.com/bootrace/bootrace/tracer/control"
	"github.com/bootrace/bootrace/tracer/event"
	"github.com/bootrace/bootrace/tracer/service"
)

func metricsCommand() *cli.Command {
	return &cli.Command{
		Name:      "metrics",
		Usage:     "a boot and the service as metrics for Prometheus",
		ArgsUsage: "[BOOT]",
		Flags: sourceFlags(
			&cli.PathFlag{Name: "output", Aliases: []string{"o"}, Usage: "write to this `FILE`, for node_exporter's textfile collector"},
			&cli.BoolFlag{Name: "keep", Usage: "write and answer as configured until told to stop (systemd runs this)"},
			&cli.PathFlag{Name: "config", Value: config.Path, Usage: "with --keep, read this `FILE`"},
		),
		Action: func(c *cli.Context) error {
			if c.Bool("keep") {
				return keepMetrics(c, slog.New(slog.NewTextHandler(c.App.ErrWriter, nil)))
			}
			m := newMeter(c)
			tl, err := readBoot(c)
			if err != nil {
				return err
			}
			s := m.ask(c.Context)
			s.Boot = prometheus.Summarize(tl)
			if path := c.Path("output"); path != "" && path != "-" {
				if err := prometheus.WriteFile(path, s); err != nil {
					return fmt.Errorf("metrics to %s: %w", path, withoutPath(err))
				}
				return nil
			}
			return prometheus.Write(c.App.Writer, s)
		},
	}
}

// keepMetrics writes the configured file and answers at the configured address.
func keepMetrics(c *cli.Context, log *slog.Logger) error {
	if err := noArgs(c); err != nil {
		return err
	}
	cfg, err := config.Load(c.Path("config"))
	if err != nil {
		return err
	}
	if cfg.Metrics.File == "" && cfg.Metrics.Listen == "" {
		log.Info("no metrics are written: neither a file nor an address is configured (metrics: file, listen)")
		return nil
	}
	m := newMeter(c)
	m.log, m.nearMiss = log, cfg.NearMiss
	ctx, stop := context.WithCancelCause(c.Context)
	defer stop(nil)
	var serving sync.WaitGroup
	defer serving.Wait()
	defer stop(nil)
	if cfg.Metrics.Listen != "" {
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", cfg.Metrics.Listen)
		if err != nil {
			return fmt.Errorf("metrics: %w", err)
		}
		log.Info("answering scrapes", "address", l.Addr())
		serving.Go(func() { stop(prometheus.Serve(ctx, l, m.last)) })
	}
	m.keep(ctx, cfg.Metrics)
	if err := context.Cause(ctx); err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("metrics: %w", err)
	}
	return nil
}

// meter finds out what there is to tell.
type meter struct {
	store    bootlog.Store
	stateDir string
	log      *slog.Logger
	nearMiss time.Duration

	mu    sync.Mutex
	stats *prometheus.Stats

	boot    *prometheus.Boot
	settled event.Time // of boot
}

func newMeter(c *cli.Context) *meter {
	return &meter{store: bootStore(c), stateDir: service.StateDir, stats: &prometheus.Stats{Version: version.String(), Boots: -1}}
}

func (m *meter) last() *prometheus.Stats {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.stats
}

// keep asks again and again, and writes the file where one is configured.
func (m *meter) keep(ctx context.Context, cfg config.Metrics) {
	every := time.NewTicker(cfg.Every)
	defer every.Stop()
	failed := ""
	for {
		s := m.ask(ctx)
		s.Boot = m.judge(s)
		m.mu.Lock()
		m.stats = s
		m.mu.Unlock()
		if cfg.File != "" {
			problem := ""
			if err := prometheus.WriteFile(cfg.File, s); err != nil {
				problem = withoutPath(err).Error()
			}
			if problem != "" && problem != failed {
				m.log.Error("the metrics are not written", "file", cfg.File, "error", problem)
			}
			failed = problem
		}
		select {
		case <-ctx.Done():
			return
		case <-every.C:
		}
	}
}

// ask asks the service, and looks what is kept.
func (m *meter) ask(ctx context.Context) *prometheus.Stats {
	s := &prometheus.Stats{Version: version.String(), Boots: -1}
	if boots, err := m.store.List(); err == nil {
		s.Boots = len(boots)
	}
	if st, err := delivery.ReadStatus(filepath.Join(m.stateDir, deliveryDir)); err == nil {
		s.Spool = &prometheus.Spool{Requests: st.Waiting, Bytes: st.WaitingBytes, Refused: st.Refused, Sent: st.Sent}
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	var st service.Status
	if err := control.Call(ctx, control.Socket, control.Request{Do: control.Status}, &st); err == nil {
		older, initramfsOlder := stale(&st, version.String())
		s.Service = &prometheus.Service{
			Mode: string(st.Mode), Start: st.Start, Settled: st.Settled, Sources: st.Sources,
			Events: st.Events, Lost: st.Lost, LogFails: st.LogErr != "", LogRefused: st.LogRefused != "", LogRestored: st.LogRestored, ConfigRefused: st.ConfigErr != "",
			Older: older, InitramfsOlder: initramfsOlder,
			OverShare: map[string]uint64{},
		}
		for _, l := range st.OverShare {
			s.Service.OverShare[l.What] += l.Count
		}
	}
	return s
}

// judge reads this boot's log once the boot has settled, and again when it did
// so once more: never while the host boots.
func (m *meter) judge(s *prometheus.Stats) *prometheus.Boot {
	if s.Service == nil || s.Service.Settled == 0 || s.Service.Settled == m.settled {
		return m.boot
	}
	boot, err := m.store.Find("0")
	if err != nil {
		m.log.Error("this boot is not judged", "error", err)
		return m.boot
	}
	tl, err := buildTimeline(&boot, m.nearMiss)
	if err != nil {
		m.log.Error("this boot is not judged", "error", err)
		return m.boot
	}
	m.boot, m.settled = prometheus.Summarize(tl), s.Service.Settled
	debug.FreeOSMemory() // what a large boot needed is not needed until the next one
	return m.boot
}
