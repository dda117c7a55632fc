// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// remembered waits until the daemon has written what it knows of n leases, and
// returns where.
func (h *testHost) remembered(n int) string {
	h.Helper()
	var path string
	h.eventually("what is known is on the disk", func() error {
		files, err := filepath.Glob(filepath.Join(h.stateDir(), "*.json"))
		if err != nil || len(files) != 1 {
			return fmt.Errorf("got %v, %w", files, err)
		}
		path = files[0]
		b, err := os.ReadFile(path)
		if got := strings.Count(string(b), `"key":"subnets/`); err != nil || got != n+1 { // and its own beside
			return fmt.Errorf("got %d keys, %w", got, err)
		}
		return nil
	})
	return path
}

func TestDaemonStartsWithoutEtcd(t *testing.T) {
	h := newTestHost(t)
	etcd := h.startEtcd(netConfig)
	h.etcdctl("put", "/coreos.com/network/subnets/10.5.200.0-24", leaseValue("192.0.2.2", "02:00:00:00:00:02"))
	p := h.daemon(nil)
	h.ready(p)
	before := h.status()
	path := h.remembered(2)
	if fi, err := os.Stat(path); err != nil || fi.Mode() != 0o600 {
		t.Errorf("got %v, %v, want a file of mode 0600", fi, err)
	}
	p.stop(h)
	if err := errors.Join(etcd.cmd.Process.Kill(), os.Remove(h.subnetFile)); err != nil {
		t.Fatal(err)
	}
	<-etcd.ended

	systemd, notify := listenSystemd(t)
	start := time.Now()
	p = h.daemon([]string{"NOTIFY_SOCKET=" + notify})
	if got := hear(t, systemd, "READY=1"); !strings.Contains(got, "peers: 1; etcd: not reached since start; peers as of 2") {
		t.Errorf("systemd got %q, want READY=1 and why", got)
	}
	t.Logf("ready %s after the start", time.Since(start).Round(time.Millisecond))
	if body, err := h.get(healthURL + "/readyz"); err != nil || !strings.HasPrefix(body, "vxtap is ready; etcd: not reached since start; peers as of 2") {
		t.Errorf("got %q, %v from /readyz", body, err)
	}
	s := h.status()
	if s.State != "ready" || s.Subnet != before.Subnet || s.MAC != before.MAC || s.Etcd.Connected || s.Etcd.PeersAsOf == nil || len(s.Peers) != 1 || s.Lease.Left < 86000 {
		t.Errorf("got status %+v", s)
	}
	if env, err := os.ReadFile(h.subnetFile); err != nil || !strings.Contains(string(env), strings.TrimSuffix(s.Subnet.String(), "0/24")+"1/24") {
		t.Errorf("got subnet file %q, %v", env, err)
	}
	if _, text, _ := runVxtap(t, nil, "status", "-run-dir="+h.run); !strings.Contains(text, "not reached since start; peers as of 2") {
		t.Errorf("got status\n%s", text)
	}

	// The TAP is made anew without etcd as well.
	index := h.tapIndex()
	if err := h.ns.DeleteLink(hostDevice); err != nil {
		t.Fatal(err)
	}
	h.eventually("the TAP is back", func() error {
		if now := h.tapIndex(); now == 0 || now == index {
			return fmt.Errorf("got TAP %d", now)
		}
		return nil
	})
	h.eventually("it forwards again", func() error {
		if s, err := askDaemon(t.Context(), h.run, ""); err != nil || s.State != "ready" || len(s.Peers) != 1 || s.MAC != before.MAC || s.Etcd.PeersAsOf == nil {
			return fmt.Errorf("got status %+v, %w", s, err)
		}
		return nil
	})
	index = h.tapIndex()

	// An etcd that knows nothing: the daemon takes its lease up again where it was.
	if err := os.RemoveAll(filepath.Join(filepath.Dir(h.run), "etcd")); err != nil {
		t.Fatal(err)
	}
	h.startEtcd(netConfig)
	h.eventually("etcd has been heard", func() error {
		if s := h.status(); !s.Etcd.Connected || s.Etcd.PeersAsOf != nil {
			return fmt.Errorf("got %+v", s.Etcd)
		}
		return nil
	})
	h.eventually("the lease is in etcd", func() error {
		if l := h.leases(); !strings.Contains(l, strings.ReplaceAll(before.Subnet.String(), "/", "-")) {
			return fmt.Errorf("got leases %q", l)
		}
		return nil
	})
	if s := h.status(); s.State != "ready" || s.Subnet != before.Subnet || s.MAC != before.MAC || h.tapIndex() != index {
		t.Errorf("got TAP %d, was %d, and status %+v", h.tapIndex(), index, s)
	}
	p.stop(h)
}

// The MAC and the subnet outlive the lease and the subnet file, as in a host
// that was off for a week.
func TestDaemonKeepsItsPlaceWithoutALease(t *testing.T) {
	h, p := newRunningHost(t, netConfig)
	before := h.status()
	h.remembered(1)
	p.stop(h)
	h.etcdctl("del", "--prefix", "/coreos.com/network/subnets")
	if err := os.Remove(h.subnetFile); err != nil {
		t.Fatal(err)
	}
	p = h.daemon(nil)
	h.ready(p)
	if s := h.status(); s.Subnet != before.Subnet || s.MAC != before.MAC {
		t.Errorf("got %s and %s, want %s and %s", s.Subnet, s.MAC, before.Subnet, before.MAC)
	}
	p.stop(h)
}
