// SPDX-License-Identifier: Apache-2.0

package host

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func directly(n int) []string {
	return []string{fmt.Sprintf("10.5.%d.0/24 via 192.168.9.%d dev eth0 proto 84 metric 0", n, n)}
}

// onlyDirect reports whether report has these peers as direct and no others.
func onlyDirect(t *testing.T, when string, report RouteReport, peers ...int) {
	t.Helper()
	ok := len(report.Direct) == len(peers)
	for _, n := range peers {
		ok = ok && report.Direct[peerNumber(n).Subnet]
	}
	if !ok {
		t.Errorf("%s: direct are %v, want %v", when, report.Direct, peers)
	}
}

func hostRoute(t *testing.T, dst string, via string, link netlink.Link) *netlink.Route {
	t.Helper()
	r := &netlink.Route{Dst: ipNet(netip.MustParsePrefix(dst)), LinkIndex: link.Attrs().Index}
	if via != "" {
		r.Gw = net.ParseIP(via).To4()
	}
	return r
}

// A peer whose address is on a link has a route of its own, and whoever is behind
// a gateway has what it has without.
func TestDirectFollowsTheRoutes(t *testing.T) {
	for _, mode := range []struct {
		name   string
		edit   func(*RoutePlan)
		tunnel func(n int) []string
	}{
		{"beside one route for all", direct, func(int) []string { return nil }},
		{"beside routes of single peers", both, tunnelled},
	} {
		t.Run(mode.name, func(t *testing.T) {
			inNamespace(t, func() {
				eth0 := addInterface(t, "eth0", "192.168.9.72/24")
				link := upDevice(t)
				behind := hostRoute(t, "192.168.9.4/32", "192.168.9.1", eth0)
				must(t, netlink.RouteAdd(behind))
				var r Routes
				p := routePlan(mode.edit, 3, 4)
				onlyDirect(t, "at first", update(t, &r, p), 3)
				expect(t, "at first", sorted(directly(3), mode.tunnel(4)), overlay(t, link))

				must(t, netlink.RouteDel(behind))
				onlyDirect(t, "on one link", sync(t, &r, p), 3, 4)
				expect(t, "on one link", sorted(directly(3), directly(4)), overlay(t, link))

				must(t, netlink.RouteAdd(hostRoute(t, "192.168.9.3/32", "192.168.9.1", eth0)))
				onlyDirect(t, "the other is behind", sync(t, &r, p), 4)
				expect(t, "the other is behind", sorted(mode.tunnel(3), directly(4)), overlay(t, link))

				must(t, netlink.AddrDel(eth0, &netlink.Addr{IPNet: &net.IPNet{IP: net.IPv4(192, 168, 9, 72).To4(), Mask: net.CIDRMask(24, 32)}}))
				onlyDirect(t, "without an address", sync(t, &r, p))
				expect(t, "without an address", sorted(mode.tunnel(3), mode.tunnel(4)), overlay(t, link))

				must(t, netlink.AddrAdd(eth0, &netlink.Addr{IPNet: &net.IPNet{IP: net.IPv4(192, 168, 9, 72).To4(), Mask: net.CIDRMask(24, 32)}}))
				onlyDirect(t, "with it again", sync(t, &r, p), 3, 4)

				// A peer moves.
				p.Peers[0].VTEP = netip.MustParseAddr("192.168.9.33")
				onlyDirect(t, "a peer has another address", update(t, &r, p), 3, 4)
				moved := []string{"10.5.3.0/24 via 192.168.9.33 dev eth0 proto 84 metric 0"}
				expect(t, "a peer has another address", sorted(moved, directly(4)), overlay(t, link))

				p.Direct = false
				onlyDirect(t, "switched off", update(t, &r, p))
				expect(t, "switched off", sorted(mode.tunnel(3), mode.tunnel(4)), overlay(t, link))
			})
		})
	}
}

// Every way that an address can be reached without being a neighbour.
func TestNotOnALink(t *testing.T) {
	tests := []struct {
		name string
		do   func(t *testing.T, eth0 netlink.Link)
	}{
		{"behind a gateway", func(t *testing.T, eth0 netlink.Link) {
			must(t, netlink.RouteAdd(hostRoute(t, "192.168.9.3/32", "192.168.9.1", eth0)))
		}},
		{"behind a gateway of IPv6", func(t *testing.T, eth0 netlink.Link) {
			r := hostRoute(t, "192.168.9.3/32", "", eth0)
			r.Via = &netlink.Via{AddrFamily: netlink.FAMILY_V6, Addr: net.ParseIP("fe80::1")}
			must(t, netlink.RouteAdd(r))
		}},
		{"our own address", func(t *testing.T, eth0 netlink.Link) {
			must(t, netlink.AddrAdd(eth0, &netlink.Addr{IPNet: ipNet(netip.MustParsePrefix("192.168.9.3/32"))}))
		}},
		{"in a hole", func(t *testing.T, _ netlink.Link) {
			must(t, netlink.RouteAdd(&netlink.Route{Dst: ipNet(netip.MustParsePrefix("192.168.9.3/32")), Type: unix.RTN_BLACKHOLE}))
		}},
		{"nowhere", func(t *testing.T, eth0 netlink.Link) { must(t, netlink.LinkSetDown(eth0)) }},
		{"on our own device", func(t *testing.T, _ netlink.Link) {
			l, err := netlink.LinkByName("flannel.1")
			must(t, err)
			must(t, netlink.RouteAdd(&netlink.Route{Dst: ipNet(netip.MustParsePrefix("192.168.9.3/32")), LinkIndex: l.Attrs().Index, Scope: netlink.SCOPE_LINK}))
		}},
		{"on a link without neighbours", func(t *testing.T, _ netlink.Link) {
			tun := addLink(t, &netlink.Tuntap{LinkAttrs: netlink.LinkAttrs{Name: "wg0"}, Mode: netlink.TUNTAP_MODE_TUN, Flags: netlink.TUNTAP_NO_PI})
			must(t, netlink.LinkSetUp(tun))
			must(t, netlink.RouteAdd(&netlink.Route{Dst: ipNet(netip.MustParsePrefix("192.168.9.3/32")), LinkIndex: tun.Attrs().Index, Scope: netlink.SCOPE_LINK}))
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inNamespace(t, func() {
				eth0 := addInterface(t, "eth0", "192.168.9.72/24")
				link := upDevice(t)
				var r Routes
				onlyDirect(t, "before", sync(t, &r, routePlan(direct, 3)), 3)
				tt.do(t, eth0)
				onlyDirect(t, tt.name, sync(t, &r, routePlan(direct, 3)))
				expect(t, tt.name, nil, overlay(t, link))
			})
		})
	}
}

// Direct routes outlive a run. The next one keeps those that are right without
// touching them, and removes the others; what has another protocol number, or is
// of another network, is somebody else's.
func TestDirectRoutesOfAnEarlierRun(t *testing.T) {
	inNamespace(t, func() {
		eth0 := addInterface(t, "eth0", "192.168.9.72/24")
		link := upDevice(t)
		var before Routes
		sync(t, &before, routePlan(direct, 3, 4))
		for _, r := range []struct {
			dst   string
			proto netlink.RouteProtocol
		}{{"10.6.1.0/24", routeProtocol}, {"10.7.1.0/24", routeProtocol}, {"10.5.200.0/24", unix.RTPROT_STATIC}} {
			route := hostRoute(t, r.dst, "192.168.9.200", eth0)
			route.Protocol = r.proto
			must(t, netlink.RouteAdd(route))
		}
		must(t, netlink.RouteAdd(blackholeRoute(netip.MustParsePrefix("10.5.72.0/24"))))
		p := routePlan(direct, 4, 5)
		p.Former = netip.MustParsePrefix("10.6.0.0/16")
		var r Routes
		onlyDirect(t, "the next run", update(t, &r, p), 4, 5)
		others := []string{
			"10.5.200.0/24 via 192.168.9.200 dev eth0 proto 4 metric 0",
			"10.5.72.0/24 via <nil> dev none proto 84 metric 2147483647",
			"10.7.1.0/24 via 192.168.9.200 dev eth0 proto 84 metric 0",
		}
		expect(t, "the next run", sorted(directly(4), directly(5), others), overlay(t, link))

		var off Routes
		sync(t, &off, routePlan(neither, 4, 5))
		expect(t, "a run without", others, overlay(t, link))

		sync(t, &r, p)
		if removed, err := RemoveDirectRoutes(netip.MustParsePrefix("10.5.128.0/17")); err != nil || len(removed) != 0 {
			t.Errorf("of a part without any: removed %v, %v", removed, err)
		}
		removed, err := RemoveDirectRoutes(netip.Prefix{})
		must(t, err)
		expect(t, "removed", sorted([]string{"route 10.5.4.0/24 via 192.168.9.4", "route 10.5.5.0/24 via 192.168.9.5", "route 10.7.1.0/24 via 192.168.9.200"}), sorted(removed))
		expect(t, "after cleanup", sorted(others[:2]), overlay(t, link))
	})
}

// flanneld leaves direct routes without a mark. One that is right is as good as
// ours, and stays.
func TestDirectRouteOfFlanneld(t *testing.T) {
	inNamespace(t, func() {
		eth0 := addInterface(t, "eth0", "192.168.9.72/24")
		link := upDevice(t)
		must(t, netlink.RouteAdd(hostRoute(t, "10.5.3.0/24", "192.168.9.3", eth0)))
		before := overlay(t, link)
		var r Routes
		report := sync(t, &r, routePlan(direct, 3))
		onlyDirect(t, "with flanneld's route", report, 3)
		if len(report.Notes) != 0 {
			t.Errorf("notes %q", report.Notes)
		}
		update(t, &r, routePlan(direct))
		expect(t, "when the peer has gone", before, overlay(t, link))
	})
}

// Where the kernel does not take a direct route, the tunnel stays.
func TestDirectRouteRefused(t *testing.T) {
	inNamespace(t, func() {
		eth0 := addInterface(t, "eth0", "192.168.9.72/24")
		link := upDevice(t)
		// Of global scope: good enough to send by, not to be a gateway's.
		r := hostRoute(t, "192.168.10.3/32", "", eth0)
		r.Scope = netlink.SCOPE_UNIVERSE
		must(t, netlink.RouteAdd(r))
		p := routePlan(both, 3)
		p.Peers[0].VTEP = netip.MustParseAddr("192.168.10.3")
		var routes Routes
		report := sync(t, &routes, p)
		onlyDirect(t, "refused", report)
		if len(report.Refused) != 1 || !strings.Contains(report.Refused[0], "no direct route to 10.5.3.0/24 via 192.168.10.3 is to be had") {
			t.Errorf("refused %q", report.Refused)
		}
		expect(t, "refused", sorted(tunnelled(3)), overlay(t, link))
	})
}

// All of it with IPv6, where a route without a metric has one.
func TestRoutesOfIPv6(t *testing.T) {
	inNamespace(t, func() {
		eth0 := addInterface(t, "eth0")
		must(t, netlink.AddrAdd(eth0, &netlink.Addr{IPNet: ipNet(netip.MustParsePrefix("fd00:9::72/64")), Flags: unix.IFA_F_NODAD}))
		must(t, netlink.RouteAdd(hostRoute6(t, "fd00:9::4/128", "fd00:9::1", eth0)))
		lendTAP(t, device6)
		own := plan6("fd00:5:0:72::/64")
		own.PerPeer = true
		apply(t, own)
		link, err := netlink.LinkByName(device6)
		must(t, err)
		p := RoutePlan{Device: device6, Network: own.Network, PerPeer: true, Direct: true}
		for _, n := range []int{3, 4} {
			p.Peers = append(p.Peers, PeerRoute{
				Subnet: netip.MustParsePrefix(fmt.Sprintf("fd00:5:0:%d::/64", n)),
				VTEP:   netip.MustParseAddr(fmt.Sprintf("fd00:9::%d", n)),
				MAC:    peerNumber(n).MAC,
			})
		}
		var r Routes
		entries := func() []string {
			var all []string
			routes, err := netlink.RouteList(nil, netlink.FAMILY_V6)
			must(t, err)
			for _, r := range routes {
				if dst, ok := prefixOf(r.Dst); ok && own.Network.Contains(dst.Addr()) && r.Protocol != unix.RTPROT_KERNEL {
					all = append(all, fmt.Sprintf("%s via %s proto %d onlink %v", r.Dst, r.Gw, r.Protocol, r.Flags&unix.RTNH_F_ONLINK != 0))
				}
			}
			neighbours, err := netlink.NeighList(link.Attrs().Index, netlink.FAMILY_V6)
			must(t, err)
			for _, n := range neighbours {
				if n.State == netlink.NUD_PERMANENT {
					all = append(all, fmt.Sprintf("%s is %s", n.IP, n.HardwareAddr))
				}
			}
			return sorted(all)
		}
		want := []string{
			"fd00:5:0:3::/64 via fd00:9::3 proto 84 onlink false",
			"fd00:5:0:4:: is 02:00:00:00:01:04",
			"fd00:5:0:4::/64 via fd00:5:0:4:: proto 3 onlink true",
		}
		report := update(t, &r, p)
		expect(t, "at first", want, entries())
		if !report.Direct[p.Peers[0].Subnet] || len(report.Direct) != 1 {
			t.Errorf("direct are %v", report.Direct)
		}
		if report := sync(t, &r, p); len(report.Mended)+len(report.Notes)+len(report.Refused) != 0 {
			t.Errorf("looked at again: %+v", report)
		}
		must(t, netlink.RouteDel(&netlink.Route{Dst: ipNet(p.Peers[1].Subnet), LinkIndex: link.Attrs().Index}))
		expect(t, "mended", []string{"the route to fd00:5:0:4::/64"}, sync(t, &r, p).Mended)
		expect(t, "afterwards", want, entries())
		p.Peers = nil
		update(t, &r, p)
		expect(t, "nobody is left", nil, entries())
	})
}

func hostRoute6(t *testing.T, dst, via string, link netlink.Link) *netlink.Route {
	t.Helper()
	return &netlink.Route{Dst: ipNet(netip.MustParsePrefix(dst)), LinkIndex: link.Attrs().Index, Gw: net.ParseIP(via)}
}

// Between two looks somebody may put a route of his own where ours was. When the
// peer moves at that moment it stays.
func TestRouteThatSomebodyPutInThePlaceOfOurs(t *testing.T) {
	inNamespace(t, func() {
		eth0 := addInterface(t, "eth0", "192.168.9.72/24")
		link := upDevice(t)
		var r Routes
		p := routePlan(direct, 3)
		update(t, &r, p)
		must(t, netlink.RouteDel(hostRoute(t, "10.5.3.0/24", "192.168.9.3", eth0)))
		must(t, netlink.RouteAdd(hostRoute(t, "10.5.3.0/24", "192.168.9.200", eth0)))
		theirs := overlay(t, link)

		p.Peers[0].VTEP = netip.MustParseAddr("192.168.9.33")
		onlyDirect(t, "the peer has moved", update(t, &r, p))
		expect(t, "the peer has moved", theirs, overlay(t, link))
		if report := sync(t, &r, p); len(report.Notes) != 1 {
			t.Errorf("nobody is told of it: %+v", report)
		}
		must(t, netlink.RouteDel(hostRoute(t, "10.5.3.0/24", "192.168.9.200", eth0)))
		onlyDirect(t, "it has gone", sync(t, &r, p), 3)
	})
}

// A route of ours is known for ours when its peer moves, whichever kind it is.
func TestPeerThatMovesOntoTheLinkAndOff(t *testing.T) {
	inNamespace(t, func() {
		eth0 := addInterface(t, "eth0", "192.168.9.72/24")
		must(t, netlink.RouteAdd(hostRoute(t, "0.0.0.0/0", "192.168.9.1", eth0)))
		link := upDevice(t)
		var r Routes
		p := routePlan(both, 3)
		for _, step := range []struct {
			vtep  string
			peers []int
			want  []string
		}{
			{"198.51.100.3", nil, tunnelled(3)},
			{"192.168.9.3", []int{3}, directly(3)},
			{"198.51.100.4", nil, tunnelled(3)},
		} {
			p.Peers[0].VTEP = netip.MustParseAddr(step.vtep)
			report := update(t, &r, p)
			onlyDirect(t, step.vtep, report, step.peers...)
			expect(t, step.vtep, sorted(step.want), overlay(t, link))
			if len(report.Notes) > 0 {
				t.Errorf("%s: %q", step.vtep, report.Notes)
			}
		}
	})
}

// What an earlier run left, and could not be taken away the first time, is the next.
func TestStaleDirectRouteThatStaysAtFirst(t *testing.T) {
	inNamespace(t, func() {
		eth0 := addInterface(t, "eth0", "192.168.9.72/24")
		link := upDevice(t)
		stale := hostRoute(t, "10.5.3.0/24", "192.168.9.3", eth0)
		stale.Protocol = routeProtocol
		must(t, netlink.RouteAdd(stale))
		p := routePlan(neither)
		k, err := openKernel(p.Device, p.PerPeer, p.Network.Addr())
		must(t, err)
		have, err := k.read(p)
		must(t, err)
		defer k.h.Close()
		have.routes[peerNumber(3).Subnet][0].Gw = net.ParseIP("2001:db8::1") // which no such route can have
		var r Routes
		if _, err := r.apply(k, p, have, true); err == nil {
			t.Fatal("nothing failed")
		}
		for range 2 {
			update(t, &r, p)
		}
		if left := overlay(t, link); len(left) != 0 {
			t.Errorf("there is left %q", left)
		}
	})
}
