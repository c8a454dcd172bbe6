// Package control is how bootrace's commands talk to the running service: one
// JSON request and one JSON answer, a line each, over a Unix socket that only
// root can reach, and the members of one group, who may ask and change nothing (see
// package readers). An answer can take as long as the client waits for it: its end
// of the connection is the end of the request.
package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/bootrace/bootrace/tracer/readers"
)

// Socket is where the service of this host listens. It is under /run so that
// an instance started in the initramfs can be reached from the real root.
const Socket = "/run/bootrace/control"

// MaxRequest and MaxAnswer bound what is read, in bytes. The largest answer is a
// status with the most holds that are listed, each with the longest texts: a
// fraction of that.
const (
	MaxRequest = 1 << 20
	MaxAnswer  = 64 << 20
)

// ErrNoService says that nothing listens on the socket.
var ErrNoService = errors.New("bootrace is not running")

// Request asks the service for one thing.
type Request struct {
	// Do is what to do: see the constants.
	Do string `json:"do"`
	// Args are the arguments, by name.
	Args map[string]string `json:"args,omitempty"`
}

// What a service can be asked to do.
const (
	Status     = "status"     // answer with the service's status
	Sync       = "sync"       // write what is buffered, so that the log can be read
	Relinquish = "relinquish" // /var is about to go: close the log
	Adopt      = "adopt"      // take over from the initramfs into the real root
	Release    = "release"    // let a held guest go on; answer with the names of those
	Policy     = "policy"     // answer with what enforce mode does with the start of a guest
	Disks      = "disks"      // answer with what a guest last ran on, as []event.MemoryDisk
	Repair     = "repair"     // record a step of a repair, text
	Accept     = "accept"     // make what a guest ran on what it should run on; answer with what was accepted
	HookHold   = "hook-hold"  // libvirt's hook keeps a start back; answered when it is to let that go
	HookHeld   = "hook-held"  // and does so no longer; let-go: the UUID of a guest that it let go too early
	Stop       = "stop"       // end, leaving the boot log to a successor
)

// answer is the wire form of what a handler returned.
type answer struct {
	Error  string          `json:"error,omitempty"`
	Result json.RawMessage `json:"result,omitempty"`
}

// forReaders is what may be asked without being root. It changes nothing.
var forReaders = []string{Status, Sync}

// Handler answers one request. pid is the peer's process id, already known to
// belong to root, or to a reader where the request is one of Status and Sync. What it returns is sent as JSON. ctx ends when the peer is gone.
type Handler func(ctx context.Context, pid int, r Request) (any, error)

// Server listens for requests.
type Server struct {
	listener *net.UnixListener
	handle   Handler
	log      *slog.Logger
	path     string

	mu      sync.Mutex
	readers int            // the group of those who may ask, 0: none
	asking  map[uint32]int // connections of users other than root
	all     int
}

// How many connections users other than root may have: all of them, and one.
const (
	connectionsOfReaders = 32
	connectionsOfReader  = 4
)

// Share lets the members of a group ask, and do nothing else; 0 changes nothing.
func (s *Server) Share(gid int) error {
	s.mu.Lock()
	s.readers = gid
	s.mu.Unlock()
	return errors.Join(readers.ShareFolder(filepath.Dir(s.path), gid), readers.ShareSocket(s.path, gid))
}

// Listen binds path, replacing a socket that a dead process left behind. A
// socket with a live process behind it is an error that wraps
// syscall.EADDRINUSE.
func Listen(path string, handle Handler, log *slog.Logger) (*Server, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("create the folder of the control socket: %w", err)
	}
	if conn, err := net.DialTimeout("unix", path, time.Second); err == nil {
		conn.Close()
		return nil, fmt.Errorf("listen on %s: another bootrace is running: %w", path, syscall.EADDRINUSE)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("remove the stale control socket: %w", err)
	}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		listener.Close()
		return nil, fmt.Errorf("restrict %s: %w", path, err)
	}
	// The path may name a successor's socket by the time this one closes.
	listener.SetUnlinkOnClose(false)
	return &Server{listener: listener, handle: handle, log: log, path: path, asking: map[uint32]int{}}, nil
}

// Serve answers requests until ctx ends or the server is closed.
func (s *Server) Serve(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { s.listener.Close() })
	defer stop()
	for {
		conn, err := s.listener.AcceptUnix()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("accept on the control socket: %w", err)
		}
		go s.serve(ctx, conn)
	}
}

// Close stops listening.
func (s *Server) Close() error { return s.listener.Close() }

func (s *Server) serve(ctx context.Context, conn *net.UnixConn) {
	defer conn.Close()
	peer, err := peerOf(conn)
	if err != nil || peer.Uid != 0 && !s.isReader(conn, peer) {
		return // the folder's mode already keeps others out
	}
	if peer.Uid != 0 {
		if !s.enter(peer.Uid) {
			return
		}
		defer s.leave(peer.Uid)
	}
	conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	var req Request
	if err := read(conn, &req, MaxRequest); err != nil {
		s.log.Warn("unreadable control request", "pid", peer.Pid, "error", err)
		return
	}
	conn.SetReadDeadline(time.Time{})
	if peer.Uid != 0 && !slices.Contains(forReaders, req.Do) {
		s.send(conn, peer, answer{Error: "only root may ask it to " + req.Do})
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // a client says nothing more: what ends this is its going
		_, _ = io.Copy(io.Discard, conn)
		cancel()
	}()
	var out answer
	result, err := s.handle(ctx, int(peer.Pid), req)
	if err != nil {
		out.Error = err.Error()
	} else if out.Result, err = json.Marshal(result); err != nil {
		out.Error = fmt.Sprintf("encode the answer: %v", err)
	}
	s.send(conn, peer, out)
}

func (s *Server) send(conn *net.UnixConn, peer *unix.Ucred, out answer) {
	conn.SetWriteDeadline(time.Now().Add(10 * time.Second))
	if err := json.NewEncoder(conn).Encode(out); err != nil {
		s.log.Warn("control answer not delivered", "pid", peer.Pid, "error", err)
	}
}

// isReader reports whether the peer is a member of the group that may ask. Before Linux
// 4.13 the kernel tells no supplementary groups: then that it could connect says so, by
// the modes of socket and folder.
func (s *Server) isReader(conn *net.UnixConn, peer *unix.Ucred) bool {
	s.mu.Lock()
	gid := s.readers
	s.mu.Unlock()
	if gid == 0 {
		return false
	}
	if int(peer.Gid) == gid {
		return true
	}
	groups, err := groupsOf(conn)
	if errors.Is(err, unix.ENOPROTOOPT) {
		return true
	}
	return err == nil && slices.Contains(groups, uint32(gid))
}

// groupsOf returns the supplementary groups of the peer (SO_PEERGROUPS of socket(7)).
func groupsOf(conn *net.UnixConn) (groups []uint32, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	groups = make([]uint32, 1<<16) // NGROUPS_MAX
	size := uint32(len(groups) * 4)
	var errno unix.Errno
	if err := raw.Control(func(fd uintptr) {
		_, _, errno = unix.Syscall6(unix.SYS_GETSOCKOPT, fd, unix.SOL_SOCKET, unix.SO_PEERGROUPS,
			uintptr(unsafe.Pointer(&groups[0])), uintptr(unsafe.Pointer(&size)), 0)
	}); err != nil {
		return nil, err
	}
	if errno != 0 {
		return nil, os.NewSyscallError("getsockopt", errno)
	}
	return groups[:size/4], nil
}

// enter takes one of the connections that a user other than root may have.
func (s *Server) enter(uid uint32) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all >= connectionsOfReaders || s.asking[uid] >= connectionsOfReader {
		return false
	}
	s.all++
	s.asking[uid]++
	return true
}

func (s *Server) leave(uid uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all--
	if s.asking[uid]--; s.asking[uid] == 0 {
		delete(s.asking, uid)
	}
}

func peerOf(conn *net.UnixConn) (cred *unix.Ucred, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	if ctlErr := raw.Control(func(fd uintptr) {
		cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); ctlErr != nil {
		return nil, ctlErr
	}
	return cred, err
}

// RefusedError is what the service answered in place of a result.
type RefusedError struct{ Text string }

func (e *RefusedError) Error() string { return "service: " + e.Text }

// Call sends one request to the service at path and decodes its answer into
// result (nil: ignored). The error is ErrNoService where nothing listens.
func Call(ctx context.Context, path string, req Request, result any) error {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unix", path)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return ErrNoService
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("ask the service: %w (only root and the members of group bootrace may)", err)
	case err != nil:
		return fmt.Errorf("ask the service: %w", err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if err := json.NewEncoder(conn).Encode(req); err != nil {
		return fmt.Errorf("ask the service to %s: %w", req.Do, err)
	}
	var out answer
	if err := read(conn, &out, MaxAnswer); err != nil {
		return fmt.Errorf("read the service's answer to %s: %w", req.Do, err)
	}
	if out.Error != "" {
		return &RefusedError{out.Error}
	}
	if result == nil {
		return nil
	}
	if err := json.Unmarshal(out.Result, result); err != nil {
		return fmt.Errorf("decode the service's answer to %s: %w", req.Do, err)
	}
	return nil
}

// read reads one line of at most limit bytes.
func read(conn net.Conn, into any, limit int64) error {
	in := &io.LimitedReader{R: conn, N: limit}
	line, err := bufio.NewReader(in).ReadBytes('\n')
	switch {
	case err == nil:
		return json.Unmarshal(line, into)
	case !errors.Is(err, io.EOF):
		return err
	case in.N <= 0:
		return fmt.Errorf("it is longer than %d bytes", limit)
	}
	return errors.New("the connection ended")
}
