package config

import (
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"time"
)

// Metrics says where metrics for Prometheus go.
type Metrics struct {
	// File is for node_exporter's textfile collector; empty: none is written.
	File string `yaml:"file"`
	// Listen is where scrapes are answered, on a loopback address; empty:
	// nowhere.
	Listen string        `yaml:"listen"`
	Every  time.Duration `yaml:"every"`
}

func defaultMetrics() Metrics { return Metrics{Every: 30 * time.Second} }

func (m *Metrics) validate() error {
	if m.Every < time.Second {
		return fmt.Errorf("metrics: every %s: at least 1s", m.Every)
	}
	if m.File != "" && (!filepath.IsAbs(m.File) || !strings.HasSuffix(m.File, ".prom")) {
		return fmt.Errorf("metrics: file %q: want an absolute path that ends in .prom, as the textfile collector does", m.File)
	}
	if m.Listen == "" {
		return nil
	}
	host, _, err := net.SplitHostPort(m.Listen)
	if err != nil {
		return fmt.Errorf("metrics: listen %q: want an address and a port, such as 127.0.0.1:9784", m.Listen)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return fmt.Errorf("metrics: listen %q: only a loopback address: metrics are not encrypted, put a proxy before them", m.Listen)
	}
	return nil
}
