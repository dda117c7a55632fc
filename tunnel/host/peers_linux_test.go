// SPDX-License-Identifier: Apache-2.0

package host

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"vxtap/encap/ether"
	"vxtap/test/stall"
)

// peerNumber returns a peer: 10.5.<n>.0/24 at 192.168.9.<n>.
func peerNumber(n int) PeerRoute {
	return PeerRoute{
		Subnet: netip.MustParsePrefix(fmt.Sprintf("10.5.%d.0/24", n)),
		VTEP:   netip.MustParseAddr(fmt.Sprintf("192.168.9.%d", n)),
		MAC:    ether.MAC{2, 0, 0, 0, 1, byte(n)},
	}
}

func routePlan(edit func(*RoutePlan), peers ...int) RoutePlan {
	p := RoutePlan{Device: "flannel.1", Network: netip.MustParsePrefix("10.5.0.0/16")}
	for _, n := range peers {
		p.Peers = append(p.Peers, peerNumber(n))
	}
	edit(&p)
	return p
}

func perPeer(p *RoutePlan) { p.PerPeer = true }
func direct(p *RoutePlan)  { p.Direct = true }
func both(p *RoutePlan)    { p.PerPeer, p.Direct = true, true }
func neither(*RoutePlan)   {}

// upDevice makes the TAP as Apply leaves it, without the aggregate route.
func upDevice(t *testing.T) netlink.Link {
	t.Helper()
	lendTAP(t, "flannel.1")
	p := plan("flannel.1", "10.5.72.0/24")
	p.PerPeer = true
	apply(t, p)
	link, err := netlink.LinkByName("flannel.1")
	must(t, err)
	return link
}

// overlay is what there is of routes within the overlay, and of the device's
// neighbours, sorted.
func overlay(t *testing.T, link netlink.Link) []string {
	t.Helper()
	var all []string
	routes, err := netlink.RouteList(nil, netlink.FAMILY_V4)
	must(t, err)
	for _, r := range routes {
		if dst, ok := prefixOf(r.Dst); !ok || dst.Addr().As4()[0] != 10 {
			continue
		}
		name := "none"
		if l, err := netlink.LinkByIndex(r.LinkIndex); err == nil {
			name = l.Attrs().Name
		}
		s := fmt.Sprintf("%s via %s dev %s proto %d metric %d", r.Dst, r.Gw, name, r.Protocol, r.Priority)
		if r.Flags&unix.RTNH_F_ONLINK != 0 {
			s += " onlink"
		}
		all = append(all, s)
	}
	neighbours, err := netlink.NeighList(link.Attrs().Index, netlink.FAMILY_V4)
	must(t, err)
	for _, n := range neighbours {
		if n.State&netlink.NUD_NOARP == 0 {
			all = append(all, fmt.Sprintf("%s is %s permanent %v", n.IP, n.HardwareAddr, n.State == netlink.NUD_PERMANENT))
		}
	}
	slices.Sort(all)
	return all
}

// tunnelled is what flannel gives the kernel of a peer.
func tunnelled(n int) []string {
	return []string{
		fmt.Sprintf("10.5.%d.0 is 02:00:00:00:01:%02x permanent true", n, n),
		fmt.Sprintf("10.5.%d.0/24 via 10.5.%d.0 dev flannel.1 proto 3 metric 0 onlink", n, n),
	}
}

func sorted(lists ...[]string) []string {
	all := slices.Concat(lists...)
	slices.Sort(all)
	return all
}

func expect(t *testing.T, when string, want, got []string) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", when, diff)
	}
}

func sync(t *testing.T, r *Routes, p RoutePlan) RouteReport {
	t.Helper()
	report, err := r.Sync(p)
	must(t, err)
	return report
}

func update(t *testing.T, r *Routes, p RoutePlan) RouteReport {
	t.Helper()
	report, err := r.Update(p)
	must(t, err)
	return report
}

func TestPeersComeAndGo(t *testing.T) {
	inNamespace(t, func() {
		link := upDevice(t)
		var r Routes
		update(t, &r, routePlan(perPeer, 3, 4))
		expect(t, "two peers", sorted(tunnelled(3), tunnelled(4)), overlay(t, link))
		update(t, &r, routePlan(perPeer, 4, 5))
		expect(t, "one came and one went", sorted(tunnelled(4), tunnelled(5)), overlay(t, link))
		other := routePlan(perPeer, 4, 5)
		other.Peers[0].MAC[5] = 0x99
		update(t, &r, other)
		expect(t, "one has another MAC", sorted([]string{strings.Replace(tunnelled(4)[0], ":01:04", ":01:99", 1), tunnelled(4)[1]}, tunnelled(5)), overlay(t, link))
		if report := sync(t, &r, other); len(report.Mended) != 0 || len(report.Notes) != 0 {
			t.Errorf("looked at again: %+v", report)
		}
		update(t, &r, routePlan(perPeer))
		expect(t, "nobody is left", nil, overlay(t, link))
	})
}

// A change of one peer costs its own operations, whatever the number of others,
// and a look that finds all well none.
func TestOnlyTheChangeIsMade(t *testing.T) {
	tests := []struct {
		name  string
		peers []int
		sync  bool
		want  []uint16 // what the kernel tells of
	}{
		{"a peer comes", []int{1, 2, 3, 4}, false, []uint16{unix.RTM_NEWNEIGH, unix.RTM_NEWROUTE}},
		// The kernel tells of a neighbour that it marks before it goes.
		{"a peer goes", []int{1, 2}, false, []uint16{unix.RTM_DELROUTE, unix.RTM_NEWNEIGH, unix.RTM_DELNEIGH}},
		{"nothing changes", []int{1, 2, 3}, false, nil},
		{"a look at all", []int{1, 2, 3}, true, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inNamespace(t, func() {
				upDevice(t)
				var r Routes
				update(t, &r, routePlan(perPeer, 1, 2, 3))
				f, err := subscribe(unix.NETLINK_ROUTE, []int{unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_NEIGH})
				must(t, err)
				defer f.Close()
				if tt.sync {
					sync(t, &r, routePlan(perPeer, tt.peers...))
				} else {
					update(t, &r, routePlan(perPeer, tt.peers...))
				}
				// The kernel tells of a change before it answers the request.
				must(t, f.SetReadDeadline(time.Now().Add(50*time.Millisecond)))
				var told []uint16
				b := make([]byte, 1<<16)
				for {
					n, err := f.Read(b)
					if err != nil {
						break
					}
					messages, err := syscall.ParseNetlinkMessage(b[:n])
					must(t, err)
					for _, m := range messages {
						told = append(told, m.Header.Type)
					}
				}
				if diff := cmp.Diff(tt.want, told); diff != "" {
					t.Errorf("changes (-want +got):\n%s", diff)
				}
			})
		})
	}
}

// Whatever somebody takes away is set again, and nothing else is touched.
func TestPeersAreMended(t *testing.T) {
	peer := way{via: netip.MustParseAddr("10.5.3.0"), mac: peerNumber(3).MAC}
	tests := []struct {
		name string
		do   func(t *testing.T, l netlink.Link)
		want []string
	}{
		{"nothing", func(*testing.T, netlink.Link) {}, nil},
		{"a route deleted", func(t *testing.T, _ netlink.Link) {
			must(t, netlink.RouteDel(&netlink.Route{Dst: ipNet(peerNumber(3).Subnet)}))
		}, []string{"the route to 10.5.3.0/24"}},
		{"a route of the device replaced", func(t *testing.T, l netlink.Link) {
			must(t, netlink.RouteReplace(&netlink.Route{Dst: ipNet(peerNumber(3).Subnet), LinkIndex: l.Attrs().Index, Scope: netlink.SCOPE_LINK}))
		}, []string{"the route to 10.5.3.0/24"}},
		{"a neighbour deleted", func(t *testing.T, l netlink.Link) {
			w := peer
			w.link = l.Attrs().Index
			must(t, netlink.NeighDel(neighbourOf(w)))
		}, []string{"the neighbour 10.5.3.0"}},
		{"a neighbour changed", func(t *testing.T, l netlink.Link) {
			w := peer
			w.link, w.mac[5] = l.Attrs().Index, 0x77
			must(t, netlink.NeighSet(neighbourOf(w)))
		}, []string{"the neighbour 10.5.3.0"}},
		{"all routes flushed", func(t *testing.T, l netlink.Link) {
			for _, n := range []int{3, 4} {
				must(t, netlink.RouteDel(&netlink.Route{Dst: ipNet(peerNumber(n).Subnet)}))
			}
		}, []string{"the route to 10.5.3.0/24", "the route to 10.5.4.0/24"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inNamespace(t, func() {
				link := upDevice(t)
				must(t, netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: ipNet(netip.MustParsePrefix("10.5.200.0/24")), Scope: netlink.SCOPE_LINK}))
				must(t, netlink.NeighAdd(&netlink.Neigh{LinkIndex: link.Attrs().Index, State: netlink.NUD_PERMANENT, IP: net.IPv4(10, 5, 200, 1), HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 9}}))
				var r Routes
				p := routePlan(perPeer, 3, 4)
				update(t, &r, p)
				before := overlay(t, link)
				tt.do(t, link)
				expect(t, "what was set", tt.want, sync(t, &r, p).Mended)
				expect(t, "afterwards", before, overlay(t, link))
			})
		})
	}
}

// What somebody else has for a peer's subnet, on any device but ours, is theirs.
func TestForeignRoutesStay(t *testing.T) {
	for _, mode := range []struct {
		name string
		edit func(*RoutePlan)
	}{{"per peer", perPeer}, {"direct", direct}} {
		tests := []struct {
			name  string
			route netlink.Route
			note  string
		}{
			{"by a gateway", netlink.Route{Gw: net.IPv4(192, 168, 9, 200).To4()}, "somebody else's route leads 10.5.3.0/24 via 192.168.9.200"},
			{"with a metric", netlink.Route{Gw: net.IPv4(192, 168, 9, 200).To4(), Priority: 500}, "via 192.168.9.200"},
			{"to a device", netlink.Route{Scope: netlink.SCOPE_LINK}, "to device eth0"},
			{"into a hole", netlink.Route{Type: unix.RTN_BLACKHOLE}, "nowhere"},
		}
		for _, tt := range tests {
			t.Run(mode.name+", "+tt.name, func(t *testing.T) {
				inNamespace(t, func() {
					eth0 := addInterface(t, "eth0", "192.168.9.72/24")
					link := upDevice(t)
					tt.route.Dst = ipNet(peerNumber(3).Subnet)
					if tt.route.Type == 0 {
						tt.route.LinkIndex = eth0.Attrs().Index
					}
					must(t, netlink.RouteAdd(&tt.route))
					foreign := func() []string {
						return slices.DeleteFunc(overlay(t, link), func(s string) bool { return !strings.HasPrefix(s, "10.5.3.0/24") })
					}
					before := foreign()
					var r Routes
					p := routePlan(mode.edit, 3, 4)
					update(t, &r, p)
					report := sync(t, &r, p)
					expect(t, "routes to the peer", before, foreign())
					if len(report.Notes) != 1 || !strings.Contains(report.Notes[0], tt.note) || len(report.Mended) != 0 || report.Direct[p.Peers[0].Subnet] {
						t.Errorf("got %+v, want one note with %q", report, tt.note)
					}
					update(t, &r, routePlan(mode.edit))
					expect(t, "when the peer has gone", before, foreign())
					sync(t, &r, p)
					must(t, netlink.RouteDel(&tt.route))
					if report := sync(t, &r, p); len(report.Notes) != 0 || len(foreign()) != 1 {
						t.Errorf("when it was deleted: %+v and %v", report, foreign())
					}
				})
			})
		}
	}
}

// Ten thousand peers are set in bounded time, and one more in no time.
func TestManyPeers(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	inNamespace(t, func() {
		eth0 := addInterface(t, "eth0", "192.168.9.72/24")
		must(t, netlink.RouteAdd(hostRoute(t, "0.0.0.0/0", "192.168.9.1", eth0)))
		link := upDevice(t)
		p := RoutePlan{Device: "flannel.1", Network: netip.MustParsePrefix("10.0.0.0/8"), PerPeer: true}
		for i := range 10000 {
			a := netip.AddrFrom4([4]byte{10, 16 + byte(i>>8), byte(i), 0})
			p.Peers = append(p.Peers, PeerRoute{netip.PrefixFrom(a, 24), netip.AddrFrom4([4]byte{192, 0, byte(i >> 8), byte(i)}), ether.MAC{2, 0, 0, 0, byte(i >> 8), byte(i)}})
		}
		var r Routes
		took := func(what string, limit time.Duration, f func()) {
			t.Helper()
			clock := stall.Start()
			f()
			d := clock.Took()
			t.Logf("%s: %s", what, d.Round(10*time.Microsecond))
			if d > limit {
				t.Errorf("%s took %s, want %s at the most", what, d, limit)
			}
		}
		took("setting 9999", 10*time.Second, func() {
			first := p
			first.Peers = p.Peers[1:]
			update(t, &r, first)
		})
		took("one more", 500*time.Millisecond, func() { update(t, &r, p) })
		took("looking at all", 2*time.Second, func() { sync(t, &r, p) })
		p.Direct = true
		took("looking at all, and for links", 4*time.Second, func() { sync(t, &r, p) })
		p.Direct = false
		if got := len(overlay(t, link)); got != 20000 {
			t.Errorf("%d entries, want 20000", got)
		}
		must(t, netlink.LinkSetDown(link))
		must(t, netlink.LinkSetUp(link))
		took("after the device was down", 10*time.Second, func() { sync(t, &r, p) })
		if got := len(overlay(t, link)); got != 20000 {
			t.Errorf("%d entries, want 20000", got)
		}
		p.Peers = nil
		took("removing all", 10*time.Second, func() { update(t, &r, p) })
		if got := overlay(t, link); len(got) != 0 {
			t.Errorf("%d entries are left", len(got))
		}
	})
}

// A lease of another length takes the place of one, with the same first address:
// what goes with the one must not be what came with the other.
func TestSubnetOfAnotherLength(t *testing.T) {
	for _, tt := range []struct {
		name string
		look func(*testing.T, *Routes, RoutePlan) RouteReport
		mac  byte
	}{
		{"of another host, heard of", update, 4},
		{"of another host, found", sync, 4},
		{"of the same host, heard of", update, 3},
		{"of the same host, found", sync, 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inNamespace(t, func() {
				link := upDevice(t)
				var r Routes
				p := routePlan(perPeer, 3)
				update(t, &r, p)
				p.Peers = []PeerRoute{{netip.MustParsePrefix("10.5.3.0/25"), netip.MustParseAddr("192.168.9.4"), ether.MAC{2, 0, 0, 0, 1, tt.mac}}}
				tt.look(t, &r, p)
				want := overlay(t, link)
				report := sync(t, &r, p)
				expect(t, "after a look at all", want, overlay(t, link))
				if len(report.Mended) > 0 || len(want) != 2 {
					t.Errorf("somebody is said to have changed %q; there was %q", report.Mended, want)
				}
			})
		})
	}
}
