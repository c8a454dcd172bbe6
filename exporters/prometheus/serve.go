package prometheus

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/http"
	"time"

	"github.com/bootrace/bootrace/tracer/replace"
)

// contentType is that of the text format.
const contentType = "text/plain; version=0.0.4; charset=utf-8"

// Serve answers scrapes of /metrics at l with what stats returns, until ctx
// ends.
func Serve(ctx context.Context, l net.Listener, stats func() *Stats) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
		var b bytes.Buffer
		if err := Write(&b, stats()); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", contentType)
		_, _ = w.Write(b.Bytes()) // who went away does not want it
	})
	server := &http.Server{Handler: mux, ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second, MaxHeaderBytes: 16 << 10}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// WriteFile writes s to the file at path, the whole of it or nothing: the
// collector may read at any time. It may be another user's, so all may read it.
func WriteFile(path string, s *Stats) error {
	// The collector reads files that end in .prom: the temporary one must not.
	f, err := replace.Create(path, replace.Options{Perm: 0o644, Fleeting: true})
	if err != nil {
		return err
	}
	if err := Write(f, s); err != nil {
		return errors.Join(err, f.Abandon())
	}
	return f.Commit()
}
