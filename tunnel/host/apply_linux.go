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

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// txQueueLen is how many frames the TAP holds for us. When it is full the
// kernel drops at once, with no back pressure on the sender, so the default of
// 1000 loses frames whenever we are off the processor for a few milliseconds.
// Much more would be delay: 4096 frames of 1500 bytes are 5 ms at 10 Gb/s.
const txQueueLen = 4096

// Apply makes the device, its address, the aggregate route and the router's
// neighbour entry be as p says. The device must exist. Applied again with
// another Addr, it moves what the first call set up; addresses outside
// p.Network that somebody else put on the device stay.
//
// The order is such that no frame leaves with a wrong source: MAC and
// settings before the device is up, the new address before the route that
// names it, the old address last.
func Apply(p Plan) error {
	if p.Log == nil {
		p.Log = slog.New(slog.DiscardHandler)
	}
	link, err := netlink.LinkByName(p.Device)
	if err != nil {
		return fmt.Errorf("look for device %s: %w", p.Device, err)
	}
	if err := checkRoute(p, link.Attrs().Index); err != nil {
		return err
	}
	if err := setLink(p, link); err != nil {
		return fmt.Errorf("set up device %s: %w", p.Device, err)
	}
	refuseRouterAdvertisements(p)

	addr := ipNet(p.Addr)
	if err := netlink.AddrReplace(link, &netlink.Addr{IPNet: addr}); err != nil {
		return fmt.Errorf("set address %s on %s: %w", p.Addr, p.Device, err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("bring %s up: %w", p.Device, err)
	}
	dropQueueingDiscipline(p, link)
	if err := netlink.NeighSet(routerNeighbour(p, link)); err != nil {
		return fmt.Errorf("set neighbour %s on %s: %w", Gateway, p.Device, err)
	}
	if err := netlink.RouteReplace(aggregateRoute(p, link)); err != nil {
		return fmt.Errorf("set route %s via %s on %s: %w", p.Network, Gateway, p.Device, err)
	}
	return removeOtherAddrs(p, link)
}

// checkRoute refuses to take over another device's route for the overlay,
// which RouteReplace would do without a word.
func checkRoute(p Plan, index int) error {
	routes, err := dump(func() ([]netlink.Route, error) {
		return netlink.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Dst: ipNet(p.Network)}, netlink.RT_FILTER_DST)
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

func setLink(p Plan, link netlink.Link) error {
	if mac := net.HardwareAddr(p.MAC[:]); !bytes.Equal(link.Attrs().HardwareAddr, mac) {
		if err := netlink.LinkSetHardwareAddr(link, mac); err != nil {
			return fmt.Errorf("set MAC %s: %w", p.MAC, err)
		}
	}
	if err := netlink.LinkSetMTU(link, p.MTU); err != nil {
		return fmt.Errorf("set MTU %d: %w", p.MTU, err)
	}
	if err := netlink.LinkSetTxQLen(link, txQueueLen); err != nil {
		return fmt.Errorf("set queue length %d: %w", txQueueLen, err)
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

// refuseRouterAdvertisements keeps the host from taking an IPv6 address and
// default route from whatever a peer sends, as flannel does. Containers often
// have /proc/sys read-only; the switch drops IPv6 frames anyway, so that is
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
		Family:       netlink.FAMILY_V4,
		State:        netlink.NUD_PERMANENT,
		IP:           Gateway.AsSlice(),
		HardwareAddr: p.RouterMAC[:],
	}
}

func aggregateRoute(p Plan, link netlink.Link) *netlink.Route {
	return &netlink.Route{
		LinkIndex: link.Attrs().Index,
		Dst:       ipNet(p.Network),
		Gw:        Gateway.AsSlice(),
		Src:       p.Addr.Addr().AsSlice(),
		Flags:     int(netlink.FLAG_ONLINK), // no route leads to the gateway
	}
}

// removeOtherAddrs takes the addresses of earlier subnets off the device; as
// sources they would earn answers that go to the subnet's next owner.
func removeOtherAddrs(p Plan, link netlink.Link) error {
	addrs, err := dump(func() ([]netlink.Addr, error) { return netlink.AddrList(link, netlink.FAMILY_V4) })
	if err != nil {
		return fmt.Errorf("list addresses of %s: %w", p.Device, err)
	}
	for _, a := range addrs {
		ip, ok := netip.AddrFromSlice(a.IP.To4())
		if !ok || !p.Network.Contains(ip) || ip == p.Addr.Addr() {
			continue
		}
		if err := netlink.AddrDel(link, &a); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
			return fmt.Errorf("remove address %s from %s: %w", ip, p.Device, err)
		}
	}
	return nil
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
