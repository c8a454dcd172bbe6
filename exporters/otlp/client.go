package otlp

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	grpcgzip "google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// Client sends requests to one receiver. It does not try again: when to do so
// is its user's affair, who knows what else there is to do.
type Client struct {
	target  target
	timeout time.Duration
	send    func(context.Context, ptraceotlp.ExportRequest) (ptraceotlp.ExportResponse, error)
	close   func() error
}

// Error is why a request was not taken.
type Error struct {
	Address string
	Why     string // what happened, and what to do
	// Final is set where the same request will never be taken.
	Final bool
	// After is when to try again at the earliest, 0 where nothing was said.
	After time.Duration
	err   error
}

func (e *Error) Error() string { return fmt.Sprintf("send to %s: %s", e.Address, e.Why) }

func (e *Error) Unwrap() error { return e.err }

// NewClient makes a client. It connects when it first sends.
func NewClient(c Config) (*Client, error) {
	t, err := c.target()
	if err != nil {
		return nil, err
	}
	switch c.Compression {
	case "", Gzip, Uncompress:
	default:
		return nil, fmt.Errorf("compression %q is not known: use %s or %s", c.Compression, Gzip, Uncompress)
	}
	var secure *tls.Config
	if t.tls {
		if secure, err = c.tls(); err != nil {
			return nil, err
		}
	}
	client := &Client{target: t, timeout: cmp.Or(c.Timeout, DefaultTimeout)}
	if t.protocol == GRPC {
		return client, client.openGRPC(&c, secure)
	}
	client.openHTTP(&c, secure)
	return client, nil
}

// Close ends the connection.
func (c *Client) Close() error { return c.close() }

// Address is where the client sends to.
func (c *Client) Address() string { return c.target.address }

// Send sends one request. It returns nil once the receiver has taken all of
// it; otherwise an *Error.
func (c *Client) Send(ctx context.Context, traces ptrace.Traces) error {
	limited, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	answer, err := c.send(limited, ptraceotlp.NewExportRequestFromTraces(traces))
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return c.explain(err)
	}
	if p := answer.PartialSuccess(); p.RejectedSpans() > 0 {
		return &Error{Address: c.target.address, Final: true,
			Why: fmt.Sprintf("it took all but %d spans: %s", p.RejectedSpans(), cmp.Or(p.ErrorMessage(), "it does not say why"))}
	}
	return nil
}

// tls is the configuration of secure connections.
func (c *Config) tls() (*tls.Config, error) {
	out := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.CAFile != "" {
		pem, err := os.ReadFile(c.CAFile)
		if err != nil {
			return nil, fmt.Errorf("read the certificates of the receiver's CA: %w", err)
		}
		out.RootCAs = x509.NewCertPool()
		if !out.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("certificates of the receiver's CA: %s holds none in PEM form", c.CAFile)
		}
	}
	if c.CertFile != "" || c.KeyFile != "" {
		pair, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("load this host's certificate and key: %w", err)
		}
		out.Certificates = []tls.Certificate{pair}
	}
	return out, nil
}

func (c *Client) openGRPC(cfg *Config, secure *tls.Config) error {
	creds := insecure.NewCredentials()
	if secure != nil {
		creds = credentials.NewTLS(secure)
	}
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(creds), grpc.WithDisableRetry(), grpc.WithDisableServiceConfig(),
		grpc.WithUserAgent(userAgent),
	}
	if cfg.Compression != Uncompress {
		options = append(options, grpc.WithDefaultCallOptions(grpc.UseCompressor(grpcgzip.Name)))
	}
	conn, err := grpc.NewClient(c.target.address, options...)
	if err != nil {
		return fmt.Errorf("endpoint %s: %w", c.target.address, err)
	}
	client, headers := ptraceotlp.NewGRPCClient(conn), metadata.New(cfg.Headers)
	c.close = conn.Close
	c.send = func(ctx context.Context, r ptraceotlp.ExportRequest) (ptraceotlp.ExportResponse, error) {
		return client.Export(metadata.NewOutgoingContext(ctx, headers), r)
	}
	return nil
}

const userAgent = "bootrace"

func (c *Client) openHTTP(cfg *Config, secure *tls.Config) {
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: secure, ForceAttemptHTTP2: true, IdleConnTimeout: time.Minute}
	client := &http.Client{
		Transport: transport,
		// Headers hold tokens: they go where they were meant to, and nowhere else.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	headers, compress := cfg.Headers, cfg.Compression != Uncompress
	c.close = func() error { transport.CloseIdleConnections(); return nil }
	c.send = func(ctx context.Context, r ptraceotlp.ExportRequest) (ptraceotlp.ExportResponse, error) {
		body, err := r.MarshalProto()
		if err != nil {
			return ptraceotlp.ExportResponse{}, fmt.Errorf("encode the request: %w", err)
		}
		req, err := newRequest(ctx, c.target.url, body, compress)
		if err != nil {
			return ptraceotlp.ExportResponse{}, err
		}
		for name, value := range headers {
			req.Header.Set(name, value)
		}
		answer, err := client.Do(req)
		if err != nil {
			return ptraceotlp.ExportResponse{}, err
		}
		defer answer.Body.Close()
		return readAnswer(answer)
	}
}

func newRequest(ctx context.Context, url string, body []byte, compress bool) (*http.Request, error) {
	if compress {
		var small bytes.Buffer
		z, err := gzip.NewWriterLevel(&small, gzip.BestSpeed)
		if err != nil {
			return nil, err
		}
		if _, err := z.Write(body); err != nil {
			return nil, err
		}
		if err := z.Close(); err != nil {
			return nil, err
		}
		body = small.Bytes()
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("make the request: %w", err)
	}
	req.Header.Set("Content-Type", "application/x-protobuf")
	req.Header.Set("User-Agent", userAgent)
	if compress {
		req.Header.Set("Content-Encoding", "gzip")
	}
	return req, nil
}

// httpError is an answer other than success.
type httpError struct {
	status int
	after  time.Duration
	text   string
}

func (e *httpError) Error() string {
	return strings.TrimSuffix(fmt.Sprintf("it answers %d %s: %s", e.status, http.StatusText(e.status), e.text), ": ")
}

func readAnswer(answer *http.Response) (ptraceotlp.ExportResponse, error) {
	const most = 64 << 10 // of an answer that is a receiver's
	body, err := io.ReadAll(io.LimitReader(answer.Body, most))
	out := ptraceotlp.NewExportResponse()
	if answer.StatusCode/100 != 2 {
		e := &httpError{status: answer.StatusCode}
		if s, err := strconv.Atoi(answer.Header.Get("Retry-After")); err == nil && s > 0 {
			e.after = time.Duration(min(s, 3600)) * time.Second
		}
		if strings.HasPrefix(answer.Header.Get("Content-Type"), "text/plain") {
			e.text = printable(string(body))
		}
		return out, e
	}
	if err != nil {
		return out, fmt.Errorf("read the answer: %w", err)
	}
	if len(body) > 0 && strings.HasPrefix(answer.Header.Get("Content-Type"), "application/x-protobuf") {
		if err := out.UnmarshalProto(body); err != nil {
			return out, fmt.Errorf("the answer is not OTLP: %w: is the endpoint a receiver of OTLP over HTTP?", err)
		}
	}
	return out, nil
}

// printable is the beginning of foreign text without what could steer a
// terminal.
func printable(text string) string {
	const most = 200
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 || r == '\u2028' || r == '\u2029' {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text[:min(len(text), most)], "?"))
	return strings.TrimSpace(text)
}

// explain turns what the libraries say into what an operator can use.
func (c *Client) explain(err error) *Error {
	e := &Error{Address: c.target.address, Why: printable(err.Error()), err: err}
	var answer *httpError
	if errors.As(err, &answer) {
		e.After = answer.after
		e.classify(answer.status == http.StatusUnauthorized || answer.status == http.StatusForbidden,
			answer.status == http.StatusBadRequest || answer.status == http.StatusRequestEntityTooLarge || answer.status == http.StatusUnprocessableEntity)
		if answer.status == http.StatusNotFound || answer.status/100 == 3 {
			e.Why += ": is " + c.target.url + " where traces go?"
		}
		return e
	}
	if s, ok := status.FromError(err); ok && c.target.protocol == GRPC {
		e.Why = printable(s.Message())
		for _, detail := range s.Details() {
			if r, ok := detail.(*errdetails.RetryInfo); ok {
				e.After = r.GetRetryDelay().AsDuration()
			}
		}
		if s.Code() == codes.Unimplemented {
			e.Why = "it takes no traces over gRPC: is it the port of another protocol?"
			return e
		}
		e.classify(s.Code() == codes.Unauthenticated || s.Code() == codes.PermissionDenied, s.Code() == codes.InvalidArgument)
	}
	switch text := err.Error(); {
	case errors.Is(err, context.DeadlineExceeded) || status.Code(err) == codes.DeadlineExceeded:
		e.Why = fmt.Sprintf("no answer within %s", c.timeout)
	case strings.Contains(text, "x509:"):
		_, why, _ := strings.Cut(text, "x509: ")
		e.Why = "its certificate is not trusted: " + printable(strings.Trim(why, `"`)) + ": name the CA that issued it (ca-file)"
	case strings.Contains(text, "connection refused"):
		e.Why = "nothing listens there (connection refused)"
	case strings.Contains(text, "no such host"):
		e.Why = "no host has that name"
	case strings.Contains(text, "first record does not look like a TLS handshake"), strings.Contains(text, "server gave HTTP response to HTTPS client"):
		e.Why = "it does not speak TLS: use http:// if that is meant"
	}
	return e
}

func (e *Error) classify(refused, final bool) {
	if refused {
		e.Why = "it refuses this host (" + e.Why + "): check the token in the headers"
	}
	e.Final = final
}
