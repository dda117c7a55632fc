// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"vxtap/tunnel/host"
)

// What -route-mode may be.
const (
	routeAggregate = "aggregate"
	routePerPeer   = "per-peer"
)

// routesState is what a side knows of the kernel's entries for single peers.
type routesState struct {
	peersNews chan struct{} // tells watchRoutes that there are other peers
	hostNews  chan struct{} // or that the host has changed
	report    atomic.Pointer[host.RouteReport]
}

func newRoutesState() routesState {
	return routesState{peersNews: make(chan struct{}, 1), hostNews: make(chan struct{}, 1)}
}

// perPeer says whether the kernel knows each peer by a route of its own.
func (s *segment) perPeer() bool { return s.d.routeMode == routePerPeer }

// directRouting says whether peers on a link of this host's are reached without
// the tunnel. It is looked at whenever something changes.
func (s *segment) directRouting() bool { return s.current().Backend.DirectRouting }

// tellRoutes has the kernel's entries for single peers follow other peers.
func (s *segment) tellRoutes() {
	for _, one := range s.sides {
		poke(one.routes.peersNews)
	}
}

// routePlan is which peers the kernel is to know one by one.
func (s *side) routePlan() host.RoutePlan {
	p := host.RoutePlan{
		Device:  s.device,
		Network: s.network(),
		Former:  s.previous,
		PerPeer: s.perPeer(),
		Direct:  s.directRouting(),
	}
	if p.PerPeer || p.Direct {
		for _, peer := range s.sw.Peers() {
			p.Peers = append(p.Peers, host.PeerRoute{Subnet: peer.Subnet, VTEP: peer.VTEP, MAC: peer.MAC})
		}
	}
	return p
}

const (
	// routesAtMost bounds how long a change may wait until the last look at the
	// routes is far enough away. What somebody deletes is to be back within a
	// second.
	routesAtMost = 600 * time.Millisecond
	// routesNamed is how many routes one line of the log, or the warnings, name.
	routesNamed = 5
)

// watchRoutes keeps the kernel's entries for single peers as they should be,
// until ctx ends. Before the first peers are known nothing is done: direct routes
// of an earlier run carry traffic meanwhile. When it ends they stay, for the same
// reason.
func (s *side) watchRoutes(ctx context.Context) {
	var routes host.Routes
	w := &routeWatch{side: s, update: routes.Update, sync: routes.Sync, say: rate.NewLimiter(rate.Every(10*time.Second), 20)}
	w.run(ctx)
}

func (w *routeWatch) run(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	soon := time.NewTimer(time.Hour)
	defer soon.Stop()
	again := func(failed bool) {
		if failed {
			soon.Reset(routesAtMost)
		}
	}
	select {
	case <-ctx.Done():
		return
	case <-w.routes.peersNews:
	}
	again(w.look(w.update))
	w.routesAreSet()
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.routes.peersNews:
			again(w.look(w.update))
			continue
		case <-w.routes.hostNews: // our own doing as well
			if wait := time.Until(w.next); wait > 0 {
				soon.Reset(wait)
				continue
			}
		case <-soon.C:
		case <-tick.C:
		}
		began := time.Now()
		failed := w.look(w.sync)
		took := time.Since(began)
		w.next = time.Now().Add(min(max(lookAtMost, 2*took), routesAtMost))
		again(failed)
	}
}

// routeWatch looks after the entries and remembers what it has said.
type routeWatch struct {
	*side
	update, sync func(host.RoutePlan) (host.RouteReport, error) // of host.Routes

	next   time.Time // not to look at all of them before
	say    *rate.Limiter
	failed string // what the last attempt failed by
	said   string // of that
	direct map[netip.Prefix]bool
}

// look has do bring about what the plan says. It reports whether that failed, by
// something else than the last time.
func (w *routeWatch) look(do func(host.RoutePlan) (host.RouteReport, error)) (again bool) {
	report, err := do(w.routePlan())
	if len(report.Mended) > 0 && w.say.Allow() {
		w.log.Warn("somebody changed what the overlay needs, it is set up again", "what", firstOf(report.Mended))
	}
	failed := ""
	if err != nil {
		failed = err.Error()
	}
	// Once is no news: a device that is being set up again fails it.
	if failed != "" && failed == w.failed && failed != w.said && w.say.Allow() {
		w.log.Error("routes to peers cannot be set, trying on", "error", err)
		w.said = failed
	}
	again = failed != "" && failed != w.failed
	w.failed = failed
	if err == nil || report.Direct != nil { // else nothing was looked at
		w.routesChanged(report)
	}
	return again
}

// routesChanged publishes report and says which peers are reached another way now.
func (w *routeWatch) routesChanged(report host.RouteReport) {
	w.side.routes.report.Store(&report)
	came, went := missing(report.Direct, w.direct), missing(w.direct, report.Direct)
	w.direct = report.Direct
	if len(came) > 0 && w.say.Allow() {
		w.log.Info("peers are reached directly, on a link of this host's", "subnets", firstOf(came), "direct", len(report.Direct))
	}
	if len(went) > 0 && w.say.Allow() {
		w.log.Info("peers are not reached directly any more", "subnets", firstOf(went), "direct", len(report.Direct))
	}
	if refused := report.Refused; len(refused) > 0 && w.say.Allow() {
		w.log.Debug("direct routes are refused", "reason", firstOf(refused))
	}
}

// missing returns those of all that are not in others, in their order.
func missing(all, others map[netip.Prefix]bool) []string {
	var names []string
	for _, p := range slices.SortedFunc(maps.Keys(all), netip.Prefix.Compare) {
		if !others[p] {
			names = append(names, p.String())
		}
	}
	return names
}

// firstOf names the first few of all.
func firstOf(all []string) string {
	if n := len(all); n > routesNamed {
		return fmt.Sprintf("%s and %d more", strings.Join(all[:routesNamed], ", "), n-routesNamed)
	}
	return strings.Join(all, ", ")
}

// isDirect reports whether the subnet is reached without the tunnel.
func (s *side) isDirect(subnet netip.Prefix) bool {
	r := s.routes.report.Load()
	return r != nil && r.Direct[subnet]
}

// routeWarnings says whose routes are in the way of the overlay's, and which
// settings of the host lose packets that come another way than the answers go:
// each host decides alone whether a peer is on a link of its own.
func (s *side) routeWarnings(root string) []string {
	var all []string
	if r := s.routes.report.Load(); r != nil {
		all = append(all, r.Notes[:min(len(r.Notes), routesNamed)]...)
		if more := len(r.Notes) - routesNamed; more > 0 {
			all = append(all, fmt.Sprintf("somebody else's routes lead to %d peers more", more))
		}
	}
	if !s.directRouting() || !s.network().Addr().Is4() { // IPv6 has no such check
		return all
	}
	for _, device := range []string{s.device, s.d.at().uplink.Name} {
		if isStrict(root, device) {
			all = append(all, fmt.Sprintf("net/ipv4/conf/%s/rp_filter=1, of %s or of all, drops what a peer sends directly while this host answers through the tunnel, or the other way round: "+
				"with DirectRouting each host chooses alone: sysctl -w net/ipv4/conf/%s/rp_filter=2", device, device, device))
		}
	}
	return all
}

// isStrict reports whether the host drops what came by device and would not be
// answered there. The kernel takes the larger number of the device's and that of
// all (Documentation/networking/ip-sysctl.rst).
func isStrict(root, device string) bool {
	all, _ := sysctl(root, "net/ipv4/conf/all/rp_filter")
	own, _ := sysctl(root, "net/ipv4/conf/"+device+"/rp_filter")
	return max(all, own) == "1"
}

func (s *segment) routesStatus() RoutesStatus {
	st := RoutesStatus{Mode: s.d.routeMode, DirectRouting: s.directRouting()}
	for _, one := range s.sides {
		if r := one.routes.report.Load(); r != nil {
			st.DirectPeers += len(r.Direct)
		}
	}
	return st
}
