// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"vxtap/encap/ether"
)

// with calls f with a netlink handle of the namespace and names the operation
// in its error.
func (n *Namespace) with(f func(*netlink.Handle) error, format string, args ...any) error {
	var h *netlink.Handle
	err := n.Do(func() (err error) {
		h, err = netlink.NewHandle(unix.NETLINK_ROUTE)
		return err
	})
	if err == nil {
		defer h.Close()
		err = f(h)
	}
	if err != nil {
		return fmt.Errorf("%s in %s: %w", fmt.Sprintf(format, args...), n.name, err)
	}
	return nil
}

// onLink is with for one device.
func (n *Namespace) onLink(device string, f func(*netlink.Handle, netlink.Link) error, format string, args ...any) error {
	return n.with(func(h *netlink.Handle) error {
		link, err := h.LinkByName(device)
		if err != nil {
			return err
		}
		return f(h, link)
	}, format, args...)
}

// AddVeth makes a veth pair, one end in a and one in b, with the same MTU in
// bytes (0: the kernel's 1500). Both ends are down: an address that is there
// before the link comes up is the only one that it ever shows.
func AddVeth(a *Namespace, nameA string, b *Namespace, nameB string, mtu int) error {
	return a.with(func(h *netlink.Handle) error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.MTU = nameA, mtu
		return b.withFD(func(fd int) error {
			return h.LinkAdd(&netlink.Veth{
				LinkAttrs: attrs, PeerName: nameB, PeerMTU: uint32(mtu), PeerNamespace: netlink.NsFd(fd),
			})
		})
	}, "add veth pair %s to %s of %s", nameA, nameB, b.name)
}

// AddBridge makes a bridge, without spanning tree and down. Its MTU in bytes is
// fixed, where one of 0 follows the ports. Its MAC address is fixed too: left to
// itself a bridge takes the lowest one of its ports (br_stp_recalculate_bridge_id),
// and when a port comes whose is lower, all who have the old one in their ARP
// tables lose it until that entry ages.
func (n *Namespace) AddBridge(name string, mtu int) error {
	return n.with(func(h *netlink.Handle) error {
		mac := ether.RandomMAC()
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.MTU, attrs.HardwareAddr = name, mtu, mac[:]
		return h.LinkAdd(&netlink.Bridge{LinkAttrs: attrs})
	}, "add bridge %s", name)
}

// Attach makes port a port of bridge.
func (n *Namespace) Attach(bridge, port string) error {
	return n.onLink(port, func(h *netlink.Handle, link netlink.Link) error {
		master, err := h.LinkByName(bridge)
		if err != nil {
			return err
		}
		return h.LinkSetMasterByIndex(link, master.Attrs().Index)
	}, "attach %s to bridge %s", port, bridge)
}

// DeleteLink deletes a device; one end of a veth pair takes the other with it.
func (n *Namespace) DeleteLink(device string) error {
	return n.onLink(device, func(h *netlink.Handle, link netlink.Link) error {
		return h.LinkDel(link)
	}, "delete %s", device)
}

// SetUp brings a device up.
func (n *Namespace) SetUp(device string) error {
	return n.onLink(device, func(h *netlink.Handle, link netlink.Link) error {
		return h.LinkSetUp(link)
	}, "set %s up", device)
}

// SetDown takes a device down; its routes go.
func (n *Namespace) SetDown(device string) error {
	return n.onLink(device, func(h *netlink.Handle, link netlink.Link) error {
		return h.LinkSetDown(link)
	}, "set %s down", device)
}

// SetMTU sets a device's MTU in bytes.
func (n *Namespace) SetMTU(device string, mtu int) error {
	return n.onLink(device, func(h *netlink.Handle, link netlink.Link) error {
		return h.LinkSetMTU(link, mtu)
	}, "set MTU of %s to %d", device, mtu)
}

// AddAddr gives a device an address; the prefix keeps its host bits, as in
// 192.0.2.7/24.
func (n *Namespace) AddAddr(device string, addr netip.Prefix) error {
	return n.onLink(device, func(h *netlink.Handle, link netlink.Link) error {
		a := &netlink.Addr{IPNet: ipNet(addr)}
		if addr.Addr().Is6() {
			a.Flags = unix.IFA_F_NODAD // nobody else has it, and it is needed at once
		}
		return h.AddrAdd(link, a)
	}, "add address %s to %s", addr, device)
}

// DeleteAddr takes one address from a device.
func (n *Namespace) DeleteAddr(device string, addr netip.Prefix) error {
	return n.onLink(device, func(h *netlink.Handle, link netlink.Link) error {
		return h.AddrDel(link, &netlink.Addr{IPNet: ipNet(addr)})
	}, "delete address %s of %s", addr, device)
}

// DeleteAddrs takes all IPv4 addresses from a device, and with them the routes
// that need them.
func (n *Namespace) DeleteAddrs(device string) error {
	return n.onLink(device, func(h *netlink.Handle, link netlink.Link) error {
		addrs, err := h.AddrList(link, netlink.FAMILY_V4)
		for i := range addrs {
			if err == nil {
				err = h.AddrDel(link, &addrs[i])
			}
		}
		return err
	}, "delete addresses of %s", device)
}

// Addrs returns the addresses of a device, IPv4 before IPv6, link-local ones
// without their zone.
func (n *Namespace) Addrs(device string) ([]netip.Addr, error) {
	var all []netip.Addr
	err := n.onLink(device, func(h *netlink.Handle, link netlink.Link) error {
		for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
			found, err := h.AddrList(link, family)
			if err != nil {
				return err
			}
			for _, x := range found {
				if a, ok := netip.AddrFromSlice(x.IP); ok {
					all = append(all, a.Unmap())
				}
			}
		}
		return nil
	}, "list addresses of %s", device)
	return all, err
}

// AddRoute adds a route through via; the zero Prefix is the default route.
func (n *Namespace) AddRoute(dst netip.Prefix, via netip.Addr) error {
	if !dst.IsValid() {
		dst = netip.PrefixFrom(netip.IPv4Unspecified(), 0)
		if via.Is6() {
			dst = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
		}
	}
	return n.with(func(h *netlink.Handle) error {
		return h.RouteAdd(&netlink.Route{Dst: ipNet(dst), Gw: via.AsSlice()})
	}, "add route to %s via %s", dst, via)
}

// Interface returns what net.InterfaceByName says inside the namespace.
func (n *Namespace) Interface(device string) (*net.Interface, error) {
	var found *net.Interface
	err := n.Do(func() (err error) {
		found, err = net.InterfaceByName(device)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("look up %s in %s: %w", device, n.name, err)
	}
	return found, nil
}

// SetSysctl writes one setting below net, as in "net.ipv4.ip_forward" or
// "net/ipv4/conf/eth0.5/rp_filter" (the form with slashes is for devices with a
// dot in their name, as in sysctl(8)).
func (n *Namespace) SetSysctl(key, value string) error {
	if !strings.Contains(key, "/") {
		key = strings.ReplaceAll(key, ".", "/")
	}
	if file := filepath.Clean(key); file != key || !strings.HasPrefix(key, "net/") {
		return fmt.Errorf("setting %q is not one of a network namespace", key)
	}
	return n.Do(func() error {
		// /proc/sys/net shows the namespace of the thread that opens a file.
		if err := os.WriteFile(filepath.Join("/proc/sys", key), []byte(value), 0); err != nil {
			return fmt.Errorf("set in %s: %w", n.name, err)
		}
		return nil
	})
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
