package otlp

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// The protocols, by the names that OTEL_EXPORTER_OTLP_PROTOCOL has for them.
const (
	GRPC = "grpc"
	HTTP = "http/protobuf"
)

// Compressions, by the names of OTEL_EXPORTER_OTLP_COMPRESSION.
const (
	Gzip       = "gzip"
	Uncompress = "none"
)

// DefaultTimeout is how long a request may take, as the specification has it.
const DefaultTimeout = 10 * time.Second

// Config says where and how to send. Where a text is empty and a number 0, the
// specification's default holds.
type Config struct {
	// Endpoint is a URL, or HOST:PORT. http:// means without TLS.
	Endpoint string
	// Exact is set where an HTTP endpoint is the whole URL, with its path.
	Exact bool
	// Protocol is GRPC or HTTP; empty: by the port, 4317 is gRPC's.
	Protocol string
	// Headers go with each request. They hold tokens: they are in no message.
	Headers map[string]string
	// CAFile holds the certificates, in PEM, that vouch for the receiver; empty:
	// the host's. CertFile and KeyFile are what this host shows to it.
	CAFile, CertFile, KeyFile string
	// Insecure has HOST:PORT mean a connection without TLS.
	Insecure bool
	// Compression is Gzip or Uncompress; empty: Gzip.
	Compression string
	Timeout     time.Duration
}

// Or fills what c leaves open from other.
func (c Config) Or(other Config) Config {
	if c.Endpoint == "" {
		c.Endpoint, c.Exact, c.Insecure = other.Endpoint, other.Exact, other.Insecure
	}
	c.Protocol = cmp.Or(c.Protocol, other.Protocol)
	c.CAFile = cmp.Or(c.CAFile, other.CAFile)
	if c.CertFile == "" && c.KeyFile == "" {
		c.CertFile, c.KeyFile = other.CertFile, other.KeyFile
	}
	c.Compression = cmp.Or(c.Compression, other.Compression)
	c.Timeout = cmp.Or(c.Timeout, other.Timeout)
	headers := maps.Clone(other.Headers)
	if headers == nil {
		headers = map[string]string{}
	}
	maps.Copy(headers, c.Headers)
	c.Headers = headers
	return c
}

// FromEnv reads the variables OTEL_EXPORTER_OTLP_* and, before these,
// OTEL_EXPORTER_OTLP_TRACES_*, as the specification of the OTLP exporter
// defines them. The libraries that read them keep that to themselves.
func FromEnv(getenv func(string) string) (Config, error) {
	get := func(name string) string {
		return cmp.Or(getenv("OTEL_EXPORTER_OTLP_TRACES_"+name), getenv("OTEL_EXPORTER_OTLP_"+name))
	}
	c := Config{
		Endpoint: get("ENDPOINT"), Exact: getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") != "",
		Protocol: get("PROTOCOL"), Compression: get("COMPRESSION"),
		CAFile: get("CERTIFICATE"), CertFile: get("CLIENT_CERTIFICATE"), KeyFile: get("CLIENT_KEY"),
		Insecure: strings.EqualFold(get("INSECURE"), "true"),
	}
	var err error
	if c.Headers, err = ParseHeaders(get("HEADERS")); err != nil {
		return c, fmt.Errorf("OTEL_EXPORTER_OTLP_HEADERS: %w", err)
	}
	if ms := get("TIMEOUT"); ms != "" {
		n, err := strconv.ParseInt(ms, 10, 32)
		if err != nil || n < 0 {
			return c, fmt.Errorf("OTEL_EXPORTER_OTLP_TIMEOUT %q: want milliseconds, such as 10000", ms)
		}
		c.Timeout = time.Duration(n) * time.Millisecond
	}
	return c, nil
}

// ParseHeaders reads NAME=VALUE pairs, separated by commas, with what is
// special in them percent-encoded. Errors don't show values.
func ParseHeaders(text string) (map[string]string, error) {
	headers := map[string]string{}
	for i, pair := range strings.Split(text, ",") {
		if strings.TrimSpace(pair) == "" {
			continue
		}
		name, value, ok := strings.Cut(pair, "=")
		name = strings.TrimSpace(name)
		if !ok || name == "" {
			return nil, fmt.Errorf("header %d: want NAME=VALUE", i+1)
		}
		value, err := url.PathUnescape(strings.TrimSpace(value))
		if err != nil {
			return nil, fmt.Errorf("header %s: its value is not percent-encoded as it should be", name)
		}
		headers[strings.ToLower(name)] = value
	}
	return headers, nil
}

// target is an endpoint, understood.
type target struct {
	protocol string
	tls      bool
	address  string // HOST:PORT
	url      string // of an HTTP endpoint
}

// The ports that are registered for OTLP.
const (
	grpcPort = "4317"
	httpPort = "4318"
)

// httpPath is where traces go on an HTTP endpoint that names no place.
const httpPath = "/v1/traces"

var errNoEndpoint = errors.New("no endpoint: name one, such as http://collector.example:4318")

func (c *Config) target() (target, error) {
	if c.Endpoint == "" {
		return target{}, errNoEndpoint
	}
	text := c.Endpoint
	if !strings.Contains(text, "://") {
		scheme := "https://"
		if c.Insecure {
			scheme = "http://"
		}
		text = scheme + text
	}
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" || u.Scheme != "http" && u.Scheme != "https" {
		return target{}, fmt.Errorf("endpoint %s: want a URL such as http://collector.example:4318", hidden(c.Endpoint))
	}
	if u.User != nil {
		return target{}, fmt.Errorf("endpoint %s: a password does not belong there: use a header", hidden(c.Endpoint))
	}
	t := target{protocol: c.Protocol, tls: u.Scheme == "https"}
	switch {
	case t.protocol == "" && u.Port() == grpcPort:
		t.protocol = GRPC
	case t.protocol == "":
		t.protocol = HTTP
	case t.protocol != GRPC && t.protocol != HTTP:
		return target{}, fmt.Errorf("protocol %q is not known: use %s or %s", t.protocol, GRPC, HTTP)
	}
	if t.protocol == GRPC {
		t.address = net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), grpcPort))
		return t, nil
	}
	if u.Port() == "" && !c.Exact && u.Path == "" {
		u.Host = net.JoinHostPort(u.Hostname(), httpPort)
	}
	if !c.Exact && !strings.HasSuffix(u.Path, httpPath) {
		u.Path = strings.TrimSuffix(u.Path, "/") + httpPath
	}
	t.address, t.url = u.Host, u.String()
	return t, nil
}

// hidden is an endpoint without a password that was put into it.
func hidden(endpoint string) string {
	if _, after, ok := strings.Cut(endpoint, "@"); ok {
		return strconv.Quote("…@" + after)
	}
	return strconv.Quote(endpoint)
}
