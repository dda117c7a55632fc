// SPDX-License-Identifier: Apache-2.0

//go:build unix

package etcd

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"vxtap/test/ports"
)

// server is a real etcd of one member, in a process of its own.
type server struct {
	bin    string
	args   []string
	client string // host:port
	log    *lockedBuffer
	cmd    *exec.Cmd
}

// lockedBuffer is written by the process and read by the test.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// startServer starts an etcd on ports of its own of the loopback interface, with
// short heartbeats so that grants may be short. It is gone after the test.
func startServer(t testing.TB, scheme string, extra ...string) *server {
	t.Helper()
	bin, err := exec.LookPath("etcd")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("there is no etcd binary: install Debian's etcd-server")
		}
		t.Skip("there is no etcd binary: install Debian's etcd-server")
	}
	dir := t.TempDir()
	s := &server{bin: bin, client: ports.Keep(t), log: &lockedBuffer{}}
	peer := "http://" + ports.Keep(t)
	client := scheme + "://" + s.client
	s.args = append([]string{
		"--name=t", "--data-dir=" + filepath.Join(dir, "data"), "--logger=zap", "--log-level=warn",
		"--listen-client-urls=" + client, "--advertise-client-urls=" + client,
		"--listen-peer-urls=" + peer, "--initial-advertise-peer-urls=" + peer, "--initial-cluster=t=" + peer,
		"--heartbeat-interval=20", "--election-timeout=200", "--unsafe-no-fsync",
	}, extra...)
	s.start(t)
	t.Cleanup(func() {
		s.kill()
		if t.Failed() {
			t.Logf("etcd said:\n%s", s.log)
		}
	})
	return s
}

// start runs the process and waits until its port is open.
func (s *server) start(t testing.TB) {
	t.Helper()
	s.cmd = exec.Command(s.bin, s.args...)
	s.cmd.Stdout, s.cmd.Stderr = s.log, s.log
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	each := time.NewTicker(10 * time.Millisecond)
	defer each.Stop()
	for range 2000 {
		if c, err := net.Dial("tcp", s.client); err == nil {
			c.Close()
			return
		}
		<-each.C
	}
	t.Fatalf("etcd does not listen on %s:\n%s", s.client, s.log)
}

// kill ends the process as a power cut does.
func (s *server) kill() {
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
	s.cmd = nil
}

// stop makes the process hang with its connections open, and cont undoes it.
func (s *server) stop(t testing.TB) {
	t.Helper()
	s.signal(t, syscall.SIGSTOP)
	// The signal is sent, and threads that run may still answer for a moment.
	var status syscall.WaitStatus
	for !status.Stopped() {
		if _, err := syscall.Wait4(s.cmd.Process.Pid, &status, syscall.WUNTRACED, nil); err != nil && err != syscall.EINTR {
			t.Fatalf("wait until etcd stands still: %v", err)
		}
	}
}

func (s *server) cont(t testing.TB) {
	t.Helper()
	s.signal(t, syscall.SIGCONT)
}

func (s *server) signal(t testing.TB, sig syscall.Signal) {
	t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
}

func (s *server) url(scheme string) string { return fmt.Sprintf("%s://%s", scheme, s.client) }

// openStore opens c, which must work, for as long as the test runs.
func openStore(t testing.TB, c Config) *Store {
	t.Helper()
	s, err := Open(t.Context(), c, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s
}
