package jaegertest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha1"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The shipped configurations are valid, and a host's boot goes through the
// collector, over TLS and with a password, to Jaeger. (Jaeger is a collector
// with all that this configuration needs.) Wrong credentials are refused, with
// an error that says so.
func TestFleet(t *testing.T) {
	j := newJaeger(t, "").start()
	c := newCollector(t, j)
	for _, file := range []string{"collector.yaml", "jaeger.yaml"} {
		check := exec.Command(j.program, "validate", "--config", filepath.Join("../examples", file))
		check.Env = append(c.env, "QUERY=127.0.0.1:0", "STORAGE=http://127.0.0.1:9200")
		if out, err := check.CombinedOutput(); err != nil {
			t.Errorf("%s: %v: %s", file, err, out)
		}
	}
	c.start(t)
	made := spansOf(madeOf(t, demo)...)
	for protocol, port := range map[string]int{"grpc": c.grpc, "http/protobuf": c.http} {
		export := func(password, ca string) (string, error) {
			token := base64.StdEncoding.EncodeToString([]byte("kvm7:" + password))
			args := []string{"export", "--endpoint", fmt.Sprintf("https://127.0.0.1:%d", port), "--protocol", protocol, demo}
			if ca != "" {
				args = append(args, "--ca-file", ca)
			}
			run := exec.Command(program(t), args...)
			run.Env = append(os.Environ(), "OTEL_EXPORTER_OTLP_HEADERS=authorization=Basic%20"+token)
			out, err := run.CombinedOutput()
			if strings.Contains(string(out), token) {
				t.Errorf("%s: the token is shown: %s", protocol, out)
			}
			return string(out), err
		}
		if out, err := export("wrong", c.ca); err == nil || !strings.Contains(out, "it refuses this host") {
			t.Errorf("%s, with a wrong password: %v: %s", protocol, err, out)
		}
		if out, err := export("right", ""); err == nil || !strings.Contains(out, "its certificate is not trusted") {
			t.Errorf("%s, without the CA: %v: %s", protocol, err, out)
		}
		if out, err := export("right", c.ca); err != nil {
			t.Errorf("%s: %v: %s", protocol, err, out)
		}
		compare(t, made, j.trace(demoID))
	}
}

// collector is Jaeger, run as the collector of the examples.
type collector struct {
	program    string
	env        []string
	ca         string
	grpc, http int
}

func newCollector(t *testing.T, j *jaeger) *collector {
	t.Helper()
	dir := t.TempDir()
	c := &collector{program: j.program, ca: filepath.Join(dir, "cert.pem"), grpc: freePort(t), http: freePort(t)}
	key := filepath.Join(dir, "key.pem")
	writeCertificate(t, c.ca, key)
	hash := sha1.Sum([]byte("right"))
	htpasswd := filepath.Join(dir, "htpasswd")
	line := "kvm7:{SHA}" + base64.StdEncoding.EncodeToString(hash[:]) + "\n"
	if err := os.WriteFile(htpasswd, []byte(line), 0o600); err != nil {
		t.Fatal(err)
	}
	c.env = append(os.Environ(), "OTEL_TRACES_SAMPLER=always_off", "LISTEN=127.0.0.1", "TLS_CERT="+c.ca, "TLS_KEY="+key,
		"HTPASSWD="+htpasswd, fmt.Sprintf("JAEGER=127.0.0.1:%d", j.GRPC), "JAEGER_INSECURE=true",
		fmt.Sprintf("GRPC_PORT=%d", c.grpc), fmt.Sprintf("HTTP_PORT=%d", c.http), fmt.Sprintf("HEALTH_PORT=%d", freePort(t)))
	return c
}

func (c *collector) start(t *testing.T) {
	t.Helper()
	var log strings.Builder
	run := exec.Command(c.program, "--config", "../examples/collector.yaml")
	run.Env, run.Stdout, run.Stderr = c.env, &log, &log
	if err := run.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = run.Process.Kill()
		_ = run.Wait()
		if t.Failed() {
			t.Logf("the collector says:\n%s", log.String())
		}
	})
	deadline := time.Now().Add(time.Minute)
	for _, port := range []int{c.grpc, c.http} {
		for {
			conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
			if err == nil {
				conn.Close()
				break
			}
			if time.Now().After(deadline) {
				t.Fatal("the collector does not start")
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
}

// writeCertificate writes a certificate for this host that vouches for itself.
func writeCertificate(t *testing.T, certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	form := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "collector"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	cert, err := x509.CreateCertificate(rand.Reader, form, form, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for path, block := range map[string]*pem.Block{
		certFile: {Type: "CERTIFICATE", Bytes: cert}, keyFile: {Type: "PRIVATE KEY", Bytes: secret},
	} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
