// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// The TTL of the flag is what etcd has, and the daemon renews in time.
func TestDaemonKeepsAShortLease(t *testing.T) {
	h, p := newRunningHost(t, netConfig, "-lease-ttl=10s")
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

func TestDaemonAcquiresALostLeaseAgain(t *testing.T) {
	h, p := newRunningHost(t, netConfig)
	before, index := h.status(), h.tapIndex()
	key := "/coreos.com/network/" + before.Lease.Key

	// Without a config nobody can acquire: on a busy machine the seconds for which
	// a lease stays lost may be over before anybody looks.
	h.etcdctl("del", "/coreos.com/network/config")
	h.etcdctl("del", key)
	h.eventually("the daemon says that the lease is lost", func() error {
		s := h.status()
		if s.State != string(phaseLost) || s.Lease.State != leaseLost || s.Lease.Expires != nil {
			return fmt.Errorf("got %s and lease %+v", s.State, s.Lease)
		}
		return nil
	})
	h.etcdctl("put", "/coreos.com/network/config", netConfig)
	h.eventually("the lease is back", func() error {
		if s := h.status(); h.leases() != key || s.State != "ready" || s.Lease.State != leaseHeld {
			return fmt.Errorf("there is %q, the daemon is %s with lease %+v", h.leases(), s.State, s.Lease)
		}
		return nil
	})
	if now := h.status(); now.Subnet != before.Subnet || now.MAC != before.MAC || h.tapIndex() != index || now.State != "ready" {
		t.Errorf("got %s, %s, %s, index %d, want nothing changed from %s, %s, index %d",
			now.State, now.Subnet, now.MAC, h.tapIndex(), before.Subnet, before.MAC, index)
	}

	// Somebody else takes the key over: this host has to move.
	h.etcdctl("put", key, leaseValue("192.0.2.2", "02:00:00:00:00:02"))
	h.eventually("the host has moved", func() error {
		s, err := askDaemon(t.Context(), h.run, "")
		if err == nil && (s.Subnet == before.Subnet || s.State != "ready") {
			err = fmt.Errorf("still %s with subnet %s", s.State, s.Subnet)
		}
		return errors.Join(err, p.died())
	})
	now := h.status()
	if now.MAC != before.MAC || now.State != "ready" || now.PID != before.PID {
		t.Errorf("got %s and %s, want ready and the same MAC and process", now.State, now.MAC)
	}
	env, err := os.ReadFile(h.subnetFile)
	if err != nil || !strings.Contains(string(env), strings.TrimSuffix(now.Subnet.String(), "0/24")+"1/24") {
		t.Errorf("got subnet file %q and error %v, want %s", env, err, now.Subnet)
	}
	h.eventually("the new owner is a peer", func() error {
		if s := h.status(); len(s.Peers) != 1 || s.Peers[0].Subnet != before.Subnet {
			return fmt.Errorf("got peers %v", s.Peers)
		}
		return nil
	})
	p.stop(h)
	h.nothingLeft()
}

// A lease that was made for a move must not stay when the move fails: the host
// would use up a subnet each time.
func TestDaemonThatCannotMoveReleasesItsNewLease(t *testing.T) {
	h, p := newRunningHost(t, netConfig)
	key := "/coreos.com/network/" + h.status().Lease.Key
	if err := errors.Join(os.Remove(h.subnetFile), os.Mkdir(h.subnetFile, 0o700)); err != nil {
		t.Fatal(err)
	}
	h.etcdctl("put", key, leaseValue("192.0.2.2", "02:00:00:00:00:02"))
	if got := p.wait(h, 15*time.Second); got != exitError {
		t.Errorf("got status %d, want %d", got, exitError)
	}
	if got, want := p.failure(h), "vxtap: write subnet file: "; !strings.HasPrefix(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := h.leases(); got != key {
		t.Errorf("got leases %q, want only the other host's, %s", got, key)
	}
	h.nothingLeft()
}
