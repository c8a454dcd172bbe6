package otlp

import (
	"context"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"compress/gzip"

	"go.opentelemetry.io/collector/pdata/ptrace"
	"go.opentelemetry.io/collector/pdata/ptrace/ptraceotlp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

const secret = "s3cret"

// behaviour is how a receiver answers.
type behaviour struct {
	partial int64
	code    codes.Code // and its HTTP status
	slow    bool
}

// receiver takes traces over both protocols, from who knows the token.
type receiver struct {
	ptraceotlp.UnimplementedGRPCServer
	does behaviour
	got  []ptrace.Traces
}

func (r *receiver) answer(ctx context.Context, token string, req ptraceotlp.ExportRequest) (ptraceotlp.ExportResponse, error) {
	out := ptraceotlp.NewExportResponse()
	if token != secret {
		return out, status.Error(codes.Unauthenticated, "who are you?")
	}
	if r.does.slow {
		<-ctx.Done()
	}
	if r.does.code != codes.OK {
		return out, status.Error(r.does.code, "no\x1b[31m")
	}
	r.got = append(r.got, req.Traces())
	if r.does.partial > 0 {
		out.PartialSuccess().SetRejectedSpans(r.does.partial)
		out.PartialSuccess().SetErrorMessage("full")
	}
	return out, nil
}

func (r *receiver) Export(ctx context.Context, req ptraceotlp.ExportRequest) (ptraceotlp.ExportResponse, error) {
	token := ""
	if md, ok := metadata.FromIncomingContext(ctx); ok && len(md.Get("x-token")) > 0 {
		token = md.Get("x-token")[0]
	}
	return r.answer(ctx, token, req)
}

var httpStatus = map[codes.Code]int{
	codes.Unauthenticated: 401, codes.PermissionDenied: 403, codes.InvalidArgument: 400, codes.Unavailable: 503,
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if req.URL.Path != httpPath {
		http.NotFound(w, req)
		return
	}
	body := io.Reader(req.Body)
	if req.Header.Get("Content-Encoding") == "gzip" {
		z, err := gzip.NewReader(body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		body = z
	}
	data, err := io.ReadAll(body)
	in := ptraceotlp.NewExportRequest()
	if err = errors.Join(err, in.UnmarshalProto(data)); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	out, err := r.answer(req.Context(), req.Header.Get("X-Token"), in)
	if err != nil {
		w.Header().Set("Retry-After", "7")
		http.Error(w, status.Convert(err).Message(), httpStatus[status.Code(err)])
		return
	}
	answer, _ := out.MarshalProto()
	w.Header().Set("Content-Type", "application/x-protobuf")
	w.Write(answer)
}

// listen runs the receiver and returns its URL; with TLS also its CA's file.
func (r *receiver) listen(t *testing.T, protocol string, secure bool) (url, caFile string) {
	t.Helper()
	s := httptest.NewUnstartedServer(r)
	if secure {
		s.StartTLS()
		caFile = filepath.Join(t.TempDir(), "ca.pem")
		block := &pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}
		if err := os.WriteFile(caFile, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	} else {
		s.Start()
	}
	t.Cleanup(s.Close)
	if protocol == HTTP {
		return s.URL, caFile
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var options []grpc.ServerOption
	scheme := "http://"
	if secure {
		options = append(options, grpc.Creds(credentials.NewTLS(&tls.Config{Certificates: s.TLS.Certificates})))
		scheme = "https://"
	}
	server := grpc.NewServer(options...)
	ptraceotlp.RegisterGRPCServer(server, r)
	go server.Serve(listener)
	t.Cleanup(server.Stop)
	return scheme + listener.Addr().String(), caFile
}

func oneSpan() ptrace.Traces {
	traces := ptrace.NewTraces()
	traces.ResourceSpans().AppendEmpty().ScopeSpans().AppendEmpty().Spans().AppendEmpty().SetName("one")
	return traces
}

func sendOne(t *testing.T, c Config) error {
	t.Helper()
	client, err := NewClient(c)
	if err != nil {
		return err
	}
	defer client.Close()
	return client.Send(t.Context(), oneSpan())
}

func TestSend(t *testing.T) {
	for _, protocol := range []string{GRPC, HTTP} {
		for _, secure := range []bool{false, true} {
			for _, compression := range []string{Gzip, Uncompress} {
				r := &receiver{}
				url, ca := r.listen(t, protocol, secure)
				c := Config{Endpoint: url, Protocol: protocol, CAFile: ca, Compression: compression, Headers: map[string]string{"x-token": secret}}
				if err := sendOne(t, c); err != nil {
					t.Errorf("%s, TLS %v, %s: %v", protocol, secure, compression, err)
				} else if len(r.got) != 1 || r.got[0].SpanCount() != 1 {
					t.Errorf("%s, TLS %v, %s: the receiver got %d requests", protocol, secure, compression, len(r.got))
				}
			}
		}
	}
}

// Whatever goes wrong, the error says what, where and what to do, and no secret.
func TestRefused(t *testing.T) {
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := "http://" + closed.Addr().String()
	closed.Close()
	for _, protocol := range []string{GRPC, HTTP} {
		for name, c := range map[string]struct {
			does   behaviour
			secure bool
			change func(*Config)
			want   string
			final  bool
		}{
			"nobody there":     {change: func(c *Config) { c.Endpoint = nobody }, want: "nothing listens there"},
			"no such host":     {change: func(c *Config) { c.Endpoint = "http://nowhere.invalid:4318" }, want: "nowhere.invalid"},
			"token":            {change: func(c *Config) { c.Headers = map[string]string{"x-token": "s3cret-but-wrong"} }, want: "refuses this host (.*who are you?): check the token"},
			"certificate":      {secure: true, change: func(c *Config) { c.CAFile = "" }, want: "its certificate is not trusted: "},
			"no TLS there":     {change: func(c *Config) { c.Endpoint = "https" + strings.TrimPrefix(c.Endpoint, "http") }, want: "does not speak TLS"},
			"partial":          {does: behaviour{partial: 3}, want: "all but 3 spans: full", final: true},
			"bad request":      {does: behaviour{code: codes.InvalidArgument}, want: "no [31m", final: true},
			"overload":         {does: behaviour{code: codes.Unavailable}, want: "no [31m"},
			"slow":             {does: behaviour{slow: true}, change: func(c *Config) { c.Timeout = 50 * time.Millisecond }, want: "no answer within 50ms"},
			"forbidden":        {does: behaviour{code: codes.PermissionDenied}, want: "refuses this host"},
			"no file":          {secure: true, change: func(c *Config) { c.CAFile = "/nowhere/ca.pem" }, want: "read the certificates of the receiver's CA: open /nowhere/ca.pem"},
			"no certificate":   {secure: true, change: func(c *Config) { c.CAFile = os.Args[0] }, want: "holds none in PEM form"},
			"half a key pair":  {secure: true, change: func(c *Config) { c.CertFile = c.CAFile }, want: "load this host's certificate and key"},
			"wrong compressor": {change: func(c *Config) { c.Compression = "zip" }, want: `compression "zip" is not known`},
		} {
			t.Run(protocol+" "+name, func(t *testing.T) {
				r := &receiver{does: c.does}
				url, ca := r.listen(t, protocol, c.secure)
				cfg := Config{Endpoint: url, Protocol: protocol, CAFile: ca, Headers: map[string]string{"x-token": secret}}
				cfg.Timeout = time.Minute // for a busy machine
				if c.change != nil {
					c.change(&cfg)
				}
				err := sendOne(t, cfg)
				if err == nil {
					t.Fatal("it was taken")
				}
				head, tail, _ := strings.Cut(c.want, ".*")
				if text := err.Error(); !strings.Contains(text, head) || !strings.Contains(text, tail) || strings.Contains(text, secret) || strings.Contains(text, "\x1b") {
					t.Errorf("it says %q", text)
				}
				var refused *Error
				if errors.As(err, &refused) && refused.Final != c.final {
					t.Errorf("final: %v", refused.Final)
				}
				if protocol == HTTP && name == "overload" && refused.After != 7*time.Second {
					t.Errorf("try again after %s", refused.After)
				}
			})
		}
	}
}

// A receiver that sends elsewhere does not get the token sent there, too.
func TestRedirect(t *testing.T) {
	asked := false
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked = true }))
	defer other.Close()
	s := httptest.NewServer(http.RedirectHandler(other.URL, http.StatusTemporaryRedirect))
	defer s.Close()
	err := sendOne(t, Config{Endpoint: s.URL, Protocol: HTTP, Headers: map[string]string{"x-token": secret}})
	if err == nil || !strings.Contains(err.Error(), "307") || asked {
		t.Errorf("%v, asked %v", err, asked)
	}
}

func TestEndpoint(t *testing.T) {
	for _, c := range []struct {
		config Config
		want   string // protocol, TLS, and where to; or the error
	}{
		{Config{Endpoint: "http://c.example:4318"}, "http/protobuf plain http://c.example:4318/v1/traces"},
		{Config{Endpoint: "http://c.example:4318/"}, "http/protobuf plain http://c.example:4318/v1/traces"},
		{Config{Endpoint: "https://c.example/otlp"}, "http/protobuf tls https://c.example/otlp/v1/traces"},
		{Config{Endpoint: "https://c.example/otlp/v1/traces"}, "http/protobuf tls https://c.example/otlp/v1/traces"},
		{Config{Endpoint: "https://c.example/mine", Exact: true}, "http/protobuf tls https://c.example/mine"},
		{Config{Endpoint: "https://c.example"}, "http/protobuf tls https://c.example:4318/v1/traces"},
		{Config{Endpoint: "http://c.example:4317"}, "grpc plain c.example:4317"},
		{Config{Endpoint: "https://c.example", Protocol: GRPC}, "grpc tls c.example:4317"},
		{Config{Endpoint: "c.example:4317"}, "grpc tls c.example:4317"},
		{Config{Endpoint: "c.example:4317", Insecure: true}, "grpc plain c.example:4317"},
		{Config{Endpoint: "http://[::1]:4317"}, "grpc plain [::1]:4317"},
		{Config{}, "no endpoint: name one"},
		{Config{Endpoint: "ftp://c.example"}, "want a URL such as"},
		{Config{Endpoint: "http://"}, "want a URL such as"},
		{Config{Endpoint: "http://me:s3cret@c.example"}, "use a header"},
		{Config{Endpoint: "http://me:s3cret@c%zz"}, "want a URL such as"},
		{Config{Endpoint: "http://c.example:4318", Protocol: "http/json"}, `protocol "http/json" is not known`},
	} {
		got, err := c.config.target()
		text := got.protocol + " plain "
		if got.tls {
			text = got.protocol + " tls "
		}
		if got.protocol == GRPC {
			text += got.address
		} else {
			text += got.url
		}
		if err != nil {
			text = err.Error()
		}
		if !strings.Contains(text, c.want) || strings.Contains(text, secret) {
			t.Errorf("%+v: got %s, want %s", c.config, text, c.want)
		}
	}
}

// The variables of the specification, and what they mean together.
func TestFromEnv(t *testing.T) {
	env := map[string]string{
		"OTEL_EXPORTER_OTLP_ENDPOINT":           "http://c.example:4318",
		"OTEL_EXPORTER_OTLP_HEADERS":            "X-Token=a%20b, other=1",
		"OTEL_EXPORTER_OTLP_TIMEOUT":            "1500",
		"OTEL_EXPORTER_OTLP_COMPRESSION":        "gzip",
		"OTEL_EXPORTER_OTLP_TRACES_COMPRESSION": "none",
		"OTEL_EXPORTER_OTLP_CERTIFICATE":        "/ca.pem",
		"OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE": "/cert.pem",
		"OTEL_EXPORTER_OTLP_CLIENT_KEY":         "/key.pem",
		"OTEL_EXPORTER_OTLP_PROTOCOL":           "grpc",
		"OTEL_EXPORTER_OTLP_INSECURE":           "true",
	}
	get := func(name string) string { return env[name] }
	c, err := FromEnv(get)
	if err != nil {
		t.Fatal(err)
	}
	if c.Endpoint != "http://c.example:4318" || c.Exact || c.Headers["x-token"] != "a b" || c.Headers["other"] != "1" ||
		c.Timeout != 1500*time.Millisecond || c.Compression != Uncompress || c.CAFile != "/ca.pem" ||
		c.CertFile != "/cert.pem" || c.KeyFile != "/key.pem" || c.Protocol != GRPC || !c.Insecure {
		t.Errorf("got %+v", c)
	}
	env["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"] = "https://t.example/here"
	if c, err = FromEnv(get); err != nil || c.Endpoint != "https://t.example/here" || !c.Exact {
		t.Errorf("got %+v, %v", c, err)
	}
	mine := Config{Endpoint: "http://mine", Headers: map[string]string{"x-token": "mine"}}.Or(c)
	if mine.Endpoint != "http://mine" || mine.Exact || mine.Headers["x-token"] != "mine" || mine.Headers["other"] != "1" || mine.Protocol != GRPC {
		t.Errorf("got %+v", mine)
	}
	for name, value := range map[string]string{
		"OTEL_EXPORTER_OTLP_TIMEOUT": "10s", "OTEL_EXPORTER_OTLP_HEADERS": "s3cret",
	} {
		if _, err := FromEnv(func(n string) string {
			if n == name {
				return value
			}
			return ""
		}); err == nil || strings.Contains(err.Error(), secret) {
			t.Errorf("%s=%s: %v", name, value, err)
		}
	}
}

func FuzzParseHeaders(f *testing.F) {
	f.Add("a=b,c=%20")
	f.Add("=,%,a=%zz")
	f.Fuzz(func(t *testing.T, text string) {
		headers, err := ParseHeaders(text)
		for name := range headers {
			if err != nil || name == "" || name != strings.ToLower(name) {
				t.Errorf("%q gives %q, %v", text, headers, err)
			}
		}
	})
}
