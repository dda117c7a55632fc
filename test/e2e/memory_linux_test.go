// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"vxtap/cmd/vxlab/lab"
	"vxtap/test/bed"
)

// remembers waits until the daemon of host n has every lease of the lab on its
// disk.
func remembers(t *testing.T, b *bed.Bed, n int) {
	t.Helper()
	bed.Eventually(t, 20*time.Second, func() error {
		files, err := filepath.Glob(filepath.Join(b.Host(n).RunDir, "*-*.json"))
		if err != nil || len(files) != 1 {
			return fmt.Errorf("h%d has %v, %w", n, files, err)
		}
		text, err := os.ReadFile(files[0])
		for _, h := range b.Hosts() {
			if !strings.Contains(string(text), leaseKey(h.Subnet)) {
				return fmt.Errorf("h%d does not remember %s: %w", n, h.Subnet, err)
			}
		}
		return nil
	})
}

// leaseKey is the key of a subnet's lease, below the prefix.
func leaseKey(subnet netip.Prefix) string {
	return "subnets/" + strings.ReplaceAll(subnet.String(), "/", "-")
}

// exchange lets containers 1 and 2 exchange datagrams all the time until the
// function that it returns is called, which fails the test if one was lost.
func exchange(t *testing.T, b *bed.Bed) (stop func()) {
	t.Helper()
	one, two := b.ContainerEnd(1), b.ContainerEnd(2)
	end, result := make(chan struct{}), make(chan error, 1)
	go func() {
		for n := 1; ; n++ {
			if err := reachesWithin(t, 2*time.Second, one, two); err != nil {
				result <- fmt.Errorf("exchange %d: %w", n, err)
				return
			}
			select {
			case <-end:
				result <- nil
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	}()
	return func() {
		t.Helper()
		close(end)
		if err := <-result; err != nil {
			t.Error(err)
		}
	}
}

// A daemon that starts while etcd is down forwards at once, by what it last
// knew, and says so; when etcd is back nothing that flows is interrupted.
func TestRestartWithoutEtcd(t *testing.T) {
	b := bed.Up(t, lab.Options{Hosts: 2})
	one, two := b.ContainerEnd(1), b.ContainerEnd(2)
	bed.Eventually(t, 2*time.Second, func() error { return reaches(t, one, two) })
	before := []lab.Host{b.Host(1), b.Host(2)}
	for n := 1; n <= 2; n++ {
		remembers(t, b, n)
	}
	if err := b.StopEtcd(t.Context()); err != nil {
		t.Fatal(err)
	}

	for n, end := range map[int]string{1: "kill -9", 2: "SIGTERM"} {
		stop := b.KillHost
		if end == "SIGTERM" {
			stop = b.StopHost
		}
		if err := stop(t.Context(), n); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		if err := b.StartHost(t.Context(), n); err != nil {
			t.Fatalf("h%d after %s: %v", n, end, err)
		}
		bed.Eventually(t, time.Second, func() error { return reaches(t, one, two) })
		t.Logf("h%d after %s: containers reach each other %s after the start", n, end, time.Since(start).Round(time.Millisecond))
		s := b.Status(n)
		if s.State != "ready" || s.Etcd.Connected || s.Etcd.PeersAsOf == nil || s.Subnet != before[n-1].Subnet || s.MAC != before[n-1].MAC {
			t.Errorf("h%d: got %+v, had %+v", n, s, before[n-1])
		}
		text := bed.Run(t, b.Node(before[n-1].Node), bed.Binary(t, "vxtap"), "status", "-run-dir", before[n-1].RunDir)
		if !strings.Contains(text, "not reached since start; peers as of ") {
			t.Errorf("h%d says\n%s", n, text)
		}
	}

	t.Run("the TAP is deleted as well", func(t *testing.T) {
		bed.Run(t, b.Node("h1"), "ip", "link", "del", "flannel.1")
		took := bed.Eventually(t, time.Second, func() error { return reachesWithin(t, 100*time.Millisecond, one, two) })
		t.Logf("containers reach each other %s after it", took.Round(time.Millisecond))
	})

	tap, err := b.Node("h1").Interface("flannel.1")
	if err != nil {
		t.Fatal(err)
	}
	stop := exchange(t, b)
	if err := b.StartEtcd(t.Context()); err != nil {
		t.Fatal(err)
	}
	k := b.JoinKernel(t.Context(), netip.MustParsePrefix("172.30.200.0/24"))
	took := bed.Eventually(t, 5*time.Second, func() error { return reaches(t, one, k.ContainerEnd()) })
	t.Logf("a new host is reached %s after etcd came back and it got its lease", took.Round(time.Millisecond))
	for n := 1; n <= 2; n++ {
		bed.Eventually(t, 5*time.Second, func() error {
			if s := b.Status(n); !s.Etcd.Connected || s.Etcd.PeersAsOf != nil || s.State != "ready" || s.Subnet != before[n-1].Subnet {
				return fmt.Errorf("h%d: got %+v", n, s)
			}
			return nil
		})
	}
	stop()
	if now, err := b.Node("h1").Interface("flannel.1"); err != nil || now.Index != tap.Index {
		t.Errorf("the TAP is another one since etcd is back: %+v, %v, was %d", now, err, tap.Index)
	}
}

// Who lost its subnet while it could not reach etcd finds out as soon as it can,
// and takes another.
func TestSubnetTakenMeanwhile(t *testing.T) {
	b := bed.Up(t, lab.Options{Hosts: 2})
	remembers(t, b, 1)
	before := b.Host(1)
	h1 := b.Node("h1")
	_, port, _ := strings.Cut(strings.TrimPrefix(b.EtcdURL(), "http://"), ":")
	bed.RunWith(t, h1, "add table inet cut\nadd chain inet cut out { type filter hook output priority 0; }\nadd rule inet cut out tcp dport "+port+" drop\n", "nft", "-f", "-")
	if err := b.KillHost(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	if err := b.StartHost(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	if s := b.Status(1); s.State != "ready" || s.Subnet != before.Subnet || s.Etcd.PeersAsOf == nil {
		t.Errorf("cut off from etcd: got %+v", s)
	}
	bed.Eventually(t, time.Second, func() error { return reaches(t, b.ContainerEnd(1), b.ContainerEnd(2)) })

	key := bed.Prefix + "/" + leaseKey(before.Subnet)
	theirs := `{"PublicIP":"192.168.77.203","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"02:00:00:00:00:09"}}`
	b.Etcdctl("put", key, theirs)
	bed.Run(t, h1, "nft", "delete", "table", "inet", "cut")
	took := bed.Eventually(t, 20*time.Second, func() error {
		s, err := b.TryStatus(1)
		if err != nil || s.State != "ready" || s.Subnet == before.Subnet || !s.HasPeer(before.Subnet) {
			return fmt.Errorf("got %+v, %w", s, err)
		}
		return nil
	})
	t.Logf("moved %s after etcd could be reached again", took.Round(time.Millisecond))
	if got := b.Etcdctl("get", "--print-value-only", key); strings.TrimSpace(got) != theirs {
		t.Errorf("somebody else's lease was overwritten: %s", got)
	}
}
