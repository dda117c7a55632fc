// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"strings"
	"testing"
	"time"
)

// The TTL of the flag is what etcd has, and the daemon renews in time.
func TestDaemonKeepsAShortLease(t *testing.T) {
	h := newTestHost(t)
	h.startEtcd(netConfig)
	p := h.daemon(nil, "-lease-ttl=10s")
	h.ready(p)
	key := "/coreos.com/network/" + h.status().Lease.Key
	id := strings.Fields(h.etcdctl("lease", "list"))
	ttl := h.etcdctl("lease", "timetolive", "--keys", id[len(id)-1])
	if !strings.Contains(ttl, "granted with TTL(10s)") || !strings.Contains(ttl, key) {
		t.Errorf("got %q, want a lease of 10 s with %s", ttl, key)
	}
	// Two renewals are due in that time, and without any it would be over.
	<-time.After(12 * time.Second)
	if s := h.status(); s.State != string(phaseReady) || s.Lease.State != leaseHeld || s.Lease.Left > 10 || h.leases() != key {
		t.Errorf("got %s with lease %+v and keys %q", s.State, s.Lease, h.leases())
	}
	p.stop(h)
	h.eventually("a host that is gone gives its subnet back", func() error {
		if h.leases() != "" {
			return errors.New(h.leases())
		}
		return nil
	})
}

func TestDaemonThatIsToldToExitsWithItsLease(t *testing.T) {
	h := newTestHost(t)
	h.startEtcd(netConfig)
	p := h.daemon([]string{"VXTAP_ON_LEASE_LOST=exit"})
	h.ready(p)
	h.etcdctl("del", "/coreos.com/network/"+h.status().Lease.Key)
	if got := p.wait(h, 5*time.Second); got != exitError {
		t.Errorf("got status %d, want %d", got, exitError)
	}
	if got, want := p.failure(h), "vxtap: the lease is lost, and -on-lease-lost=exit was given: "; !strings.HasPrefix(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := h.leases(); got != "" {
		t.Errorf("got leases %q, want none", got)
	}
	h.nothingLeft()
}
