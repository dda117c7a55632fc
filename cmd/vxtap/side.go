// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"sync/atomic"

	"vxtap/encap/ether"
	"vxtap/encap/vxlan"
	"vxtap/lease"
	"vxtap/tunnel"
	"vxtap/tunnel/rules"
	"vxtap/tunnel/tap"
	"vxtap/tunnel/underlay"
	"vxtap/tunnel/uplink"
)

// side is one address family of a segment: a device, and what packets of that
// family go through. All sides share the segment's lease and its place in etcd.
// What changes after run began is mtu and tooSmall, guarded by live.setting but
// for readers of mtu, dropping, the report of routes, and what watchRules alone
// goes on with.
type side struct {
	*segment
	family family
	log    *slog.Logger
	device string
	mac    ether.MAC
	mtu    atomic.Int32 // of the device, in bytes

	underlay *underlay.Conn
	tap      *tap.Device
	index    int            // of the TAP's interface, which somebody may rename; 0: not known
	whole    *uplink.Device // nil: super-frames are cut here, and noUplink says why
	noUplink string
	sw       *tunnel.Switch
	takeover

	waiters  []tunnel.Waiter        // of the lanes
	hostNews chan struct{}          // tells watchHost to look at the host
	unmended atomic.Pointer[string] // what watchHost cannot set up again; nil: nothing
	tooSmall int                    // the MTU that was refused last
	previous netip.Prefix           // the network that rules may be left of
	dropping atomic.Pointer[[]string]
	routes   routesState

	rulesKind   rules.Kind // of watchRules; a host may have the program of one family only
	randomPorts bool       // of what is masqueraded; as rulesKind
}

// family is an IP version.
type family string

const (
	ipv4 family = "IPv4"
	ipv6 family = "IPv6"
)

// deviceName is flannel's name for the device of a VNI.
func deviceName(vni vxlan.VNI) string { return fmt.Sprintf("flannel.%d", vni) }

// deviceName6 is flannel's name for that of IPv6.
func deviceName6(vni vxlan.VNI) string { return fmt.Sprintf("flannel-v6.%d", vni) }

// addSide gives s a side more.
func (s *segment) addSide(f family, device string) *side {
	one := &side{
		segment:  s,
		family:   f,
		device:   device,
		log:      s.d.log.With("device", device),
		hostNews: make(chan struct{}, 1),
		routes:   newRoutesState(),
	}
	s.sides = append(s.sides, one)
	return one
}

// addIPv6 gives s its IPv6 side where the network and the host have what it
// takes, and notes why not where the network alone has. The host goes on with
// IPv4 then: flanneld would end, and take that away as well.
func (s *segment) addIPv6() {
	if !s.config.EnableIPv6 {
		return
	}
	s.noIPv6 = s.d.withoutIPv6(s.config.Backend)
	if s.noIPv6 == "" && s.known != nil && !s.known.Own.IPv6Subnet.IsValid() {
		s.noIPv6 = "the lease that was last known has no IPv6 half, and etcd is asked for one as soon as it is there"
	}
	if s.noIPv6 != "" {
		s.log.Warn("this host takes part with IPv4 only", "reason", s.noIPv6)
		return
	}
	s.ipv6 = s.addSide(ipv6, deviceName6(s.config.Backend.VNI))
	if why := s.linkLocal(); why != "" {
		s.log.Warn("this host may be reached by no peer over IPv6", "reason", why)
	}
}

// owesIPv6 reports whether s has no IPv6 side for want of somebody to ask alone.
func (s *segment) owesIPv6() bool {
	return s.config.EnableIPv6 && s.ipv6 == nil && s.known != nil && !s.confirmed.Load() && s.d.withoutIPv6(s.config.Backend) == ""
}

// minMTU6 is the least that the underlay's packets may have where IPv6 is to go
// through the tunnel: IPv6 needs 1280 bytes (RFC 8200, section 5), and Linux has
// none on a device with less.
const minMTU6 = 1280 + vxlan.OverheadIPv6

// withoutIPv6 says why this host cannot have an IPv6 side, and what to do; "" if
// it can.
func (d *daemon) withoutIPv6(b lease.Backend) string {
	const until = "and start vxtap again; until then it has IPv4 alone"
	at := d.at()
	switch up, refused := at.uplink, d.said6(); {
	case !up.Addr6.IsValid() && refused != "":
		return fmt.Sprintf("the network is dual-stack, and %s: mend that %s", refused, until)
	case !at.vtep6.IsValid() || !up.Addr6.IsValid():
		return fmt.Sprintf("the network is dual-stack, and the interface %s has no IPv6 address: give it one, which is taken as soon as it is there, or choose another with -iface %s", up.Name, until)
	case outerMTU(b, up.MTU) < minMTU6:
		return fmt.Sprintf("the network is dual-stack, and the MTU %d of the interface %s leaves less than the 1280 bytes that IPv6 needs: give it %d or more, %s",
			outerMTU(b, up.MTU), up.Name, minMTU6, until)
	}
	return ""
}

// outerMTU is what the underlay's packets may have.
func outerMTU(b lease.Backend, uplink int) int {
	if b.MTU != 0 {
		return b.MTU
	}
	return uplink
}

// minMTU is the least that the device may have: RFC 791 for IPv4, RFC 8200 for
// IPv6.
func (s *side) minMTU() int {
	if s.family == ipv6 {
		return minMTU6 - vxlan.OverheadIPv6
	}
	return minMTU
}

// request is what the segment asks a lease with. Where it has no IPv6 side, the
// lease need not have an IPv6 half.
func (s *segment) request(previous lease.SubnetEnv, before lease.Lease) lease.Request {
	q := lease.Request{PublicIP: s.ipv4.vtep(), MAC: s.ipv4.mac, Previous: previous.Subnet, Before: before}
	if s.ipv6 != nil {
		q.PublicIPv6, q.IPv6MAC, q.PreviousIPv6 = s.ipv6.vtep(), s.ipv6.mac, previous.IPv6Subnet
	}
	return q
}

// each returns a step that takes step on every side in turn.
func (s *segment) each(step func(*side, context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		for _, one := range s.sides {
			if err := step(one, ctx); err != nil {
				return err
			}
		}
		return nil
	}
}

// network is the side's part of the overlay.
func (s *side) network() netip.Prefix {
	if s.family == ipv6 {
		return s.config.IPv6Network
	}
	return s.config.Network
}

// subnet is this host's part of network; the zero Prefix while there is no lease.
func (s *side) subnet() netip.Prefix {
	own := s.own.Load()
	switch {
	case own == nil:
		return netip.Prefix{}
	case s.family == ipv6:
		return own.IPv6Subnet
	}
	return own.Subnet
}

// addr is the address that datagrams leave from, without a zone.
func (s *side) addr() netip.Addr { return s.local().Addr().WithZone("") }

// vtep is the address in our lease.
func (s *side) vtep() netip.Addr {
	if s.family == ipv6 {
		return s.d.at().vtep6
	}
	return s.d.at().vtep
}

// overhead is what the tunnel takes of the underlay's MTU.
func (s *side) overhead() int {
	if s.family == ipv6 {
		return vxlan.OverheadIPv6
	}
	return vxlan.OverheadIPv4
}

// peersIn appends the side's part of a selection to before.
func (s *side) peersIn(now lease.Selection, before []tunnel.Peer) []tunnel.Peer {
	if s.family == ipv6 {
		return peersOfIPv6(now, before)
	}
	return peersOf(now, before)
}

// bridgeMTU is what packets of every side may have: a container's bridge carries both
// families, and has one MTU. flannel takes that of IPv4 (F13), so that the
// larger packets of IPv6 have to be refused, or are cut on their way.
func (s *segment) bridgeMTU() int {
	mtu := s.ipv4.mtu.Load()
	if s.ipv6 != nil {
		mtu = min(mtu, s.ipv6.mtu.Load())
	}
	return int(mtu)
}
