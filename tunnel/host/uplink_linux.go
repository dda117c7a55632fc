// SPDX-License-Identifier: Apache-2.0

package host

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// FindUplink returns the interface that c describes. It must have an IPv4
// address.
func FindUplink(c Choice) (Uplink, error) {
	all, err := interfaces()
	if err != nil {
		return Uplink{}, err
	}
	i, err := choose(c, all)
	if err != nil {
		return Uplink{}, err
	}
	if len(i.addrs) == 0 {
		return Uplink{}, fmt.Errorf("interface %s has no IPv4 address: give it one, or choose another interface with -iface", i.name)
	}
	addr := i.addrs[0]
	if named, ok := i.namedAddr(c.Names); ok {
		addr = named
	}
	if slices.Contains(i.addrs, c.PublicIP) {
		addr = c.PublicIP // peers accept our datagrams from the address in our lease
	}
	return Uplink{Name: i.name, Index: i.index, MTU: i.mtu, Addr: addr, Addr6: i.addr6(c)}, nil
}

// iface is one interface with its addresses, of each family the one to prefer
// first.
type iface struct {
	name   string
	index  int
	mtu    int
	addrs  []netip.Addr // IPv4
	addrs6 []netip.Addr // IPv6, without zones
}

// namedAddr returns the first of names that is an IPv4 address of i.
func (i iface) namedAddr(names []string) (netip.Addr, bool) { return named(names, i.addrs) }

// addr6 returns the IPv6 address that our datagrams are to leave from, zero for
// none.
func (i iface) addr6(c Choice) netip.Addr {
	if slices.Contains(i.addrs6, c.PublicIPv6) {
		return c.PublicIPv6
	}
	if a, ok := named(c.Names, i.addrs6); ok {
		return a
	}
	if len(i.addrs6) == 0 {
		return netip.Addr{}
	}
	return i.addrs6[0]
}

// named returns the first of names that is one of addrs.
func named(names []string, addrs []netip.Addr) (netip.Addr, bool) {
	for _, n := range names {
		if a, err := netip.ParseAddr(n); err == nil && slices.Contains(addrs, a) {
			return a, true
		}
	}
	return netip.Addr{}, false
}

func (i iface) String() string {
	if len(i.addrs) == 0 {
		return i.name
	}
	return fmt.Sprintf("%s (%s)", i.name, i.addrs[0])
}

func choose(c Choice, all []iface) (iface, error) {
	switch {
	case len(c.Names) > 0:
		return byName(c.Names, all)
	case len(c.Patterns) > 0:
		return byPattern(c, all)
	case c.CanReach.IsValid():
		return towards(c.CanReach, all)
	}
	if c.PublicIP.IsValid() {
		if i, ok := withAddr(c.PublicIP, all); ok {
			return i, nil
		}
		// Behind NAT the public address is on no interface.
	}
	if c.PublicIPv6.IsValid() {
		if i, ok := withAddr(c.PublicIPv6, all); ok {
			return i, nil
		}
	}
	return byDefaultRoute(all)
}

func byName(names []string, all []iface) (iface, error) {
	for _, n := range names {
		if i, ok := find(all, func(i iface) bool { return i.name == n }); ok {
			return i, nil
		}
		if a, err := netip.ParseAddr(n); err == nil {
			if i, ok := withAddr(a, all); ok {
				return i, nil
			}
		}
	}
	return iface{}, fmt.Errorf("no interface has the name or address %s: this host has %s", strings.Join(names, " or "), list(all))
}

// byPattern tries each pattern on all IPv4 addresses before it tries it on the
// names, as flannel does.
func byPattern(c Choice, all []iface) (iface, error) {
	for _, p := range c.Patterns {
		matches := func(a netip.Addr) bool { return p.MatchString(a.String()) }
		if i, ok := find(all, func(i iface) bool { return slices.ContainsFunc(i.addrs, matches) }); ok {
			return i, nil
		}
		if i, ok := find(all, func(i iface) bool { return p.MatchString(i.name) }); ok {
			return i, nil
		}
	}
	for _, p := range c.Patterns {
		matches := func(a netip.Addr) bool { return p.MatchString(a.String()) }
		if i, ok := find(all, func(i iface) bool { return slices.ContainsFunc(i.addrs6, matches) }); ok {
			return i, nil
		}
	}
	return iface{}, fmt.Errorf("no interface matches -iface-regex %v: this host has %s", c.Patterns, list(all))
}

func towards(dst netip.Addr, all []iface) (iface, error) {
	routes, err := netlink.RouteGet(dst.AsSlice())
	if err != nil {
		return iface{}, fmt.Errorf("no route to -iface-can-reach %s: %w", dst, err)
	}
	for _, r := range routes {
		if i, ok := withIndex(r.LinkIndex, all); ok {
			return i, nil
		}
	}
	return iface{}, fmt.Errorf("no interface leads to -iface-can-reach %s: this host has %s", dst, list(all))
}

// byDefaultRoute takes the default route of the lowest metric; of several next
// hops the first, where flannel gives up.
func byDefaultRoute(all []iface) (iface, error) {
	routes, err := dump(func() ([]netlink.Route, error) {
		return netlink.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
	})
	if err != nil {
		return iface{}, fmt.Errorf("list routes: %w", err)
	}
	slices.SortStableFunc(routes, func(a, b netlink.Route) int { return a.Priority - b.Priority })
	for _, r := range routes {
		if r.Dst != nil && !(r.Dst.IP.IsUnspecified() && prefixLen(r.Dst) == 0) {
			continue
		}
		index := r.LinkIndex
		if len(r.MultiPath) > 0 {
			index = r.MultiPath[0].LinkIndex
		}
		if i, ok := withIndex(index, all); ok {
			return i, nil
		}
	}
	return iface{}, fmt.Errorf("this host has no default route to tell the outside interface: name it with -iface; there is %s", list(all))
}

func find(all []iface, is func(iface) bool) (iface, bool) {
	n := slices.IndexFunc(all, is)
	if n < 0 {
		return iface{}, false
	}
	return all[n], true
}

func withAddr(a netip.Addr, all []iface) (iface, bool) {
	return find(all, func(i iface) bool { return slices.Contains(i.addrs, a) || slices.Contains(i.addrs6, a) })
}

func withIndex(index int, all []iface) (iface, bool) {
	return find(all, func(i iface) bool { return i.index == index })
}

func list(all []iface) string {
	names := make([]string, len(all))
	for i, f := range all {
		names[i] = f.String()
	}
	return strings.Join(names, ", ")
}

func interfaces() ([]iface, error) {
	links, err := dump(netlink.LinkList)
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	all := make([]iface, 0, len(links))
	for _, l := range links {
		addrs, err := dump(func() ([]netlink.Addr, error) { return netlink.AddrList(l, netlink.FAMILY_ALL) })
		if err != nil {
			return nil, fmt.Errorf("list addresses of %s: %w", l.Attrs().Name, err)
		}
		all = append(all, iface{
			name: l.Attrs().Name, index: l.Attrs().Index, mtu: l.Attrs().MTU,
			addrs: preferred(addrs, netlink.FAMILY_V4), addrs6: preferred(addrs, netlink.FAMILY_V6),
		})
	}
	return all, nil
}

// preferred orders the addresses of a family as flannel prefers them
// (pkg/ip/iface.go): of wider scope first, and permanent before those that a
// lease or a router may take away. Deprecated ones are left out, and of IPv6
// those that somebody else has, and the temporary ones (RFC 8981), which are made
// to change. One that may yet turn out to be somebody else's comes after its
// like.
func preferred(addrs []netlink.Addr, family int) []netip.Addr {
	rank := func(a netlink.Addr) int {
		r := a.Scope * 4 // RT_SCOPE_UNIVERSE is 0, link 253, host 254
		if a.Flags&unix.IFA_F_PERMANENT == 0 {
			r += 2
		}
		if a.Flags&unix.IFA_F_TENTATIVE != 0 {
			r++
		}
		return r
	}
	ips := make([]netip.Addr, 0, len(addrs))
	for _, a := range slices.SortedStableFunc(slices.Values(addrs), func(a, b netlink.Addr) int { return rank(a) - rank(b) }) {
		unfit := unix.IFA_F_DEPRECATED | unix.IFA_F_DADFAILED
		if family == netlink.FAMILY_V6 {
			unfit |= unix.IFA_F_TEMPORARY // of IPv4 that bit says that it is not the first of its network
		}
		if ip, ok := addrOf(a.IP, family); ok && a.Flags&unfit == 0 {
			ips = append(ips, ip)
		}
	}
	return ips
}

func prefixLen(n *net.IPNet) int {
	ones, _ := n.Mask.Size()
	return ones
}

// dump asks again when the kernel changed the list while it was being read:
// the answer may then lack entries or have them twice (NLM_F_DUMP_INTR).
func dump[T any](list func() ([]T, error)) ([]T, error) {
	var (
		all []T
		err error
	)
	for range 10 {
		if all, err = list(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			return all, err
		}
	}
	return nil, err
}
