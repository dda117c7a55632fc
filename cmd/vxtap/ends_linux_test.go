// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// A daemon that hangs must not need SIGKILL: reading a named pipe that nobody
// writes to heeds no context.
func TestSecondSIGTERMEndsAHangingDaemon(t *testing.T) {
	h := newTestHost(t)
	pipe := filepath.Join(runDir(t), "ca.pem")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	p := h.daemon(nil, "-etcd-endpoints=https://127.0.0.1:2379", "-etcd-cafile="+pipe)
	h.eventually("the daemon runs", func() error { // it listens from just before it hangs
		c, err := h.ns.DialContext(t.Context(), "tcp", strings.TrimPrefix(healthURL, "http://"))
		if err == nil {
			c.Close()
		}
		return errors.Join(err, p.died())
	})
	h.eventually("the daemon has ended", func() error {
		if p.died() != nil {
			return nil
		}
		if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
			return nil //nolint:nilerr // it has ended just now
		}
		return errors.New("still running")
	})
	<-p.ended
	if ws := p.cmd.ProcessState.Sys().(syscall.WaitStatus); !ws.Signaled() || ws.Signal() != syscall.SIGTERM {
		t.Errorf("got %v, want it to be ended by the second SIGTERM", p.cmd.ProcessState)
	}
}

// Signals that come again at once, as service managers send them, and a terminal
// that closes must not cut the shutdown short.
func TestDaemonEndsInGoodOrder(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGHUP} {
		t.Run(sig.String(), func(t *testing.T) {
			h, p := newRunningHost(t, netConfig)
			for p.died() == nil {
				if err := p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
					t.Fatal(err)
				}
			}
			if got := p.cmd.ProcessState.ExitCode(); got != exitOK {
				t.Errorf("got %v, want status 0", p.cmd.ProcessState)
			}
			h.nothingLeft()
		})
	}
}

// The log may go to a pipe whose reader ends first.
func TestDaemonOutlivesTheReaderOfItsLog(t *testing.T) {
	h := newTestHost(t)
	h.startEtcd(netConfig)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	cmd := exec.Command("/proc/self/exe", h.daemonArgs()...)
	cmd.Env = append(os.Environ(), asVxtap+"=1")
	cmd.Stdout, cmd.Stderr = w, w
	p := h.start(cmd)
	w.Close()
	h.ready(p)
	p.stop(h)
	h.nothingLeft()
}

func TestDaemonStopsWhileEtcdIsDown(t *testing.T) {
	h := newTestHost(t)
	etcd := h.startEtcd(netConfig)
	p := h.daemon(nil)
	h.ready(p)
	if err := etcd.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-etcd.ended
	h.eventually("the daemon notices", func() error {
		if s := h.status(); s.Etcd.Connected || s.State != "ready" {
			return fmt.Errorf("got connected %v and state %s", s.Etcd.Connected, s.State)
		}
		return p.died()
	})
	p.stop(h)
	h.nothingLeft()
}
