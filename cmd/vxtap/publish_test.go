// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"vxtap/encap/ether"
	"vxtap/lease"
	"vxtap/lease/leasetest"
	"vxtap/tunnel"
)

// Parts of a switch that is told of its peers and moves no frame.
type (
	noPort     struct{ tunnel.Port }
	noUnderlay struct{ tunnel.Underlay }
)

// telling returns a segment with a switch, as it is when it publishes.
func telling(t *testing.T, store *leasetest.Store, log *bytes.Buffer) *segment {
	t.Helper()
	s := knowing(t, store, log, leasetest.Config)
	s.live, s.news = newLive(), make(chan struct{}, 1)
	sw, err := tunnel.New(tunnel.Config{
		VNI:       s.config.Backend.VNI,
		MAC:       s.ipv4.mac,
		RouterMAC: ether.MAC{0x02, 0, 0, 0, 0, 9},
		Subnet:    netip.MustParsePrefix("10.5.72.0/24"),
		MTU:       1450,
		Lanes:     []tunnel.Lane{{Port: noPort{}, Underlay: noUnderlay{}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	s.ipv4.sw = sw
	s.first.Do(func() {}) // nobody waits for it
	return s
}

// A host that moves publishes once more what it was told of last. What etcd tells
// at that moment must not be lost for it: nobody would tell again.
func TestPeerThatComesWhileTheHostMoves(t *testing.T) {
	var log bytes.Buffer
	store := leasetest.New()
	defer store.Close()
	s := telling(t, store, &log)
	own := *s.own.Load()
	for i := range int64(300) {
		all := lease.Snapshot{Leases: []lease.Lease{own, peer(t, byte(2+i%60))}, Revision: i}
		var heard atomic.Bool
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				for !heard.Load() {
					s.republish()
				}
			})
		}
		s.hear(all)
		heard.Store(true)
		wg.Wait()
		if peers := s.ipv4.sw.Peers(); s.leases.Revision != i || len(peers) != 1 || peers[0].Subnet != all.Leases[1].Subnet {
			t.Fatalf("after event %d: the switch has the peers of event %d: %v", i, s.leases.Revision, peers)
		}
	}
}

// Whoever makes containers goes by the subnet file: if it cannot be written at the
// moment that the MTU changes, it is later.
func TestSubnetFileFollowsTheMTU(t *testing.T) {
	var log bytes.Buffer
	store := leasetest.New()
	defer store.Close()
	s := telling(t, store, &log)
	dir := filepath.Join(t.TempDir(), "run")
	s.d.subnetFile = filepath.Join(dir, "subnet.env")
	if err := os.WriteFile(dir, nil, 0o600); err != nil { // where a directory is to be
		t.Fatal(err)
	}
	s.ipv4.mtu.Store(1450)
	at := eth0
	at.MTU = 1400
	s.d.home.Store(&home{uplink: at, vtep: s.d.at().vtep})
	for range 3 {
		s.resize()
	}
	if n := strings.Count(log.String(), "the subnet file has the MTU of before"); n != 1 {
		t.Errorf("said %d times:\n%s", n, &log)
	}
	if err := os.Remove(dir); err != nil {
		t.Fatal(err)
	}
	s.resize()
	if env, err := lease.ReadSubnetEnv(s.d.subnetFile); err != nil || env.MTU != 1350 {
		t.Errorf("got MTU %d, %v, want 1350", env.MTU, err)
	}
}
