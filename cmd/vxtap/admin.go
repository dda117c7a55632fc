// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

// adminPath is what the socket answers to.
const adminPath = "/v1/status"

// socketSuffix ends the names of sockets in the run directory; before it
// stands the device.
const socketSuffix = ".sock"

func socketPath(dir, device string) string { return filepath.Join(dir, device+socketSuffix) }

// adminSocket is the listening unix socket.
type adminSocket struct {
	*net.UnixListener
	path string
	info fs.FileInfo // of the file that we made
}

// errSilent says that who has the socket does not answer there: it hangs, or was
// killed and has not quite ended.
var errSilent = errors.New("does not answer there")

// checkAdmin reports whether a living daemon has the device's socket. The error
// matches errSilent where that one may be about to end.
func checkAdmin(ctx context.Context, dir, device string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	path := socketPath(dir, device)
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return nil //nolint:nilerr // nobody is there, or only the socket of a dead daemon
	}
	conn.Close()
	s, err := fetchStatus(ctx, path)
	if err != nil {
		return fmt.Errorf("another vxtap has %s and %w: stop it, or give this one another -run-dir", path, errSilent)
	}
	return fmt.Errorf("another vxtap (pid %d) answers at %s: stop it, or give this one another -run-dir", s.PID, path)
}

// listenAdmin makes the device's socket in dir. The file appears under its
// name with mode 0600 and already listening: it is made in a directory that
// nobody else can enter and then renamed, which also replaces what a dead
// daemon left.
func listenAdmin(dir, device string) (_ *adminSocket, err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make run directory: %w", err)
	}
	private, err := os.MkdirTemp(dir, ".") // mode 0700
	if err != nil {
		return nil, fmt.Errorf("make admin socket: %w", err)
	}
	defer func() { _ = os.RemoveAll(private) }() // at worst an empty directory stays
	born := filepath.Join(private, "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: born, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("make admin socket: %w", err)
	}
	l.SetUnlinkOnClose(false) // it would look for the name it was born with
	a := &adminSocket{UnixListener: l, path: socketPath(dir, device)}
	defer func() {
		if err != nil {
			l.Close()
		}
	}()
	if err := os.Chmod(born, 0o600); err != nil {
		return nil, fmt.Errorf("make admin socket: %w", err)
	}
	if a.info, err = os.Lstat(born); err != nil {
		return nil, fmt.Errorf("make admin socket: %w", err)
	}
	if err := os.Rename(born, a.path); err != nil {
		return nil, fmt.Errorf("make admin socket: %w", err)
	}
	return a, nil
}

// Close stops listening and removes the file, unless somebody else's is there
// by now. It may be called again.
func (a *adminSocket) Close() error {
	if now, err := os.Lstat(a.path); err == nil && os.SameFile(now, a.info) {
		if err := os.Remove(a.path); err != nil {
			return fmt.Errorf("remove admin socket: %w", err)
		}
	}
	if err := a.UnixListener.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("close admin socket: %w", err)
	}
	return nil
}

// adminServer answers on the socket until it is closed.
type adminServer struct {
	socket *adminSocket
	stop   context.CancelFunc
	ended  chan struct{} // closed after err is set
	err    error
}

// startAdmin serves h on socket. It does not end with ctx: for as long as a
// segment is there, somebody may ask what it does.
func startAdmin(ctx context.Context, socket *adminSocket, h http.Handler, log *slog.Logger) *adminServer {
	ctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	a := &adminServer{socket: socket, stop: stop, ended: make(chan struct{})}
	go func() {
		defer close(a.ended)
		a.err = serveHTTP(ctx, socket, h, log)
	}()
	return a
}

// wait returns when ctx ends, with nil, or when the server did by itself.
func (a *adminServer) wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-a.ended:
		return a.err
	}
}

// Close ends the server and removes the socket's file. Why a server ended that
// ended by itself is wait's to tell.
func (a *adminServer) Close() error {
	a.stop()
	<-a.ended
	return a.socket.Close()
}

func adminHandler(status func(time.Time) Status) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+adminPath, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = writeJSON(w, status(time.Now())) // an error is the client's: it has gone
	})
	return mux
}

// writeJSON writes s as people can read it, too.
func writeJSON(w io.Writer, s Status) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(s)
}

// maxStatus is more than the status of a network of 65,536 peers.
const maxStatus = 64 << 20

// fetchStatus asks the daemon behind a socket.
func fetchStatus(ctx context.Context, path string) (Status, error) {
	client := &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", path)
		},
		DisableKeepAlives: true,
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://vxtap"+adminPath, nil)
	if err != nil {
		return Status{}, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return Status{}, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return Status{}, fmt.Errorf("%s answers %s", path, resp.Status)
	}
	var s Status
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxStatus)).Decode(&s); err != nil {
		return Status{}, fmt.Errorf("read the answer of %s: %w", path, err)
	}
	return s, nil
}
