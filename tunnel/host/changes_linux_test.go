// SPDX-License-Identifier: Apache-2.0

package host

import (
	"context"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Changes of links, addresses, routes and rules are heard of, each by itself,
// and the end of the context ends it.
func TestChanges(t *testing.T) {
	inNamespace(t, func() {
		h, err := netlink.NewHandle() // stays in this namespace, whichever thread uses it
		must(t, err)
		defer h.Close()
		// No link-local addresses of the kernel's own, which would be news later.
		must(t, os.WriteFile("/proc/sys/net/ipv6/conf/default/addr_gen_mode", []byte("1"), 0))
		link := addLink(t, &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "eth0"}, PeerName: "peer0"})
		other, err := h.LinkByName("peer0")
		must(t, err)
		must(t, h.LinkSetUp(other))
		addr, err := netlink.ParseAddr("192.0.2.1/24")
		must(t, err)
		rule := netlink.NewRule()
		rule.IifName, rule.Table, rule.Priority = "eth0", 99, 10
		rule6 := netlink.NewRule()
		rule6.IifName, rule6.Table, rule6.Priority, rule6.Family = "eth0", 99, 10, netlink.FAMILY_V6
		route := &netlink.Route{LinkIndex: link.Attrs().Index, Dst: ipNet(netip.MustParsePrefix("198.51.100.0/24"))}

		ctx, cancel := context.WithCancel(t.Context())
		heard := make(chan Change, 100)
		go func() {
			defer cancel()
			awaitQuiet(heard) // what came with the link
			for _, change := range []struct {
				name string
				make func() error
				want Change
			}{
				{"a link goes up", func() error { return h.LinkSetUp(link) }, Elsewhere},
				{"an address", func() error { return h.AddrAdd(link, addr) }, Elsewhere},
				{"a route", func() error { return h.RouteAdd(route) }, Elsewhere},
				{"a rule", func() error { return h.RuleAdd(rule) }, Elsewhere},
				{"an IPv6 address", func() error {
					return h.AddrAdd(link, &netlink.Addr{IPNet: ipNet(netip.MustParsePrefix("2001:db8::1/64")), Flags: unix.IFA_F_NODAD})
				}, Elsewhere6},
				{"an IPv6 route", func() error {
					return h.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: ipNet(netip.MustParsePrefix("2001:db8:1::/64"))})
				}, Elsewhere6},
				{"an IPv6 rule", func() error { return h.RuleAdd(rule6) }, Elsewhere6},
				{"an IPv6 neighbour", func() error { return h.NeighAdd(neighbour6(link)) }, Neighbour},
				{"a neighbour", func() error { return h.NeighAdd(neighbour(link)) }, Neighbour},
			} {
				if err := change.make(); err != nil {
					t.Errorf("%s: %v", change.name, err)
				}
				select {
				case got := <-heard:
					if got != change.want {
						t.Errorf("%s: got %d, want %d", change.name, got, change.want)
					}
				case <-time.After(5 * time.Second):
					t.Errorf("%s was not heard of", change.name)
				}
				if change.name == "a link goes up" {
					awaitCarrier(t, h, "eth0")
				}
				awaitQuiet(heard)
			}
			if err := h.NeighAdd(neighbour(other)); err != nil {
				t.Error(err)
			}
			select {
			case <-heard:
				t.Error("a neighbour of another device was heard of")
			case <-time.After(200 * time.Millisecond):
			}
		}()
		if err := Changes(ctx, "eth0", func(c Change) { heard <- c }); err != nil {
			t.Errorf("Changes: %v", err)
		}
	})
}

// awaitQuiet takes what is heard until nothing was for a while.
func awaitQuiet(heard <-chan Change) {
	for {
		select {
		case <-heard:
		case <-time.After(300 * time.Millisecond):
			return
		}
	}
}

// awaitCarrier waits until the kernel says that a link works, and by then has
// made the routes that go with it: that is the work of a thread of its own, which
// all links of the machine share.
func awaitCarrier(t *testing.T, h *netlink.Handle, name string) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for range 1000 {
		if l, err := h.LinkByName(name); err == nil && l.Attrs().OperState == netlink.OperUp {
			return
		}
		<-tick.C
	}
	t.Errorf("%s has no carrier after 10 s", name)
}

func neighbour6(l netlink.Link) *netlink.Neigh {
	n := neighbour(l)
	n.IP = net.ParseIP("2001:db8::9")
	return n
}

// neighbour is one of a link.
func neighbour(l netlink.Link) *netlink.Neigh {
	return &netlink.Neigh{LinkIndex: l.Attrs().Index, State: netlink.NUD_PERMANENT, IP: net.IPv4(192, 0, 2, 9), HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 9}}
}

// Whatever a netlink socket brings is taken: an event too many does no harm.
func FuzzChangeOf(f *testing.F) {
	f.Add(make([]byte, 16), 3)
	f.Add([]byte{}, 3)
	f.Add([]byte{24, 0, 0, 0, 28, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0}, 3)
	f.Fuzz(func(t *testing.T, b []byte, device int) {
		if got := changesOf(b, device); len(b) == 0 && !got[Elsewhere] {
			t.Errorf("nothing, of what was missed")
		}
	})
}
