package repair

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// served is an image that qemu-nbd serves on a socket of ours: its bytes are those
// that a guest sees. It is the only way in which this package reads an overlay, or
// writes an image that is not raw. The protocol is NBD's "fixed newstyle" with simple
// replies (https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md).
type served struct {
	mu     sync.Mutex
	conn   net.Conn
	server *exec.Cmd
	ended  chan error
	stderr *bytes.Buffer
	size   int64
	handle uint64
}

const (
	nbdHello   = 0x4e42444d41474943 // "NBDMAGIC"
	nbdOption  = 0x49484156454f5054 // "IHAVEOPT"
	nbdRequest = 0x25609513
	nbdReply   = 0x67446698

	nbdRead  = 0
	nbdWrite = 1
	nbdDisc  = 2
	nbdFlush = 3

	// nbdMost is how many bytes one request moves at most.
	nbdMost = 1 << 20
)

// serve starts qemu-nbd on an image; its socket is in dir. The server opens the image
// with QEMU's locks: it fails where a guest has it.
func serve(ctx context.Context, dir, path, format string, write bool) (*served, error) {
	socket := filepath.Join(dir, fmt.Sprintf("nbd-%d", time.Now().UnixNano()))
	args := []string{"--socket=" + socket, "--format=" + format, "--shared=1", "--cache=writeback"}
	if !write {
		args = append(args, "--read-only")
	}
	s := &served{stderr: &bytes.Buffer{}, ended: make(chan error, 1)}
	s.server = exec.CommandContext(ctx, "qemu-nbd", append(args, "--", path)...)
	s.server.Stderr = s.stderr
	// A Ctrl-C at the terminal is for us: the server ends when we are done with it.
	s.server.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := s.server.Start(); err != nil {
		return nil, fmt.Errorf("serve %s: %w: qemu-nbd is needed", path, err)
	}
	go func() { s.ended <- s.server.Wait() }()
	fail := func(err error) (*served, error) {
		s.stop()
		return nil, fmt.Errorf("serve %s: %w", path, err)
	}
	for begun := time.Now(); ; {
		conn, err := net.Dial("unix", socket)
		if err == nil {
			s.conn = conn
			break
		}
		select {
		case err := <-s.ended:
			s.ended <- err
			return fail(errors.New(strings.TrimSpace(s.stderr.String())))
		case <-ctx.Done():
			return fail(ctx.Err())
		case <-time.After(10 * time.Millisecond):
		}
		if time.Since(begun) > time.Minute {
			return fail(errors.New("qemu-nbd does not answer"))
		}
	}
	if err := s.shake(); err != nil {
		select { // the server listens before it opens the image, and ends where it can't
		case end := <-s.ended:
			s.ended <- end
			if said := strings.TrimSpace(s.stderr.String()); said != "" {
				err = errors.New(said)
			}
		case <-time.After(time.Second):
		}
		return fail(err)
	}
	return s, nil
}

// shake agrees with the server on its only export.
func (s *served) shake() error {
	var hello struct {
		Magic, Option uint64
		Flags         uint16
	}
	if err := binary.Read(s.conn, binary.BigEndian, &hello); err != nil {
		return err
	}
	if hello.Magic != nbdHello || hello.Option != nbdOption || hello.Flags&1 == 0 {
		return errors.New("what answers is no NBD server")
	}
	ask := binary.BigEndian.AppendUint32(nil, 1|uint32(hello.Flags&2)) // fixed newstyle, no zeroes
	ask = binary.BigEndian.AppendUint64(ask, nbdOption)
	ask = binary.BigEndian.AppendUint32(ask, 1) // NBD_OPT_EXPORT_NAME
	ask = binary.BigEndian.AppendUint32(ask, 0) // the default export
	if _, err := s.conn.Write(ask); err != nil {
		return err
	}
	var export struct {
		Size  uint64
		Flags uint16
	}
	if err := binary.Read(s.conn, binary.BigEndian, &export); err != nil {
		return err
	}
	if hello.Flags&2 == 0 {
		if _, err := io.CopyN(io.Discard, s.conn, 124); err != nil {
			return err
		}
	}
	if export.Size > 1<<62 {
		return fmt.Errorf("the server says that the image has %d bytes", export.Size)
	}
	s.size = int64(export.Size)
	return nil
}

// ask sends a request and waits for its answer.
func (s *served) ask(what uint16, off int64, send, receive []byte) error {
	s.handle++
	request := binary.BigEndian.AppendUint32(nil, nbdRequest)
	request = binary.BigEndian.AppendUint16(request, 0)
	request = binary.BigEndian.AppendUint16(request, what)
	request = binary.BigEndian.AppendUint64(request, s.handle)
	request = binary.BigEndian.AppendUint64(request, uint64(off))
	request = binary.BigEndian.AppendUint32(request, uint32(len(send)+len(receive)))
	if _, err := s.conn.Write(append(request, send...)); err != nil {
		return err
	}
	var reply struct {
		Magic, Error uint32
		Handle       uint64
	}
	if err := binary.Read(s.conn, binary.BigEndian, &reply); err != nil {
		return err
	}
	switch {
	case reply.Magic != nbdReply || reply.Handle != s.handle:
		return errors.New("the NBD server answers something else")
	case reply.Error != 0:
		return fmt.Errorf("the NBD server reports error %d at byte %d", reply.Error, off)
	}
	_, err := io.ReadFull(s.conn, receive)
	return err
}

// ReadAt implements io.ReaderAt.
func (s *served) ReadAt(p []byte, off int64) (int, error) {
	return s.move(nbdRead, p, off)
}

// WriteAt implements io.WriterAt.
func (s *served) WriteAt(p []byte, off int64) (int, error) {
	return s.move(nbdWrite, p, off)
}

func (s *served) move(what uint16, p []byte, off int64) (done int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if off < 0 || off > s.size-int64(len(p)) {
		return 0, io.EOF
	}
	for done < len(p) {
		part := p[done:min(len(p), done+nbdMost)]
		if what == nbdRead {
			err = s.ask(what, off+int64(done), nil, part)
		} else {
			err = s.ask(what, off+int64(done), part, nil)
		}
		if err != nil {
			return done, err
		}
		done += len(part)
	}
	return done, nil
}

// Sync returns when all that was written is on stable storage.
func (s *served) Sync() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ask(nbdFlush, 0, nil, nil)
}

// Size returns how many bytes the guest sees.
func (s *served) Size() int64 { return s.size }

// Close ends the server in good order, so that the image is closed when it returns.
func (s *served) Close() error {
	s.mu.Lock()
	request := binary.BigEndian.AppendUint32(nil, nbdRequest)
	request = binary.BigEndian.AppendUint32(request, nbdDisc)
	_, err := s.conn.Write(append(request, make([]byte, 20)...))
	s.mu.Unlock()
	err = errors.Join(err, s.conn.Close())
	select {
	case end := <-s.ended:
		if end != nil {
			err = errors.Join(err, fmt.Errorf("qemu-nbd: %w: %s", end, strings.TrimSpace(s.stderr.String())))
		}
	case <-time.After(time.Minute):
		err = errors.Join(err, errors.New("qemu-nbd did not end"))
		s.stop()
	}
	return err
}

// stop ends the server at once.
func (s *served) stop() {
	if s.conn != nil {
		s.conn.Close()
	}
	if s.server.Process != nil {
		_ = s.server.Process.Signal(os.Kill)
		_ = <-s.ended //nolint:staticcheck // errcheck wants it: it was killed
	}
}
