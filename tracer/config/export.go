package config

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/bootrace/bootrace/tracer/guest"
)

// Export says where the timelines of this host's boots are sent.
type Export struct {
	// Endpoint is the receiver of OTLP; empty: nothing is sent.
	Endpoint string `yaml:"endpoint"`
	// Protocol is grpc or http/protobuf; empty: by the port.
	Protocol string `yaml:"protocol"`
	// Headers go with each request.
	Headers Headers `yaml:"headers"`
	// CAFile, CertFile and KeyFile are for TLS.
	CAFile   string `yaml:"ca-file"`
	CertFile string `yaml:"cert-file"`
	KeyFile  string `yaml:"key-file"`
	// Compression is gzip or none.
	Compression string        `yaml:"compression"`
	Timeout     time.Duration `yaml:"timeout"`
	// Settle is how long nothing may start until the boot has settled.
	Settle time.Duration `yaml:"settle"`
	// SpoolSize limits what waits to be sent.
	SpoolSize Size `yaml:"spool-size"`
}

// Headers are sent with each request, by name. Their values are secrets: no
// form of them that is meant to be read shows any.
type Headers map[string]string

func (h Headers) String() string {
	return "[" + strings.Join(slices.Sorted(maps.Keys(h)), " ") + "]"
}

// GoString is String, for %#v.
func (h Headers) GoString() string { return h.String() }

// MarshalYAML has the names alone.
func (h Headers) MarshalYAML() (any, error) {
	told := map[string]string{}
	for name := range h {
		told[name] = guest.Redacted
	}
	return told, nil
}

// LogValue is String, for logs.
func (h Headers) LogValue() slog.Value { return slog.StringValue(h.String()) }

func defaultExport() Export {
	return Export{Headers: Headers{}, Compression: "gzip", Timeout: 10 * time.Second, Settle: time.Minute, SpoolSize: 64 << 20}
}

// minSettle is longer than a guest takes to open its disks one after the other.
const minSettle = time.Second

// minSpool holds one request of the largest size, and some more.
const minSpool Size = 8 << 20

func (e *Export) validate() error {
	switch {
	case e.Settle < minSettle:
		return fmt.Errorf("export: settle %s: at least %s", e.Settle, minSettle)
	case e.SpoolSize < minSpool:
		return fmt.Errorf("export: spool-size %s: at least %s", &e.SpoolSize, new(minSpool))
	case e.Timeout <= 0:
		return fmt.Errorf("export: timeout %s: must be more than nothing", e.Timeout)
	case (e.CertFile == "") != (e.KeyFile == ""):
		return errors.New("export: cert-file and key-file go together")
	}
	return nil
}
