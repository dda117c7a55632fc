// SPDX-License-Identifier: Apache-2.0

package host

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// txQueueLen is how many frames the TAP holds for us. When it is full the
// kernel drops at once, with no back pressure on the sender, so the default of
// 1000 loses frames whenever we are off the processor for a few milliseconds.
// Much more would be delay: 4096 frames of 1500 bytes are 5 ms at 10 Gb/s.
const txQueueLen = 4096

// Apply makes the device, its address, the aggregate route and the router's
// neighbour entry be as p says, and returns the names of what was not: what
// holds already is not touched, and nobody is told of a change that is none. The
// device must exist. Applied again with another Addr, it moves what the first
// call set up; addresses outside p.Network that somebody else put on the device
// stay, and so do all other routes and neighbours.
//
// The order is such that no frame leaves with a wrong source: MAC and
// settings before the device is up, the new address before the route that
// names it, the old address last.
func Apply(p Plan) (changed []string, err error) {
	if p.Log == nil {
		p.Log = slog.New(slog.DiscardHandler)
	}
	if err := p.check(); err != nil {
		return nil, err
	}
	if p.isIPv6() {
		if err := CheckIPv6(); err != nil {
			return nil, err
		}
	}
	link, renamed, err := p.link()
	if err != nil {
		return nil, err
	}
	if renamed {
		changed = append(changed, "the name")
	}
	for _, s := range steps(p, link) {
		holds, err := s.holds()
		if err != nil {
			return changed, err
		}
		if holds {
			continue
		}
		if err := s.set(); err != nil {
			return changed, fmt.Errorf("set %s of %s: %w", s.what, p.Device, err)
		}
		if !s.spare {
			changed = append(changed, s.what)
		}
	}
	return changed, nil
}

// step is one thing that a Plan asks of the kernel.
type step struct {
	what  string
	holds func() (bool, error)
	set   func() error
	spare bool // it may fail, again and again, and that is no news

	aggregate bool // it is of the one route for all peers
}

func steps(p Plan, link netlink.Link) []step {
	steps := deviceSteps(p, link)
	if p.PerPeer {
		steps = slices.DeleteFunc(steps, func(s step) bool { return s.aggregate })
	}
	return append(steps, blackholeSteps(p)...)
}

func deviceSteps(p Plan, link netlink.Link) []step {
	a := link.Attrs()
	mac := net.HardwareAddr(p.MAC[:])
	know := func(holds bool) func() (bool, error) { return func() (bool, error) { return holds, nil } }
	up := a.RawFlags&unix.IFF_UP != 0
	return []step{
		{what: "nobody else's route", aggregate: true, holds: func() (bool, error) { return true, checkRoute(p, a.Index) }},
		{what: "the MAC", holds: know(bytes.Equal(a.HardwareAddr, mac)), set: func() error { return netlink.LinkSetHardwareAddr(link, mac) }},
		{what: "the MTU", holds: know(a.MTU == p.MTU), set: func() error { return netlink.LinkSetMTU(link, p.MTU) }},
		{what: "the queue length", holds: know(a.TxQLen == txQueueLen), set: func() error { return netlink.LinkSetTxQLen(link, txQueueLen) }},
		{what: "accept_ra", holds: know(refusesRouterAdvertisements(p.Device)), set: func() error { refuseRouterAdvertisements(p); return nil }, spare: true},
		{what: "IPv6", holds: func() (bool, error) { return !p.isIPv6() || takesIPv6(p.Device), nil }, set: func() error { return allowIPv6(p.Device) }},
		{what: "the address", holds: func() (bool, error) { return hasAddress(p, link) }, set: func() error {
			return netlink.AddrReplace(link, ownAddress(p))
		}},
		{what: "the link state", holds: know(up), set: func() error { return netlink.LinkSetUp(link) }},
		{what: "the queueing discipline", holds: know(up && isWithoutQueue(link)), set: func() error { dropQueueingDiscipline(p, link); return nil }, spare: true},
		{what: "the gateway's neighbour", aggregate: true, holds: func() (bool, error) { return hasNeighbour(routerNeighbour(p, link)) }, set: func() error {
			return netlink.NeighSet(routerNeighbour(p, link))
		}},
		{what: "the route", aggregate: true, holds: func() (bool, error) { return hasRoute(aggregateRoute(p, link)) }, set: func() error {
			return netlink.RouteReplace(aggregateRoute(p, link))
		}},
		{what: "the addresses of other subnets", holds: func() (bool, error) {
			others, err := otherAddrs(p, link)
			return len(others) == 0, err
		}, set: func() error { return removeOtherAddrs(p, link) }},
	}
}

// ownAddress is the device's. Of an IPv6 one nobody is asked for a duplicate: no
// answer could come, and the kernel would not use the address before it had
// waited for one.
func ownAddress(p Plan) *netlink.Addr {
	a := &netlink.Addr{IPNet: ipNet(p.Addr)}
	if p.isIPv6() {
		a.Flags = unix.IFA_F_NODAD
	}
	return a
}

func hasAddress(p Plan, link netlink.Link) (bool, error) {
	addrs, err := dump(func() ([]netlink.Addr, error) { return netlink.AddrList(link, p.family()) })
	if err != nil {
		return false, fmt.Errorf("list addresses of %s: %w", p.Device, err)
	}
	want := ipNet(p.Addr).String()
	return slices.ContainsFunc(addrs, func(a netlink.Addr) bool { return a.IPNet.String() == want }), nil
}

func hasNeighbour(want *netlink.Neigh) (bool, error) {
	all, err := dump(func() ([]netlink.Neigh, error) { return netlink.NeighList(want.LinkIndex, want.Family) })
	if err != nil {
		return false, fmt.Errorf("list neighbours: %w", err)
	}
	return slices.ContainsFunc(all, func(n netlink.Neigh) bool {
		return n.IP.Equal(want.IP) && n.State == want.State && bytes.Equal(n.HardwareAddr, want.HardwareAddr)
	}), nil
}

func hasRoute(want *netlink.Route) (bool, error) {
	routes, err := dump(func() ([]netlink.Route, error) {
		return netlink.RouteListFiltered(want.Family, want, netlink.RT_FILTER_OIF|netlink.RT_FILTER_DST)
	})
	if err != nil {
		return false, fmt.Errorf("list routes: %w", err)
	}
	return slices.ContainsFunc(routes, func(r netlink.Route) bool {
		return r.Gw.Equal(want.Gw) && r.Src.Equal(want.Src) && r.Flags&want.Flags == want.Flags && r.Priority == want.Priority
	}), nil
}

// checkRoute refuses to take over another device's route for the overlay,
// which RouteReplace would do without a word.
func checkRoute(p Plan, index int) error {
	routes, err := dump(func() ([]netlink.Route, error) {
		return netlink.RouteListFiltered(p.family(), &netlink.Route{Dst: ipNet(p.Network)}, netlink.RT_FILTER_DST)
	})
	if err != nil {
		return fmt.Errorf("list routes: %w", err)
	}
	for _, r := range routes {
		if r.LinkIndex == index {
			continue
		}
		if other, err := netlink.LinkByIndex(r.LinkIndex); err == nil {
			name := other.Attrs().Name
			return fmt.Errorf("route %s is there already, on device %s: if nobody needs it: ip route del %s dev %s",
				p.Network, name, p.Network, name)
		}
		return fmt.Errorf("route %s is there already, on no device: if nobody needs it: ip route del %s", p.Network, p.Network)
	}
	return nil
}

// dropQueueingDiscipline takes the queue before the TAP's own away: a TAP never
// says that it is full, so that nothing is ever queued there, and each frame
// pays for its locks. Best effort: it is speed and nothing else, and a kernel
// without noqueue keeps what it has.
func dropQueueingDiscipline(p Plan, link netlink.Link) {
	err := netlink.QdiscReplace(&netlink.GenericQdisc{
		QdiscAttrs: netlink.QdiscAttrs{LinkIndex: link.Attrs().Index, Parent: netlink.HANDLE_ROOT},
		QdiscType:  "noqueue",
	})
	if err != nil {
		p.Log.Debug("the device keeps its queueing discipline", "device", p.Device, "error", err)
	}
}

// isWithoutQueue is true as well where that cannot be known. The kernel lists no
// queueing discipline for noqueue.
func isWithoutQueue(link netlink.Link) bool {
	all, err := dump(func() ([]netlink.Qdisc, error) { return netlink.QdiscList(link) })
	return err != nil || !slices.ContainsFunc(all, func(q netlink.Qdisc) bool { return q.Attrs().Parent == netlink.HANDLE_ROOT })
}

// refusesRouterAdvertisements is true as well where there is no IPv6, or no such
// file to be read.
func refusesRouterAdvertisements(device string) bool {
	b, err := os.ReadFile(filepath.Join("/proc/sys/net/ipv6/conf", device, "accept_ra"))
	return err != nil || strings.TrimSpace(string(b)) == "0"
}

// refuseRouterAdvertisements keeps the host from taking an IPv6 address and
// default route from whatever a peer sends, as flannel does. Containers often
// have /proc/sys read-only; the switch drops such frames anyway, so that is
// worth a note and no more.
func refuseRouterAdvertisements(p Plan) {
	path := filepath.Join("/proc/sys/net/ipv6/conf", p.Device, "accept_ra")
	err := os.WriteFile(path, []byte("0"), 0)
	if err == nil || errors.Is(err, fs.ErrNotExist) { // no such file: no IPv6
		return
	}
	p.Log.Info("router advertisements stay accepted", "device", p.Device, "error", err)
}

func routerNeighbour(p Plan, link netlink.Link) *netlink.Neigh {
	return &netlink.Neigh{
		LinkIndex:    link.Attrs().Index,
		Family:       p.family(),
		State:        netlink.NUD_PERMANENT,
		IP:           p.gateway().AsSlice(),
		HardwareAddr: p.RouterMAC[:],
	}
}

func aggregateRoute(p Plan, link netlink.Link) *netlink.Route {
	r := &netlink.Route{
		LinkIndex: link.Attrs().Index,
		Family:    p.family(),
		Dst:       ipNet(p.Network),
		Gw:        p.gateway().AsSlice(),
		Src:       p.Addr.Addr().AsSlice(),
		Flags:     int(netlink.FLAG_ONLINK), // no route leads to the gateway
	}
	if p.isIPv6() {
		r.Priority = userMetric
	}
	return r
}

// removeOtherAddrs takes the addresses of earlier subnets off the device; as
// sources they would earn answers that go to the subnet's next owner.
func removeOtherAddrs(p Plan, link netlink.Link) error {
	others, err := otherAddrs(p, link)
	for _, a := range others {
		if err := netlink.AddrDel(link, &a); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
			return fmt.Errorf("remove address %s: %w", a.IPNet, err)
		}
	}
	return err
}

// otherAddrs returns the device's addresses in the overlay that are not ours.
func otherAddrs(p Plan, link netlink.Link) ([]netlink.Addr, error) {
	addrs, err := dump(func() ([]netlink.Addr, error) { return netlink.AddrList(link, p.family()) })
	if err != nil {
		return nil, fmt.Errorf("list addresses of %s: %w", p.Device, err)
	}
	want := ipNet(p.Addr).String()
	return slices.DeleteFunc(addrs, func(a netlink.Addr) bool {
		ip, ok := addrOf(a.IP, p.family())
		return !ok || !p.Network.Contains(ip) || a.IPNet.String() == want
	}), nil
}

// TXDropped returns how many frames the kernel had for the device and dropped,
// since the device was made: of a TAP, mostly those that found its queue full.
func TXDropped(device string) (uint64, error) {
	link, err := netlink.LinkByName(device)
	if err != nil {
		return 0, fmt.Errorf("look for device %s: %w", device, err)
	}
	s := link.Attrs().Statistics
	if s == nil {
		return 0, fmt.Errorf("the kernel has no statistics of device %s", device)
	}
	return s.TxDropped, nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
