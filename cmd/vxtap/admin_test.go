// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"vxtap/lease"
	"vxtap/lease/leasetest"
)

// runDir returns a new run directory. It is not t.TempDir's: that has the name
// of the test in it, and the path of a unix socket has 108 bytes at most.
func runDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "vx") //nolint:usetesting // its paths are too long
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// serveAdmin answers like a daemon until the test ends.
func serveAdmin(t *testing.T, dir, device, answer string) *adminSocket {
	t.Helper()
	a, err := listenAdmin(dir, device)
	if err != nil {
		t.Fatal(err)
	}
	var g errgroup.Group
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+adminPath, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, answer) })
	g.Go(func() error { return serveHTTP(t.Context(), a, mux, slog.New(slog.DiscardHandler)) })
	t.Cleanup(func() { // t.Context has ended by now
		if err := g.Wait(); err != nil {
			t.Error(err)
		}
	})
	return a
}

func TestAdminSocketFile(t *testing.T) {
	dir := filepath.Join(runDir(t), "made")
	a, err := listenAdmin(dir, "flannel.1")
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Lstat(socketPath(dir, "flannel.1"))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := info.Mode(), fs.ModeSocket|0o600; got != want {
		t.Errorf("got mode %v of the socket, want %v", got, want)
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	if err := a.Close(); err != nil {
		t.Errorf("got error %v from the second Close, want none", err)
	}
	wantEntries(t, dir)
}

func wantEntries(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("got %q in the run directory, want %q", got, want)
	}
}

func TestAdminSocketOfADeadDaemonIsReplaced(t *testing.T) {
	dir := runDir(t)
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: socketPath(dir, "flannel.1"), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	dead.Close()

	if err := checkAdmin(t.Context(), dir, "flannel.1"); err != nil {
		t.Errorf("got error %v, want a dead socket to be no obstacle", err)
	}
	a := serveAdmin(t, dir, "flannel.1", `{"pid": 42}`)
	s, err := fetchStatus(t.Context(), a.path)
	if err != nil || s.PID != 42 {
		t.Errorf("got %v and error %v, want the new daemon's answer", s.PID, err)
	}
	wantEntries(t, dir, "flannel.1.sock")
}

func TestAdminSocketOfALivingDaemonIsNot(t *testing.T) {
	dir := runDir(t)
	serveAdmin(t, dir, "flannel.1", `{"pid": 42}`)
	err := checkAdmin(t.Context(), dir, "flannel.1")
	want := fmt.Sprintf("another vxtap (pid 42) answers at %s/flannel.1.sock: stop it, or give this one another -run-dir", dir)
	if err == nil || err.Error() != want {
		t.Errorf("got error %v, want %q", err, want)
	}
	if err := checkAdmin(t.Context(), dir, "flannel.2"); err != nil {
		t.Errorf("got error %v for another device, want none", err)
	}
}

// A daemon that ends must not take the socket of its successor with it.
func TestAdminSocketOfAnotherIsLeftAlone(t *testing.T) {
	dir := runDir(t)
	first, err := listenAdmin(dir, "flannel.1")
	if err != nil {
		t.Fatal(err)
	}
	second, err := listenAdmin(dir, "flannel.1")
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Close(); err != nil {
		t.Error(err)
	}
	wantEntries(t, dir, "flannel.1.sock")
	if err := second.Close(); err != nil {
		t.Error(err)
	}
	wantEntries(t, dir)
}

// While a lease is waited for, and that may be for long, the socket is there
// already: whoever asks must get an answer.
func TestAdminSocketIsServedBeforeThereIsALease(t *testing.T) {
	store := leasetest.New()
	t.Cleanup(store.Close)
	d := &daemon{settings: settings{runDir: runDir(t)}, log: slog.New(slog.DiscardHandler), registry: lease.New(store, lease.Options{})}
	d.phase.Store(phaseStarting)
	s := &segment{d: d, log: d.log, device: "flannel.1"}
	s.ipv4 = s.addSide(ipv4, s.device)
	s.ipv4.mtu.Store(1450)
	ctx, cancel := context.WithCancel(t.Context())
	if err := s.openAdmin(ctx); err != nil {
		t.Fatal(err)
	}
	cancel() // as by SIGTERM; the socket goes with the segment
	ask, done := context.WithTimeout(t.Context(), 5*time.Second)
	defer done()
	got, err := fetchStatus(ask, socketPath(d.runDir, "flannel.1"))
	if err != nil || got.State != string(phaseStarting) || got.Device != "flannel.1" || got.MTU != 1450 || got.Subnet.IsValid() {
		t.Errorf("got %+v and error %v, want the device, no subnet, and the state", got, err)
	}
	if err := s.close(); err != nil {
		t.Error(err)
	}
	wantEntries(t, d.runDir)
}

func TestAdminSocketErrors(t *testing.T) {
	dir := runDir(t)
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "taken", "flannel.1.sock", "full"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, in := range map[string]string{
		"run directory is a file":        file,
		"path too long for a socket":     filepath.Join(dir, strings.Repeat("x", 120)),
		"a directory has the name of it": filepath.Join(dir, "taken"),
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := listenAdmin(in, "flannel.1"); err == nil || strings.Contains(err.Error(), "\n") {
				t.Errorf("got error %v, want one line", err)
			}
		})
	}
}

func TestStatusCommandErrors(t *testing.T) {
	empty, one, two := runDir(t), runDir(t), runDir(t)
	dead, err := listenAdmin(one, "flannel.1")
	if err != nil {
		t.Fatal(err)
	}
	dead.UnixListener.Close()
	for _, device := range []string{"flannel.1", "flannel.2"} {
		serveAdmin(t, two, device, `{"device": "`+device+`"}`)
	}
	garbled := runDir(t)
	serveAdmin(t, garbled, "flannel.1", `{"pid": "many"}`)

	tests := []struct {
		name string
		args []string
		want string
	}{
		{"no daemon", []string{"-run-dir", empty}, "no vxtap runs here: there is no socket in " + empty + "; a daemon that still waits for etcd has none"},
		{"no such directory", []string{"-run-dir", empty + "/none"}, "no vxtap runs here: there is no socket in " + empty + "/none; a daemon that still waits for etcd has none"},
		{"dead daemon", []string{"-run-dir", one}, "no vxtap runs here: " + one + "/flannel.1.sock was left by one that died"},
		{"several daemons", []string{"-run-dir", two}, "several daemons have a socket in " + two + ": choose one with -device, of flannel.1, flannel.2"},
		{"another device", []string{"-run-dir", two, "-device", "flannel.3"}, "no vxtap runs here: there is no socket " + two + "/flannel.3.sock"},
		{"an answer that makes no sense", []string{"-run-dir", garbled}, "ask the daemon: read the answer of "},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			status, stdout, stderr := runVxtap(t, nil, append([]string{"status"}, tt.args...)...)
			if status != exitError || stdout != "" || !strings.HasPrefix(stderr, "vxtap: "+tt.want) || strings.Count(stderr, "\n") != 1 {
				t.Errorf("got status %d, %q and %q, want %d and %q", status, stdout, stderr, exitError, tt.want)
			}
		})
	}
	t.Run("one of several", func(t *testing.T) {
		status, stdout, stderr := runVxtap(t, []string{"VXTAP_RUN_DIR=" + two}, "status", "-device=flannel.2", "-o=json")
		if status != exitOK || !strings.Contains(stdout, `"device": "flannel.2"`) {
			t.Errorf("got status %d, %q and %q, want flannel.2's", status, stdout, stderr)
		}
	})
}
