// SPDX-License-Identifier: Apache-2.0

package host

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"vxtap/encap/ether"
	"vxtap/test/stall"
)

const device6 = "flannel-v6.1"

func plan6(subnet string) Plan {
	return Plan{
		Device:    device6,
		MAC:       ether.MAC{0x02, 0, 0, 0, 0, 1},
		MTU:       1430,
		Addr:      netip.PrefixFrom(netip.MustParsePrefix(subnet).Addr(), 128),
		Network:   netip.MustParsePrefix("fd00:5::/48"),
		RouterMAC: ether.MAC{0x02, 0, 0, 0, 0, 2},
	}
}

// state6 is what Apply is to leave in the kernel of IPv6, as text. What the
// kernel makes by itself for every device is left out.
func state6(t *testing.T) []string {
	t.Helper()
	l, err := netlink.LinkByName(device6)
	must(t, err)
	a := l.Attrs()
	all := []string{fmt.Sprintf("link %s mtu %d up %v", a.HardwareAddr, a.MTU, a.Flags&net.FlagUp != 0)}
	addrs, err := netlink.AddrList(l, netlink.FAMILY_V6)
	must(t, err)
	for _, x := range addrs {
		if !x.IP.IsLinkLocalUnicast() {
			all = append(all, fmt.Sprintf("address %s scope %d tentative %v", x.IPNet, x.Scope, x.Flags&unix.IFA_F_TENTATIVE != 0))
		}
	}
	routes, err := netlink.RouteList(l, netlink.FAMILY_V6)
	must(t, err)
	for _, r := range routes {
		if r.Protocol != unix.RTPROT_KERNEL {
			all = append(all, fmt.Sprintf("route %s via %s src %s onlink %v", r.Dst, r.Gw, r.Src, r.Flags&unix.RTNH_F_ONLINK != 0))
		}
	}
	neighs, err := netlink.NeighList(a.Index, netlink.FAMILY_V6)
	must(t, err)
	for _, n := range neighs {
		if n.State&netlink.NUD_NOARP == 0 {
			all = append(all, fmt.Sprintf("neighbour %s %s permanent %v", n.IP, n.HardwareAddr, n.State == netlink.NUD_PERMANENT))
		}
	}
	slices.Sort(all[1:])
	return all
}

func TestApply6(t *testing.T) {
	inNamespace(t, func() {
		addTAP(t, device6)
		apply(t, plan6("fd00:5:0:72::/64"))
		want := []string{
			"link 02:00:00:00:00:01 mtu 1430 up true",
			"address fd00:5:0:72::/128 scope 0 tentative false",
			"neighbour fe80::a9fe:5448 02:00:00:00:00:02 permanent true",
			"route fd00:5::/48 via fe80::a9fe:5448 src fd00:5:0:72:: onlink true",
		}
		if diff := cmp.Diff(want, state6(t)); diff != "" {
			t.Errorf("after Apply (-want +got):\n%s", diff)
		}
		if again := apply(t, plan6("fd00:5:0:72::/64")); again != nil {
			t.Errorf("set a second time: %v", again)
		}
		if ra, err := os.ReadFile("/proc/sys/net/ipv6/conf/" + device6 + "/accept_ra"); err == nil && string(ra) != "0\n" {
			t.Errorf("got accept_ra %q, want 0", ra)
		}
		// Another subnet moves what is ours; what is not stays.
		link, err := netlink.LinkByName(device6)
		must(t, err)
		must(t, netlink.AddrAdd(link, &netlink.Addr{IPNet: ipNet(netip.MustParsePrefix("2001:db8::1/128"))}))
		apply(t, plan6("fd00:5:0:9::/64"))
		want = []string{
			"link 02:00:00:00:00:01 mtu 1430 up true",
			"address 2001:db8::1/128 scope 0 tentative false",
			"address fd00:5:0:9::/128 scope 0 tentative false",
			"neighbour fe80::a9fe:5448 02:00:00:00:00:02 permanent true",
			"route fd00:5::/48 via fe80::a9fe:5448 src fd00:5:0:9:: onlink true",
		}
		got := state6(t)
		for i := range got { // a TAP that nobody holds has no carrier to look for duplicates by
			got[i] = strings.Replace(got[i], "2001:db8::1/128 scope 0 tentative true", "2001:db8::1/128 scope 0 tentative false", 1)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("after the subnet changed (-want +got):\n%s", diff)
		}
	})
}

// Both devices of a dual-stack host are set up side by side, and neither looks
// after the other's.
func TestApplyBothFamilies(t *testing.T) {
	inNamespace(t, func() {
		addTAP(t, "flannel.1")
		addTAP(t, device6)
		four, six := plan("flannel.1", "10.5.72.0/24"), plan6("fd00:5:0:72::/64")
		four.Blackhole, six.Blackhole = netip.MustParsePrefix("10.5.72.0/24"), netip.MustParsePrefix("fd00:5:0:72::/64")
		apply(t, four)
		apply(t, six)
		for _, p := range []Plan{four, six} {
			if again := apply(t, p); again != nil {
				t.Errorf("%s set a second time: %v", p.Device, again)
			}
		}
		if got, want := blackholed6(t), []string{"fd00:5:0:72::/64"}; !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
		if got, err := RemoveBlackholes(netip.Prefix{}); err != nil || len(got) != 2 {
			t.Errorf("got %v removed and %v, want the route of each family", got, err)
		}
		if got := blackholed6(t); len(got) != 0 {
			t.Errorf("still there: %v", got)
		}
	})
}

// blackholed6 is blackholed for IPv6.
func blackholed6(t *testing.T) []string {
	t.Helper()
	routes, err := netlink.RouteListFiltered(netlink.FAMILY_V6, &netlink.Route{Type: unix.RTN_BLACKHOLE}, netlink.RT_FILTER_TYPE)
	must(t, err)
	var all []string
	for _, r := range routes {
		all = append(all, r.Dst.String())
	}
	return all
}

func TestBlackhole6(t *testing.T) {
	inNamespace(t, func() {
		addTAP(t, device6)
		must(t, netlink.RouteAdd(&netlink.Route{Dst: ipNet(netip.MustParsePrefix("fd00:5:0:8::/64")), Type: unix.RTN_BLACKHOLE}))
		p := plan6("fd00:5:0:72::/64")
		p.Blackhole = netip.MustParsePrefix("fd00:5:0:72::/64")
		apply(t, p)
		// The bridge comes later, and its own route must win.
		addInterface(t, "cni0", "fd00:5:0:72::1/64")
		routes, err := netlink.RouteGet(netip.MustParseAddr("fd00:5:0:72::9").AsSlice())
		if err != nil || len(routes) != 1 || routes[0].Gw != nil || routes[0].Type == unix.RTN_BLACKHOLE {
			t.Errorf("got %v and error %v on the way to a container", routes, err)
		}
		must(t, netlink.RouteDel(blackholeRoute(p.Blackhole)))
		if got, want := apply(t, p), []string{"the blackhole route"}; !slices.Equal(got, want) {
			t.Errorf("got %v mended, want %v", got, want)
		}
		moved := plan6("fd00:5:0:9::/64")
		moved.Blackhole = netip.MustParsePrefix("fd00:5:0:9::/64")
		apply(t, moved)
		if got, want := blackholed6(t), []string{"fd00:5:0:8::/64", "fd00:5:0:9::/64"}; !slices.Equal(slices.Sorted(slices.Values(got)), want) {
			t.Errorf("got %v after the subnet changed, want %v", got, want)
		}
	})
}

func TestApply6Mends(t *testing.T) {
	p := plan6("fd00:5:0:72::/64")
	tests := []struct {
		name string
		do   func(t *testing.T, l netlink.Link)
		want []string
	}{
		{"nothing", func(*testing.T, netlink.Link) {}, nil},
		{"the route deleted", func(t *testing.T, l netlink.Link) { must(t, netlink.RouteDel(aggregateRoute(p, l))) }, []string{"the route"}},
		{"the route replaced", func(t *testing.T, l netlink.Link) {
			r := aggregateRoute(p, l)
			r.Src, r.Gw, r.Flags = nil, nil, 0
			must(t, netlink.RouteReplace(r))
		}, []string{"the route"}},
		{"the neighbour deleted", func(t *testing.T, l netlink.Link) { must(t, netlink.NeighDel(routerNeighbour(p, l))) }, []string{"the gateway's neighbour"}},
		{"the neighbour changed", func(t *testing.T, l netlink.Link) {
			n := routerNeighbour(p, l)
			n.HardwareAddr = net.HardwareAddr{2, 9, 9, 9, 9, 9}
			must(t, netlink.NeighSet(n))
		}, []string{"the gateway's neighbour"}},
		{"the address deleted", func(t *testing.T, l netlink.Link) {
			must(t, netlink.AddrDel(l, &netlink.Addr{IPNet: ipNet(p.Addr)}))
		}, []string{"the address", "the route"}},
		{"an address of another subnet", func(t *testing.T, l netlink.Link) {
			must(t, netlink.AddrAdd(l, &netlink.Addr{IPNet: ipNet(netip.MustParsePrefix("fd00:5:0:9::/128")), Flags: unix.IFA_F_NODAD}))
		}, []string{"the addresses of other subnets"}},
		{"taken down", func(t *testing.T, l netlink.Link) { must(t, netlink.LinkSetDown(l)) },
			[]string{"the address", "the link state", "the gateway's neighbour", "the route"}},
		{"IPv6 switched off", func(t *testing.T, _ netlink.Link) {
			must(t, os.WriteFile(disableIPv6(device6), []byte("1"), 0))
		}, []string{"IPv6", "the address", "the gateway's neighbour", "the route"}},
		{"an MTU that IPv6 cannot have", func(t *testing.T, l netlink.Link) { must(t, netlink.LinkSetMTU(l, 1279)) },
			[]string{"the MTU", "the address", "the gateway's neighbour", "the route"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inNamespace(t, func() {
				lendTAP(t, device6)
				apply(t, p)
				before := state6(t)
				link, err := netlink.LinkByName(device6)
				must(t, err)
				tt.do(t, link)
				if diff := cmp.Diff(tt.want, apply(t, p)); diff != "" {
					t.Errorf("what was set (-want +got):\n%s", diff)
				}
				if diff := cmp.Diff(before, state6(t)); diff != "" {
					t.Errorf("afterwards (-want +got):\n%s", diff)
				}
				if again := apply(t, p); again != nil {
					t.Errorf("set a second time: %v", again)
				}
			})
		})
	}
}

func TestApply6Refuses(t *testing.T) {
	tests := []struct {
		name string
		do   func(t *testing.T, p *Plan)
		want string
	}{
		{"another device's route", func(t *testing.T, p *Plan) {
			other := addInterface(t, "other0")
			must(t, netlink.RouteAdd(&netlink.Route{LinkIndex: other.Attrs().Index, Dst: ipNet(p.Network)}))
		}, "on device other0: if nobody needs it: ip route del fd00:5::/48 dev other0"},
		{"an IPv4 address", func(_ *testing.T, p *Plan) { p.Addr = netip.MustParsePrefix("10.5.72.0/32") }, "of two families"},
		{"an IPv4 blackhole", func(_ *testing.T, p *Plan) { p.Blackhole = netip.MustParsePrefix("10.5.72.0/24") }, "of two families"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inNamespace(t, func() {
				addTAP(t, device6)
				p := plan6("fd00:5:0:72::/64")
				tt.do(t, &p)
				if _, err := Apply(p); err == nil || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("got error %v, want %q", err, tt.want)
				}
			})
		})
	}
}

// A host whose new devices have IPv6 off gets it for this one alone.
func TestApply6WhereDevicesHaveNoIPv6(t *testing.T) {
	inNamespace(t, func() {
		must(t, os.WriteFile(disableIPv6("default"), []byte("1"), 0))
		addTAP(t, device6)
		apply(t, plan6("fd00:5:0:72::/64"))
		if got := state6(t); len(got) != 4 {
			t.Errorf("got %v", got)
		}
	})
}

func TestFindUplink6(t *testing.T) {
	ip := netip.MustParseAddr
	tests := []struct {
		name   string
		choice Choice
		want   string // interface, IPv4 and IPv6 address
	}{
		{"the default interface's", Choice{}, "out0 192.0.2.1 2001:db8::1"},
		{"global before link-local, and permanent first", Choice{Names: []string{"in0"}}, "in0 10.1.0.1 fd00:1::1"},
		{"only link-local", Choice{Names: []string{"local0"}}, "local0 10.2.0.1 fe80::77"},
		{"none", Choice{Names: []string{"four0"}}, "four0 10.3.0.1 invalid IP"},
		{"the public address, where the interface has it", Choice{Names: []string{"in0"}, PublicIPv6: ip("fd00:1::2")}, "in0 10.1.0.1 fd00:1::2"},
		{"a public address behind NAT", Choice{Names: []string{"in0"}, PublicIPv6: ip("2001:db8:9::9")}, "in0 10.1.0.1 fd00:1::1"},
		{"the interface that has the public address", Choice{PublicIPv6: ip("fd00:1::2")}, "in0 10.1.0.1 fd00:1::2"},
		{"the IPv4 public address decides", Choice{PublicIP: ip("192.0.2.1"), PublicIPv6: ip("fd00:1::2")}, "out0 192.0.2.1 2001:db8::1"},
		{"by IPv6 address", Choice{Names: []string{"fd00:1::3"}}, "in0 10.1.0.1 fd00:1::3"},
		{"by the pattern of an IPv6 address", Choice{Patterns: []*regexp.Regexp{regexp.MustCompile(`^fd00:1:`)}}, "in0 10.1.0.1 fd00:1::1"},
		{"a pattern of names is none of addresses", Choice{Patterns: []*regexp.Regexp{regexp.MustCompile(`0`)}, PublicIPv6: ip("fd00:1::2")}, "in0 10.1.0.1 fd00:1::2"},
		{"on the way to an IPv6 address", Choice{CanReach: ip("fd00:1::77")}, "in0 10.1.0.1 fd00:1::1"},
	}
	inNamespace(t, func() {
		quiet := func(name string) {
			must(t, os.WriteFile("/proc/sys/net/ipv6/conf/"+name+"/addr_gen_mode", []byte("1"), 0))
		}
		quiet("default") // no link-local addresses that nobody asked for
		in := addInterface(t, "in0", "10.1.0.1/24")
		out := addInterface(t, "out0", "192.0.2.1/24")
		local := addInterface(t, "local0", "10.2.0.1/24")
		addInterface(t, "four0", "10.3.0.1/24")
		add6 := func(l netlink.Link, addr string, flags, valid, preferred int) {
			must(t, netlink.AddrAdd(l, &netlink.Addr{IPNet: ipNet(netip.MustParsePrefix(addr)), Flags: flags | unix.IFA_F_NODAD, ValidLft: valid, PreferedLft: preferred}))
		}
		// The kernel lists the youngest first.
		add6(in, "fe80::1/64", 0, 0, 0)
		add6(in, "fd00:1::1/64", 0, 0, 0)
		add6(in, "fd00:1::2/64", 0, 3600, 1800) // from a lease
		add6(in, "fd00:1::3/64", 0, 3600, 1800)
		add6(in, "fd00:1::4/64", 0, 3600, 0) // deprecated
		add6(local, "fe80::77/64", 0, 0, 0)
		add6(out, "fe80::2/64", 0, 0, 0)
		add6(out, "2001:db8::1/64", 0, 0, 0)
		addDefault(t, out, "192.0.2.254", 100)
		for _, tt := range tests {
			up, err := FindUplink(tt.choice)
			if err != nil {
				t.Errorf("%s: %v", tt.name, err)
			} else if got := fmt.Sprintf("%s %s %s", up.Name, up.Addr, up.Addr6); got != tt.want {
				t.Errorf("%s: got %s, want %s", tt.name, got, tt.want)
			}
		}
	})
}

func TestPreferred6(t *testing.T) {
	addr := func(a string, scope, flags int) netlink.Addr {
		return netlink.Addr{IPNet: ipNet(netip.MustParsePrefix(a + "/64")), Scope: scope, Flags: flags}
	}
	const link = 253
	got := preferred([]netlink.Addr{
		addr("fe80::1", link, unix.IFA_F_PERMANENT),
		addr("2001:db8::5", 0, unix.IFA_F_TEMPORARY),
		addr("2001:db8::4", 0, unix.IFA_F_PERMANENT|unix.IFA_F_TENTATIVE|unix.IFA_F_DADFAILED),
		addr("2001:db8::3", 0, 0),
		addr("2001:db8::2", 0, unix.IFA_F_PERMANENT|unix.IFA_F_TENTATIVE),
		addr("2001:db8::1", 0, unix.IFA_F_PERMANENT),
		addr("2001:db8::6", 0, unix.IFA_F_PERMANENT|unix.IFA_F_DEPRECATED),
		{IPNet: ipNet(netip.MustParsePrefix("192.0.2.1/24"))},
	}, netlink.FAMILY_V6)
	if want := "[2001:db8::1 2001:db8::2 2001:db8::3 fe80::1]"; fmt.Sprint(got) != want {
		t.Errorf("got %v, want %s", got, want)
	}
}

func TestLocal6(t *testing.T) {
	for addr, want := range map[string]string{"fe80::1": "fe80::1%eth0", "2001:db8::1": "2001:db8::1"} {
		if got := (Uplink{Name: "eth0", Addr6: netip.MustParseAddr(addr)}).Local6().String(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestCheckFreePort6(t *testing.T) {
	six := netip.MustParseAddr("fd00::1")
	tests := []struct {
		name  string
		setup func(t *testing.T)
		local netip.Addr
		want  string
	}{
		{"free", func(*testing.T) {}, six, ""},
		{"a link-local address", func(*testing.T) {}, netip.MustParseAddr("fe80::1%in0"), ""},
		{"the IPv4 half's port", func(t *testing.T) { listen(t, "10.1.0.1:8472") }, six, ""},
		{"an IPv4 kernel vxlan device", func(t *testing.T) { addVXLAN(t, "vx9", 8472) }, six, ""},
		{"an IPv6 kernel vxlan device", func(t *testing.T) { addVXLAN6(t, "vx9", 8472) }, six, "taken by the kernel vxlan device vx9"},
		{"an IPv6 kernel vxlan device, asked for IPv4", func(t *testing.T) { addVXLAN6(t, "vx9", 8472) }, netip.MustParseAddr("10.1.0.1"), ""},
		{"process on the address", func(t *testing.T) { listen(t, "[fd00::1]:8472") }, six, fmt.Sprintf("(pid %d)", os.Getpid())},
		{"process on all addresses", func(t *testing.T) { listen(t, "[::]:8472") }, six, fmt.Sprintf("(pid %d)", os.Getpid())},
		{"address of another host", func(*testing.T) {}, netip.MustParseAddr("2001:db8::99"), "2001:db8::99 is not on this host"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inNamespace(t, func() {
				in := addInterface(t, "in0", "10.1.0.1/24")
				for _, a := range []string{"fd00::1/64", "fe80::1/64"} {
					must(t, netlink.AddrAdd(in, &netlink.Addr{IPNet: ipNet(netip.MustParsePrefix(a)), Flags: unix.IFA_F_NODAD}))
				}
				tt.setup(t)
				checkError(t, CheckFree(device6, 8472, tt.local), tt.want)
			})
		})
	}
}

// An address that is new is waited for until nobody else turns out to have it.
func TestAwaitAddress(t *testing.T) {
	inNamespace(t, func() {
		a := addLink(t, &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "a0"}, PeerName: "b0"})
		b, err := netlink.LinkByName("b0")
		must(t, err)
		must(t, netlink.LinkSetUp(b))
		must(t, netlink.LinkSetUp(a))
		must(t, netlink.AddrAdd(a, &netlink.Addr{IPNet: ipNet(netip.MustParsePrefix("fd00::1/64"))}))
		addr := netip.MustParseAddr("fd00::1")
		if isTentative(addr) {
			checkError(t, CheckFree(device6, 8472, addr), "cannot be used yet")
			ended, cancel := context.WithCancel(t.Context())
			cancel()
			AwaitAddress(ended, addr)
		}
		clock := stall.Start()
		AwaitAddress(t.Context(), addr)
		checkError(t, CheckFree(device6, 8472, addr), "")
		if took := clock.Took(); took > duplicateWait {
			t.Errorf("took %s", took)
		}
		up, err := FindUplink(Choice{Names: []string{"a0"}})
		if err == nil {
			t.Errorf("got %v without an IPv4 address", up)
		}
	})
}

func TestCheckSubnetRoute6(t *testing.T) {
	inNamespace(t, func() {
		in := addInterface(t, "in0", "fd00::1/64")
		subnet := netip.MustParsePrefix("fd00:5:0:72::/64")
		checkError(t, CheckSubnetRoute(subnet), "")
		must(t, netlink.RouteAdd(&netlink.Route{LinkIndex: in.Attrs().Index, Dst: ipNet(subnet), Gw: net.ParseIP("fd00::254")}))
		checkError(t, CheckSubnetRoute(subnet), "away via fd00::254")
	})
}

// addVXLAN6 makes a kernel vxlan device over IPv6.
func addVXLAN6(t *testing.T, name string, port int) {
	t.Helper()
	l := addLink(t, &netlink.Vxlan{LinkAttrs: netlink.LinkAttrs{Name: name}, VxlanId: 1, Port: port, SrcAddr: net.ParseIP("fd00::1")})
	must(t, netlink.LinkSetUp(l))
}
