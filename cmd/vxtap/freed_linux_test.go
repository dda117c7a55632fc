// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"vxtap/tunnel"
	"vxtap/tunnel/tap"
)

// What a process has that was killed goes a moment after kill has returned.
func TestDaemonWaitsForWhatAFormerOneStillHas(t *testing.T) {
	const said = "what the overlay needs is taken, waiting for it to be let go of"
	tests := []struct {
		name string
		take func(h *testHost) (io.Closer, error)
		what string // in the log
	}{
		{"the UDP port", func(h *testHost) (io.Closer, error) { return net.ListenPacket("udp", hostAddr+":8472") }, "UDP port 8472 on " + hostAddr + " is taken by "},
		{"the health port", func(h *testHost) (io.Closer, error) { return net.Listen("tcp", "127.0.0.1:8081") }, "listen tcp 127.0.0.1:8081: bind: address already in use"},
		{"the TAP", func(h *testHost) (io.Closer, error) { return openTAPNamed(hostDevice) }, "device flannel.1 is there already, of type tuntap"},
		{"the uplink TAP", func(h *testHost) (io.Closer, error) { return openTAPNamed("vxup.1") }, "create TAP vxup.1: device or resource busy"},
		{"the socket", func(h *testHost) (io.Closer, error) {
			if err := os.MkdirAll(h.run, 0o755); err != nil {
				return nil, err
			}
			return hangingSocket(filepath.Join(h.run, "flannel.1.sock"))
		}, "does not answer there"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := newTestHost(t)
			h.startEtcd(netConfig)
			var former io.Closer
			if err := h.ns.Do(func() (err error) { former, err = tt.take(h); return err }); err != nil {
				t.Fatal(err)
			}
			p := h.daemon(nil)
			h.eventually("the daemon waits", func() error {
				if !strings.Contains(p.printed(), said) {
					return errors.New(p.printed())
				}
				return p.died()
			})
			if err := former.Close(); err != nil {
				t.Fatal(err)
			}
			h.ready(p)
			if got := strings.Count(p.printed(), said); got != 1 || !strings.Contains(p.printed(), tt.what) {
				t.Errorf("it is said %d times, want once and %q:\n%s", got, tt.what, p.printed())
			}
			p.stop(h)
			h.nothingLeft()
		})
	}
}

// openTAPNamed opens a TAP that no process inherits.
func openTAPNamed(name string) (io.Closer, error) {
	return tap.Open(tap.Config{Name: name, Want: tunnel.Offloads{Csum: true}})
}

// hangingSocket takes connections, as a process does that is about to end, and
// lets those who ask know that it will not answer.
func hangingSocket(path string) (io.Closer, error) {
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
	return l, nil
}

func TestDaemonStartsRightAfterOneThatWasKilled(t *testing.T) {
	h, p := newRunningHost(t, netConfig)
	before := h.status()
	for range 5 {
		if err := p.cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		p = h.daemon(nil) // while the kernel may still be at it
		h.ready(p)
		if now := h.status(); now.Subnet != before.Subnet || now.MAC != before.MAC || now.TXPath.Device != before.TXPath.Device {
			t.Fatalf("got %s, %s and the uplink TAP %q, want %s, %s and %q as before", now.Subnet, now.MAC, now.TXPath.Device, before.Subnet, before.MAC, before.TXPath.Device)
		}
	}
	p.stop(h)
	h.nothingLeft()
}
