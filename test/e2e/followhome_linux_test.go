// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"vxtap/cmd/vxlab/lab"
	"vxtap/cmd/vxlab/netns"
	"vxtap/test/bed"
)

// renumber gives host 1 another address in place of the one that it has.
const renumber = "ip addr flush dev eth0; ip addr add %s/24 dev eth0; ip route replace default via 192.168.77.1"

// homeBefore is what must not change when a host's address does.
type homeBefore struct {
	subnet netip.Prefix
	mac    string
	key    string
}

func (h homeBefore) check(t *testing.T, b *bed.Bed, vtep string) error {
	t.Helper()
	s, err := b.TryStatus(1)
	if err != nil {
		return err
	}
	got := homeBefore{s.Subnet, s.MAC.String(), s.Lease.Key}
	if got != h || s.VTEP.String() != vtep || s.State != "ready" || len(s.Warnings) > 0 {
		return fmt.Errorf("%s: %+v at %s with warnings %q, want %+v at %s", s.State, got, s.VTEP, s.Warnings, h, vtep)
	}
	if value := b.Etcdctl("get", "--print-value-only", bed.Prefix+"/"+h.key); !strings.Contains(value, fmt.Sprintf(`"PublicIP":%q`, vtep)) {
		return fmt.Errorf("the lease says %s", value)
	}
	return nil
}

func before(b *bed.Bed) homeBefore {
	s := b.Status(1)
	return homeBefore{s.Subnet, s.MAC.String(), s.Lease.Key}
}

// The host's address, its interface, or both change under a daemon that runs:
// containers reach each other again within two seconds, with their addresses.
func TestHostIsFollowed(t *testing.T) {
	const onBridge = "ip link set h1 master br0; ip link set h1 up"
	for _, o := range []struct {
		name string
		args []string
	}{
		{"all offloads", nil},
		{"UDP only, one queue", []string{"-tx-path=udp", "-queues=1"}},
		{"no offloads", []string{"-offload=off"}},
	} {
		t.Run(o.name, func(t *testing.T) {
			b := bed.Up(t, lab.Options{Hosts: 2, Args: o.args})
			one, two := b.ContainerEnd(1), b.ContainerEnd(2)
			bed.Eventually(t, 2*time.Second, func() error { return reaches(t, one, two) })
			was := before(b)
			h1, net := b.Node("h1"), b.Node("net")
			tap, err := h1.Interface("flannel.1")
			if err != nil {
				t.Fatal(err)
			}
			within := func(what, vtep string) {
				t.Helper()
				start := time.Now()
				bed.Eventually(t, 2*time.Second, func() error { return reachesWithin(t, 100*time.Millisecond, one, two) })
				took := time.Since(start)
				bed.Eventually(t, 2*time.Second, func() error { return was.check(t, b, vtep) })
				t.Logf("%s: containers reach each other again after %s", what, took.Round(time.Millisecond))
			}

			bed.Run(t, h1, "sh", "-c", fmt.Sprintf(renumber, "192.168.77.111"))
			within("another address", "192.168.77.111")

			// As a client of DHCP does that renews its lease.
			bed.Run(t, h1, "sh", "-c", "ip addr add 192.168.77.99/24 dev eth0; ip addr del 192.168.77.111/24 dev eth0; ip addr flush dev eth0; ip addr add 192.168.77.111/24 dev eth0; ip route replace default via 192.168.77.1")
			within("taken away and put back", "192.168.77.111")

			// The lab's link, and another in its place: it has another index and MAC.
			bed.Run(t, h1, "ip", "link", "del", "eth0")
			bed.Eventually(t, 5*time.Second, func() error {
				if s := b.Status(1); !strings.Contains(strings.Join(s.Warnings, " "), "the tunnel's address 192.168.77.111 is gone") {
					return fmt.Errorf("status has no warning of it: %q", s.Warnings)
				}
				return nil
			})
			if err := netns.AddVeth(h1, "eth0", net, "h1", 1500); err != nil {
				t.Fatal(err)
			}
			bed.Run(t, net, "sh", "-c", onBridge)
			bed.Run(t, h1, "sh", "-c", "ip link set eth0 up; "+fmt.Sprintf(renumber, "192.168.77.111"))
			within("a new link, the same address", "192.168.77.111")

			bed.Run(t, h1, "ip", "link", "del", "eth0")
			if err := netns.AddVeth(h1, "eth0", net, "h1", 1500); err != nil {
				t.Fatal(err)
			}
			bed.Run(t, net, "sh", "-c", onBridge)
			bed.Run(t, h1, "sh", "-c", "ip link set eth0 mtu 1400; ip link set eth0 up; "+fmt.Sprintf(renumber, "192.168.77.112"))
			within("a new link, another address and MTU", "192.168.77.112")
			if err := hasMTU(t, b, 1, 1350); err != nil {
				t.Error(err)
			}
			if now, err := h1.Interface("flannel.1"); err != nil || now.Index != tap.Index {
				t.Errorf("the TAP is another one: %+v, %v, was %d", now, err, tap.Index)
			}
			if s := b.Status(2); s.In.Drops["foreign-source"] > 0 {
				t.Errorf("h2 dropped %v", s.In.Drops)
			}
		})
	}
}
