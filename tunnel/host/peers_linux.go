// SPDX-License-Identifier: Apache-2.0

package host

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Sync reads what the kernel has, and sets what is not as p says. What one peer
// fails by does not keep the others from theirs; the error has the first of such
// failures. It takes as long as there are peers: milliseconds for a hundred.
func (r *Routes) Sync(p RoutePlan) (RouteReport, error) {
	if r.begun && !p.PerPeer && !p.Direct && len(r.set) == 0 {
		return RouteReport{}, nil // nobody else makes what there would be to remove
	}
	k, err := openKernel(p.Device, p.PerPeer, p.Network.Addr())
	if err != nil {
		return RouteReport{}, err
	}
	defer k.h.Close()
	have, err := k.read(p)
	if err != nil {
		return RouteReport{}, err
	}
	return r.apply(k, p, have, true)
}

// Update is Sync for peers that came, changed or went since the last call, with
// no look at what the kernel has: two operations for each of them.
func (r *Routes) Update(p RoutePlan) (RouteReport, error) {
	if !r.begun || r.plan.Device != p.Device || r.plan.Network != p.Network || r.plan.PerPeer != p.PerPeer || r.plan.Direct != p.Direct {
		return r.Sync(p)
	}
	if !p.PerPeer && !p.Direct {
		return RouteReport{}, nil
	}
	k, err := openKernel(p.Device, p.PerPeer, p.Network.Addr())
	if err != nil {
		return RouteReport{}, err
	}
	defer k.h.Close()
	return r.apply(k, p, nil, false)
}

// apply sets what is to be set for the peers of p, and takes away what is left of
// others. Without all it goes by what it remembers.
func (r *Routes) apply(k *kernel, p RoutePlan, have *present, all bool) (RouteReport, error) {
	if r.set == nil {
		r.set, r.notes = make(map[netip.Prefix]entry), make(map[netip.Prefix]string)
	}
	if all {
		clear(r.notes)
	}
	report := RouteReport{Direct: make(map[netip.Prefix]bool)}
	var errs failures
	wanted := make(map[netip.Prefix]bool, len(p.Peers))
	for _, peer := range p.Peers {
		wanted[peer.Subnet] = true
	}
	for subnet, e := range r.set { // first: one that came may have the same first address, and its neighbour
		if !wanted[subnet] {
			errs.add(r.forget(k, subnet, e, have))
		}
	}
	for _, peer := range p.Peers {
		if old, ok := r.set[peer.Subnet]; all || !ok || old.PeerRoute != peer {
			errs.add(r.reach(k, p, peer, have, &report))
		}
		if e := r.set[peer.Subnet]; e.direct {
			report.Direct[peer.Subnet] = true
		}
	}
	begun := r.begun
	if all {
		err := k.removeStale(have, r.set)
		begun = begun || err == nil
		errs.add(err)
	}
	for _, peer := range p.Peers {
		if note, ok := r.notes[peer.Subnet]; ok {
			report.Notes = append(report.Notes, note)
		}
	}
	r.begun, r.plan = begun, p
	r.plan.Peers = nil
	return report, errs.err()
}

// reach sets what the kernel is to have for one peer. Where a direct route is
// refused, the tunnel is there.
func (r *Routes) reach(k *kernel, p RoutePlan, peer PeerRoute, have *present, report *RouteReport) error {
	delete(r.notes, peer.Subnet)
	tunnel := way{}
	if p.PerPeer {
		tunnel = way{link: k.device, via: peer.Subnet.Addr(), mac: peer.MAC}
	}
	link, ok := 0, false
	if p.Direct {
		link, ok = k.onLink(peer.VTEP)
	}
	if ok {
		err := r.take(k, peer, way{link: link, via: peer.VTEP, direct: true}, have, report)
		if err == nil {
			return nil
		}
		report.Refused = append(report.Refused, fmt.Sprintf("no direct route to %s via %s is to be had, it is reached through the tunnel: %v", peer.Subnet, peer.VTEP, err))
	}
	return r.take(k, peer, tunnel, have, report)
}

// take makes w the way to the peer. A route of somebody else's stays, and is the
// way then, whatever its metric.
func (r *Routes) take(k *kernel, peer PeerRoute, w way, have *present, report *RouteReport) error {
	old, known := r.set[peer.Subnet]
	same := known && old.way == w && old.PeerRoute == peer
	mended := func(format string, args ...any) {
		if same {
			report.Mended = append(report.Mended, fmt.Sprintf(format, args...))
		}
	}
	if w.mac != (way{}).mac && (have == nil && !same || have != nil && !bytes.Equal(have.neighbours[w.via], w.mac[:])) {
		if err := k.h.NeighSet(neighbourOf(w)); err != nil {
			return fmt.Errorf("set neighbour %s: %w", w.via, err)
		}
		mended("the neighbour %s", w.via)
	}
	set, err := k.takeRoute(peer.Subnet, w, old.way, have)
	if foreign, ok := errors.AsType[*foreignRouteError](err); ok {
		w.link, w.direct = 0, w.direct && foreign.agrees
		if !foreign.agrees {
			r.notes[peer.Subnet] = foreign.Error()
		}
		err = nil
	}
	if err != nil {
		return err
	}
	if set {
		mended("the route to %s", peer.Subnet)
	}
	r.set[peer.Subnet] = entry{peer, w}
	if old.mac != w.mac && w.mac == (way{}).mac {
		return k.removeNeighbour(old.way)
	}
	return nil
}

// forget takes away what was set for a peer that is none any more.
func (r *Routes) forget(k *kernel, subnet netip.Prefix, e entry, have *present) error {
	delete(r.notes, subnet)
	if e.link != 0 {
		if err := k.removeRoute(routeOf(subnet, e.way)); err != nil {
			return err
		}
	}
	if err := k.removeNeighbour(e.way); err != nil {
		return err
	}
	if have != nil {
		delete(have.neighbours, e.via)
	}
	delete(r.set, subnet)
	return nil
}

// kernel is a connection to the kernel, which a thousand requests share.
type kernel struct {
	h       *netlink.Handle
	family  int
	device  int // index
	metric  int // of a route for which none is asked
	perPeer bool
	links   map[netip.Addr]int // what onLink has found; 0: none
	plain   map[int]bool       // whether a link has neighbours
}

func openKernel(device string, perPeer bool, of netip.Addr) (*kernel, error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open netlink: %w", err)
	}
	link, err := h.LinkByName(device)
	if err != nil {
		h.Close()
		return nil, fmt.Errorf("look for device %s: %w", device, err)
	}
	k := &kernel{h: h, family: familyOf(of), device: link.Attrs().Index, perPeer: perPeer, links: make(map[netip.Addr]int), plain: make(map[int]bool)}
	if of.Is6() {
		k.metric = userMetric
	}
	return k, nil
}

// present is what the kernel has within a network.
type present struct {
	routes     map[netip.Prefix][]netlink.Route
	neighbours map[netip.Addr]net.HardwareAddr // the permanent ones of the device
}

func (k *kernel) read(p RoutePlan) (*present, error) {
	routes, err := dump(func() ([]netlink.Route, error) {
		return k.h.RouteListFiltered(k.family, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
	})
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	have := &present{routes: make(map[netip.Prefix][]netlink.Route), neighbours: make(map[netip.Addr]net.HardwareAddr)}
	for _, route := range routes {
		if dst, ok := prefixOf(route.Dst); ok && (p.Network.Contains(dst.Addr()) || p.Former.IsValid() && p.Former.Contains(dst.Addr())) {
			have.routes[dst] = append(have.routes[dst], route)
		}
	}
	if !p.PerPeer {
		return have, nil
	}
	neighbours, err := dump(func() ([]netlink.Neigh, error) { return k.h.NeighList(k.device, k.family) })
	if err != nil {
		return nil, fmt.Errorf("list neighbours: %w", err)
	}
	for _, n := range neighbours {
		if a, ok := netip.AddrFromSlice(n.IP); ok && n.State == netlink.NUD_PERMANENT {
			have.neighbours[a.Unmap()] = n.HardwareAddr
		}
	}
	return have, nil
}

// isOurs reports whether route, which leads to a peer's subnet, is one that may
// be changed: a direct one, or one of the device.
func (k *kernel) isOurs(route *netlink.Route) bool {
	return isDirect(route) || k.perPeer && route.LinkIndex == k.device && route.Priority == k.metric
}

// foreignRouteError says that somebody else's route leads to a peer.
type foreignRouteError struct {
	text   string
	agrees bool // it leads where ours would
}

func (e *foreignRouteError) Error() string { return e.text }

// takeRoute makes w the route to dst, where old was, and reports whether it was
// not. Somebody else's is a foreignRouteError, and ours is gone then. A change is
// one step, so that no packet finds no route.
func (k *kernel) takeRoute(dst netip.Prefix, w, old way, have *present) (set bool, err error) {
	var ours []netlink.Route
	var foreign *foreignRouteError
	switch {
	case have != nil:
		for _, route := range have.routes[dst] {
			if k.isOurs(&route) {
				ours = append(ours, route)
			} else if w.link != 0 && (foreign == nil || foreign.agrees) {
				foreign = foreignRoute(dst, &route, w)
			}
		}
	case old.link != 0 && !k.isTaken(dst, old):
		ours = append(ours, *routeOf(dst, old))
	}
	if foreign == nil && w.link != 0 {
		at := slices.IndexFunc(ours, func(o netlink.Route) bool { return isAs(&o, w) })
		switch {
		case at >= 0:
			ours = slices.Delete(ours, at, at+1)
		case len(ours) > 0:
			set, err = true, k.h.RouteReplace(routeOf(dst, w))
			ours = slices.DeleteFunc(ours, func(o netlink.Route) bool { return o.Priority == k.metric })
		default:
			set, err = true, k.h.RouteAdd(routeOf(dst, w))
		}
		if errors.Is(err, unix.EEXIST) {
			foreign, err = foreignRoute(dst, nil, w), nil
		}
		if err != nil {
			return false, fmt.Errorf("set route %s via %s: %w", dst, w.via, err)
		}
	}
	for _, o := range ours {
		if err := k.removeRoute(&o); err != nil {
			return set, err
		}
	}
	if foreign != nil {
		return false, foreign
	}
	return set, nil
}

func foreignRoute(dst netip.Prefix, route *netlink.Route, w way) *foreignRouteError {
	if route == nil {
		return &foreignRouteError{text: fmt.Sprintf("somebody else's route leads to %s, and is left as it is", dst)}
	}
	to := "nowhere"
	if via := gatewayOf(*route); via != "" {
		to = "via " + via
	} else if l, err := net.InterfaceByIndex(route.LinkIndex); err == nil {
		to = "to device " + l.Name
	}
	return &foreignRouteError{
		text:   fmt.Sprintf("somebody else's route leads %s %s, and is left as it is: if nobody needs it: ip route del %s", dst, to, dst),
		agrees: route.LinkIndex == w.link && route.Gw.Equal(w.via.AsSlice()) && route.Type == unix.RTN_UNICAST,
	}
}

func routeOf(dst netip.Prefix, w way) *netlink.Route {
	r := &netlink.Route{LinkIndex: w.link, Dst: ipNet(dst), Gw: w.via.AsSlice()}
	if w.direct {
		r.Protocol = routeProtocol
	} else {
		r.Flags = int(netlink.FLAG_ONLINK) // no route leads to the gateway
	}
	return r
}

// isAs reports whether r is what routeOf makes of w.
func isAs(r *netlink.Route, w way) bool {
	onlink := r.Flags&int(netlink.FLAG_ONLINK) != 0
	return r.LinkIndex == w.link && r.Gw.Equal(w.via.AsSlice()) && isDirect(r) == w.direct && (onlink || w.direct)
}

func neighbourOf(w way) *netlink.Neigh {
	return &netlink.Neigh{LinkIndex: w.link, State: netlink.NUD_PERMANENT, IP: w.via.AsSlice(), HardwareAddr: w.mac[:]}
}

func (k *kernel) removeNeighbour(w way) error {
	if w.mac == (way{}).mac {
		return nil
	}
	n := neighbourOf(w)
	n.LinkIndex = k.device
	if err := k.h.NeighDel(n); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("remove neighbour %s: %w", w.via, err)
	}
	return nil
}

func (k *kernel) removeRoute(r *netlink.Route) error {
	if err := k.h.RouteDel(r); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("remove route %s: %w", r.Dst, err)
	}
	return nil
}

func prefixOf(n *net.IPNet) (netip.Prefix, bool) {
	if n == nil {
		return netip.Prefix{}, false
	}
	a, ok := netip.AddrFromSlice(n.IP)
	return netip.PrefixFrom(a.Unmap(), prefixLen(n)), ok
}

// failures keeps the first of many errors, and how many there were.
type failures struct {
	first error
	n     int
}

func (f *failures) add(err error) {
	if err == nil {
		return
	}
	if f.n++; f.first == nil {
		f.first = err
	}
}

func (f *failures) err() error {
	if f.n > 1 {
		return fmt.Errorf("%w, and %d more", f.first, f.n-1)
	}
	return f.first
}
