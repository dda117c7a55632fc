// SPDX-License-Identifier: Apache-2.0

// Package e2e meets vxtap as an operator does: whole daemons in namespaces, an
// etcd, and faults.
package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"vxtap/cmd/vxlab/lab"
	"vxtap/test/bed"
	"vxtap/test/traffic"
)

func TestMain(m *testing.M) { os.Exit(bed.Main(m)) }

// reaches reports why from does not reach to right now. A datagram takes less
// than a millisecond there and back; the rest is for a machine that is busy.
func reaches(t *testing.T, from, to traffic.End) error {
	t.Helper()
	return reachesWithin(t, 500*time.Millisecond, from, to)
}

func reachesWithin(t *testing.T, limit time.Duration, from, to traffic.End) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	return traffic.Datagrams(ctx, from, to, 100)
}

// cutOff returns nil when from does not reach to.
func cutOff(t *testing.T, from, to traffic.End) error {
	t.Helper()
	if reachesWithin(t, 100*time.Millisecond, from, to) == nil {
		return fmt.Errorf("%s still reaches %s", from, to)
	}
	return nil
}

func TestHostsComeAndGo(t *testing.T) {
	b := bed.Up(t, lab.Options{Hosts: 3})

	t.Run("every container reaches every other", func(t *testing.T) {
		for i := 1; i <= 3; i++ {
			for j := 1; j <= 3; j++ {
				if i != j {
					bed.Eventually(t, time.Second, func() error { return reaches(t, b.ContainerEnd(i), b.ContainerEnd(j)) })
				}
			}
		}
	})

	// A kernel host stands ready before its lease is written, so that nothing
	// but the lease is measured.
	t.Run("a fourth host is reached within a second of its lease", func(t *testing.T) {
		k := b.JoinKernel(t.Context(), netip.MustParsePrefix("172.30.200.0/24"))
		took := bed.Eventually(t, time.Second, func() error { return reaches(t, b.ContainerEnd(1), k.ContainerEnd()) })
		t.Logf("reached %s after its lease", took)

		t.Run("and no longer a second after its lease is deleted", func(t *testing.T) {
			b.Etcdctl("del", k.LeaseKey())
			took := bed.Eventually(t, time.Second, func() error { return cutOff(t, b.ContainerEnd(1), k.ContainerEnd()) })
			t.Logf("cut off %s after the deletion", took)
			if s := b.Status(1); s.HasPeer(k.Subnet) || s.Out.Drops["no-peer"] == 0 {
				t.Errorf("peers %v, drops %v", s.Peers, s.Out.Drops)
			}
		})
	})

	t.Run("a fourth vxtap host joins", func(t *testing.T) {
		h, err := b.Join(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		n := len(b.Hosts())
		for i := 1; i <= 3; i++ {
			bed.Eventually(t, time.Second, func() error { return reaches(t, b.ContainerEnd(i), b.ContainerEnd(n)) })
		}
		if !b.Status(1).HasPeer(h.Subnet) {
			t.Errorf("h1 does not list %s", h.Subnet)
		}
	})

	// Whoever deletes a lease means it: the host's peers forget it at once. Its
	// daemon, which lives, takes the same subnet again after a while.
	t.Run("a live host's lease is deleted", func(t *testing.T) {
		h := b.Host(2)
		b.Etcdctl("del", "--prefix", bed.Prefix+"/subnets/"+strings.ReplaceAll(h.Subnet.String(), "/", "-"))
		bed.Eventually(t, time.Second, func() error { return cutOff(t, b.ContainerEnd(1), b.ContainerEnd(2)) })
		bed.Eventually(t, 10*time.Second, func() error { return reaches(t, b.ContainerEnd(1), b.ContainerEnd(2)) })
		if s := b.Status(2); s.Subnet != h.Subnet || s.MAC != h.MAC {
			t.Errorf("came back with %s and %s, had %s and %s", s.Subnet, s.MAC, h.Subnet, h.MAC)
		}
	})
}

func TestEtcdOutage(t *testing.T) {
	b := bed.Up(t, lab.Options{Hosts: 2})
	bed.Eventually(t, time.Second, func() error { return reaches(t, b.ContainerEnd(1), b.ContainerEnd(2)) })
	if err := b.StopEtcd(t.Context()); err != nil {
		t.Fatal(err)
	}
	// Every exchange of 30 seconds must succeed, and at the end bulk too.
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if err := reachesWithin(t, 2*time.Second, b.ContainerEnd(1), b.ContainerEnd(2)); err != nil {
			t.Fatalf("without etcd: %v", err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := traffic.Stream(ctx, b.ContainerEnd(2), b.ContainerEnd(1), 32<<20); err != nil {
		t.Errorf("without etcd: %v", err)
	}
	if s := b.Status(1); s.Etcd.Connected || len(s.Peers) != 1 {
		t.Errorf("status says connected: %v, with %d peers", s.Etcd.Connected, len(s.Peers))
	}
	if err := b.StartEtcd(t.Context()); err != nil {
		t.Fatal(err)
	}
	k := b.JoinKernel(t.Context(), netip.MustParsePrefix("172.30.200.0/24"))
	took := bed.Eventually(t, 5*time.Second, func() error { return reaches(t, b.ContainerEnd(1), k.ContainerEnd()) })
	t.Logf("a new host is reached %s after etcd came back and it got its lease", took)
	bed.Eventually(t, 5*time.Second, func() error {
		if !b.Status(1).Etcd.Connected {
			return fmt.Errorf("status still says disconnected")
		}
		return nil
	})
}

// A restart, be it after SIGTERM or kill -9, keeps subnet and MAC, so that the
// peers notice nothing but the pause.
func TestRestart(t *testing.T) {
	b := bed.Up(t, lab.Options{Hosts: 2})
	key := bed.Prefix + "/subnets/" + strings.ReplaceAll(b.Host(1).Subnet.String(), "/", "-")
	tests := []struct {
		name string
		end  func(context.Context, int) error
	}{
		{"SIGTERM", b.StopHost},
		{"kill -9", b.KillHost},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			before := b.Host(1)
			if err := tt.end(t.Context(), 1); err != nil {
				t.Fatal(err)
			}
			if _, err := b.Node("h1").Interface("flannel.1"); err == nil {
				t.Error("the TAP outlives the daemon")
			}
			if out := b.Etcdctl("get", key); !strings.Contains(out, before.MAC.String()) {
				t.Errorf("the lease is gone from etcd: %q", out)
			}
			if err := b.StartHost(t.Context(), 1); err != nil {
				t.Fatal(err)
			}
			if now := b.Host(1); now.Subnet != before.Subnet || now.MAC != before.MAC {
				t.Errorf("came back with %s and %s, had %s and %s", now.Subnet, now.MAC, before.Subnet, before.MAC)
			}
			bed.Eventually(t, 2*time.Second, func() error { return reaches(t, b.ContainerEnd(2), b.ContainerEnd(1)) })
		})
	}
}

// Everything in etcd is written by strangers: what does not make sense is left
// out and shown, and all others go on.
func TestBrokenLeases(t *testing.T) {
	b := bed.Up(t, lab.Options{Hosts: 2})
	value := func(ip, mac string) string {
		return fmt.Sprintf(`{"PublicIP":%q,"PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":%q}}`, ip, mac)
	}
	broken := map[string]string{
		"rubbish":           "x",
		"172.30.201.0-24":   "not JSON",
		"172.30.202.0-24":   value("not an address", "02:00:00:00:00:09"),
		"172.30.203.0-24":   value("192.168.77.203", "no MAC"),
		"172.30.204.0-24":   value("192.168.77.204", "ff:ff:ff:ff:ff:ff"),
		"172.30.205.0-24":   value("224.0.0.1", "02:00:00:00:00:09"),
		"172.30.206.0-24":   value("172.30.1.1", "02:00:00:00:00:09"),
		"10.99.0.0-24":      value("192.168.77.207", "02:00:00:00:00:09"),
		"172.30.0.0-99":     value("192.168.77.208", "02:00:00:00:00:09"),
		"172.30.207.0-24/x": value("192.168.77.209", "02:00:00:00:00:09"),
	}
	for key, v := range broken {
		b.Etcdctl("put", bed.Prefix+"/subnets/"+key, v)
	}
	bed.Eventually(t, time.Second, func() error {
		if s := b.Status(1); len(s.Rejected) != len(broken) {
			return fmt.Errorf("rejected %v, want all of %d", s.Rejected, len(broken))
		}
		return nil
	})
	s := b.Status(1)
	if len(s.Peers) != 1 || s.Peers[0].Subnet != b.Host(2).Subnet {
		t.Errorf("peers %v, want %s alone", s.Peers, b.Host(2).Subnet)
	}
	for _, r := range s.Rejected {
		if r.Reason == "" {
			t.Errorf("%s is rejected without a reason", r.Key)
		}
	}
	if err := reaches(t, b.ContainerEnd(1), b.ContainerEnd(2)); err != nil {
		t.Error(err)
	}
	if _, err := b.Join(t.Context()); err != nil {
		t.Errorf("with broken leases around nobody can join: %v", err)
	}
	for key := range broken {
		b.Etcdctl("del", bed.Prefix+"/subnets/"+key)
	}
	bed.Eventually(t, time.Second, func() error {
		if s := b.Status(1); len(s.Rejected) != 0 {
			return fmt.Errorf("still rejected: %v", s.Rejected)
		}
		return nil
	})
}
