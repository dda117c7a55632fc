// SPDX-License-Identifier: Apache-2.0

package host

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"vxtap/encap/ether"
)

func plan(device, subnet string) Plan {
	return Plan{
		Device:    device,
		MAC:       ether.MAC{0x02, 0, 0, 0, 0, 1},
		MTU:       1450,
		Addr:      netip.PrefixFrom(netip.MustParsePrefix(subnet).Addr(), 32),
		Network:   netip.MustParsePrefix("10.5.0.0/16"),
		RouterMAC: ether.MAC{0x02, 0, 0, 0, 0, 2},
	}
}

// apply returns what had to be set.
func apply(t *testing.T, p Plan) []string {
	t.Helper()
	changed, err := Apply(p)
	must(t, err)
	return changed
}

// state is what Apply is to leave in the kernel, as text.
func state(t *testing.T, device string) []string {
	t.Helper()
	l, err := netlink.LinkByName(device)
	must(t, err)
	a := l.Attrs()
	all := []string{fmt.Sprintf("link %s mtu %d qlen %d up %v", a.HardwareAddr, a.MTU, a.TxQLen, a.Flags&net.FlagUp != 0)}
	addrs, err := netlink.AddrList(l, netlink.FAMILY_V4)
	must(t, err)
	for _, x := range addrs {
		all = append(all, fmt.Sprintf("address %s scope %d", x.IPNet, x.Scope))
	}
	routes, err := netlink.RouteList(l, netlink.FAMILY_V4)
	must(t, err)
	for _, r := range routes {
		all = append(all, fmt.Sprintf("route %s via %s src %s onlink %v", r.Dst, r.Gw, r.Src, r.Flags&unix.RTNH_F_ONLINK != 0))
	}
	neighs, err := netlink.NeighList(a.Index, netlink.FAMILY_V4)
	must(t, err)
	for _, n := range neighs {
		if n.State&netlink.NUD_NOARP == 0 {
			all = append(all, fmt.Sprintf("neighbour %s %s permanent %v", n.IP, n.HardwareAddr, n.State == netlink.NUD_PERMANENT))
		}
	}
	return all
}

// rootQdisc returns the kind of the device's queueing discipline. The kernel
// lists none for noqueue.
func rootQdisc(t *testing.T, device string) string {
	t.Helper()
	l, err := netlink.LinkByName(device)
	must(t, err)
	qdiscs, err := netlink.QdiscList(l)
	must(t, err)
	for _, q := range qdiscs {
		if q.Attrs().Parent == netlink.HANDLE_ROOT {
			return q.Type()
		}
	}
	return "noqueue"
}

func TestApply(t *testing.T) {
	inNamespace(t, func() {
		addTAP(t, "flannel.1")
		apply(t, plan("flannel.1", "10.5.72.0/24"))
		want := []string{
			"link 02:00:00:00:00:01 mtu 1450 qlen 4096 up true",
			"address 10.5.72.0/32 scope 0",
			"route 10.5.0.0/16 via 169.254.84.72 src 10.5.72.0 onlink true",
			"neighbour 169.254.84.72 02:00:00:00:00:02 permanent true",
		}
		if diff := cmp.Diff(want, state(t, "flannel.1")); diff != "" {
			t.Errorf("after Apply (-want +got):\n%s", diff)
		}
		if kind := rootQdisc(t, "flannel.1"); kind != "noqueue" {
			t.Errorf("queueing discipline %q, want noqueue", kind)
		}
		if ra, err := os.ReadFile("/proc/thread-self/root/proc/sys/net/ipv6/conf/flannel.1/accept_ra"); err == nil && string(ra) != "0\n" {
			t.Errorf("got accept_ra %q, want 0", ra)
		}
	})
}

func TestApplyAgain(t *testing.T) {
	inNamespace(t, func() {
		link := addTAP(t, "flannel.1")
		foreign, err := netlink.ParseAddr("198.51.100.1/32")
		must(t, err)
		apply(t, plan("flannel.1", "10.5.72.0/24"))
		must(t, netlink.AddrAdd(link, foreign))
		apply(t, plan("flannel.1", "10.5.72.0/24"))
		apply(t, plan("flannel.1", "10.5.9.0/24"))
		want := []string{
			"link 02:00:00:00:00:01 mtu 1450 qlen 4096 up true",
			"address 198.51.100.1/32 scope 0",
			"address 10.5.9.0/32 scope 0",
			"route 10.5.0.0/16 via 169.254.84.72 src 10.5.9.0 onlink true",
			"neighbour 169.254.84.72 02:00:00:00:00:02 permanent true",
		}
		if diff := cmp.Diff(want, state(t, "flannel.1")); diff != "" {
			t.Errorf("after the subnet changed (-want +got):\n%s", diff)
		}
	})
}

// Whatever somebody takes away is set again, that and nothing else; what holds is
// not touched, so that nobody hears of it, and what others have put there stays.
func TestApplyMends(t *testing.T) {
	tests := []struct {
		name string
		do   func(t *testing.T, l netlink.Link)
		want []string
	}{
		{"nothing", func(*testing.T, netlink.Link) {}, nil},
		{"the route deleted", func(t *testing.T, l netlink.Link) {
			must(t, netlink.RouteDel(aggregateRoute(plan("flannel.1", "10.5.72.0/24"), l)))
		}, []string{"the route"}},
		{"the route replaced", func(t *testing.T, l netlink.Link) {
			r := aggregateRoute(plan("flannel.1", "10.5.72.0/24"), l)
			r.Src, r.Gw, r.Flags, r.Scope = nil, nil, 0, netlink.SCOPE_LINK
			must(t, netlink.RouteReplace(r))
		}, []string{"the route"}},
		{"the neighbour deleted", func(t *testing.T, l netlink.Link) {
			must(t, netlink.NeighDel(routerNeighbour(plan("flannel.1", "10.5.72.0/24"), l)))
		}, []string{"the gateway's neighbour"}},
		{"the neighbour changed", func(t *testing.T, l netlink.Link) {
			n := routerNeighbour(plan("flannel.1", "10.5.72.0/24"), l)
			n.HardwareAddr = net.HardwareAddr{2, 9, 9, 9, 9, 9}
			must(t, netlink.NeighSet(n))
		}, []string{"the gateway's neighbour"}},
		{"the address deleted", func(t *testing.T, l netlink.Link) {
			must(t, netlink.AddrDel(l, &netlink.Addr{IPNet: ipNet(netip.MustParsePrefix("10.5.72.0/32"))}))
		}, []string{"the address", "the gateway's neighbour", "the route"}},
		{"an address of another subnet", func(t *testing.T, l netlink.Link) {
			must(t, netlink.AddrAdd(l, &netlink.Addr{IPNet: ipNet(netip.MustParsePrefix("10.5.9.0/32"))}))
		}, []string{"the addresses of other subnets"}},
		{"taken down", func(t *testing.T, l netlink.Link) { must(t, netlink.LinkSetDown(l)) }, []string{"the link state", "the gateway's neighbour", "the route"}},
		{"another MTU", func(t *testing.T, l netlink.Link) { must(t, netlink.LinkSetMTU(l, 1400)) }, []string{"the MTU"}},
		{"another MAC", func(t *testing.T, l netlink.Link) {
			must(t, netlink.LinkSetHardwareAddr(l, net.HardwareAddr{2, 9, 9, 9, 9, 9}))
		}, []string{"the MAC", "the gateway's neighbour"}},
		{"another queue length", func(t *testing.T, l netlink.Link) { must(t, netlink.LinkSetTxQLen(l, 10)) }, []string{"the queue length"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inNamespace(t, func() {
				lendTAP(t, "flannel.1")
				p := plan("flannel.1", "10.5.72.0/24")
				apply(t, p)
				link, err := netlink.LinkByName("flannel.1")
				must(t, err)
				must(t, netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: ipNet(netip.MustParsePrefix("198.51.100.0/24")), Scope: netlink.SCOPE_LINK}))
				must(t, netlink.NeighAdd(&netlink.Neigh{LinkIndex: link.Attrs().Index, State: netlink.NUD_PERMANENT, IP: net.IPv4(198, 51, 100, 1), HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 9}}))
				before := state(t, "flannel.1")
				tt.do(t, link)
				if diff := cmp.Diff(tt.want, apply(t, p)); diff != "" {
					t.Errorf("what was set (-want +got):\n%s", diff)
				}
				// The kernel itself takes all neighbours away, and mostly all routes,
				// with the state up, with the last address and with the MAC.
				if len(tt.want) < 2 {
					if diff := cmp.Diff(before, state(t, "flannel.1"), cmpopts.SortSlices(func(a, b string) bool { return a < b })); diff != "" {
						t.Errorf("afterwards (-want +got):\n%s", diff)
					}
				}
				if kind := rootQdisc(t, "flannel.1"); kind != "noqueue" {
					t.Errorf("queueing discipline %q, want noqueue", kind)
				}
				if again := apply(t, p); again != nil {
					t.Errorf("set a second time: %v", again)
				}
			})
		})
	}
}

func TestApplyRefusesToTakeOverARoute(t *testing.T) {
	tests := []struct {
		name  string
		other netlink.Route
		want  string
	}{
		{"of another device", netlink.Route{}, "on device other0: if nobody needs it: ip route del 10.5.0.0/16 dev other0"},
		{"of another device with a metric", netlink.Route{Priority: 100}, "on device other0"},
		{"of no device", netlink.Route{Type: unix.RTN_BLACKHOLE}, "on no device: if nobody needs it: ip route del 10.5.0.0/16"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inNamespace(t, func() {
				other := addInterface(t, "other0")
				tt.other.Dst = &net.IPNet{IP: net.IPv4(10, 5, 0, 0), Mask: net.CIDRMask(16, 32)}
				if tt.other.Type == 0 {
					tt.other.LinkIndex = other.Attrs().Index
				}
				must(t, netlink.RouteAdd(&tt.other))
				addTAP(t, "flannel.1")
				before := state(t, "flannel.1")
				_, err := Apply(plan("flannel.1", "10.5.72.0/24"))
				if err == nil || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("got error %v, want %q", err, tt.want)
				}
				if diff := cmp.Diff(before, state(t, "flannel.1")); diff != "" {
					t.Errorf("the device was changed all the same (-want +got):\n%s", diff)
				}
			})
		})
	}
}

func TestApplyWithoutDevice(t *testing.T) {
	inNamespace(t, func() {
		if _, err := Apply(plan("flannel.1", "10.5.72.0/24")); err == nil || !strings.Contains(err.Error(), "flannel.1") {
			t.Errorf("got error %v, want one that names flannel.1", err)
		}
	})
}

// Apply leads the host's own datagrams into the TAP; nobody reads them there,
// so that its queue fills and the rest is dropped and counted.
func TestTXDroppedCountsFullQueue(t *testing.T) {
	inNamespace(t, func() {
		openTAP(t, "flannel.1")
		apply(t, plan("flannel.1", "10.5.72.0/24"))
		link, err := netlink.LinkByName("flannel.1")
		must(t, err)
		must(t, netlink.LinkSetTxQLen(link, 4))
		before, err := TXDropped("flannel.1")
		must(t, err)
		conn, err := net.Dial("udp", "10.5.9.1:9")
		must(t, err)
		defer conn.Close()
		if got := conn.LocalAddr().(*net.UDPAddr).IP.String(); got != "10.5.72.0" {
			t.Errorf("got source address %s of the host's own traffic, want 10.5.72.0", got)
		}
		for range 100 {
			_, err := conn.Write([]byte("x"))
			must(t, err)
		}
		after, err := TXDropped("flannel.1")
		must(t, err)
		if after-before < 90 {
			t.Errorf("got %d drops of 100 frames into a queue of 4, want about 96", after-before)
		}
	})
}

func TestTXDroppedOfNoDevice(t *testing.T) {
	inNamespace(t, func() {
		if _, err := TXDropped("none0"); err == nil || !strings.Contains(err.Error(), "none0") {
			t.Errorf("got error %v, want one that names none0", err)
		}
	})
}
