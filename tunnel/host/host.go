// SPDX-License-Identifier: Apache-2.0

// Package host is what the switch needs from the host's kernel: which
// interface and address carry the tunnel, whether the way is free for our
// device and our port, and the address, route and neighbour that lead the
// overlay's traffic into the device.
//
// The kernel gets one route and one neighbour, whatever the number of peers:
// the switch finds the peer. Nothing here needs undoing: all of it hangs on
// the device, and the kernel drops it with the device; all but a blackhole
// route, which is there to stay when the device goes.
//
// Every function is a few netlink calls in the network namespace of the
// calling thread, and may be called concurrently with itself and with frames
// in flight. On platforms other than Linux each returns an error that matches
// errors.ErrUnsupported.
package host

import (
	"log/slog"
	"net/netip"
	"regexp"

	"vxtap/encap/ether"
)

// Gateway is the next hop of the aggregate route. It exists nowhere: the
// permanent neighbour gives it the router MAC, so that no ARP is ever sent for
// it. Link-local (RFC 3927), because such an address cannot be anybody's
// remote destination; it only has to differ from every address of this host,
// since the kernel refuses a next hop that is its own.
var Gateway = netip.AddrFrom4([4]byte{169, 254, 84, 72})

// Choice says which interface is to carry the tunnel, in flannel's order
// (pkg/ipmatch/match.go): the first of Names that exists, else the first of
// Patterns that matches, else the interface on the way to CanReach, else the
// one that has PublicIP, else the one of the default route. Each is a demand:
// when Names are given and none exists, it is an error, not a reason to go on.
type Choice struct {
	Names    []string         // interface names, or IPv4 addresses of interfaces
	Patterns []*regexp.Regexp // matched against every interface's IPv4 addresses, then against the names
	CanReach netip.Addr       // zero: not asked for
	PublicIP netip.Addr       // zero: whatever the interface has
}

// Uplink is the interface that carries the tunnel.
type Uplink struct {
	Name  string
	Index int
	MTU   int        // bytes of an outer IP packet
	Addr  netip.Addr // the IPv4 address that our datagrams leave from: PublicIP where the interface has it
}

// Change is what kind of change of the host was heard of.
type Change int

const (
	// Neighbour is one of the tunnel device's own neighbours.
	Neighbour Change = iota
	// Elsewhere is all else, and what was missed.
	Elsewhere
)

// Plan is how the tunnel's device is to be set up.
type Plan struct {
	Device    string
	MAC       ether.MAC    // the VTEP MAC that the lease publishes
	MTU       int          // bytes of an inner IP packet
	Addr      netip.Prefix // <subnet>.0/32: the source of what the host itself sends into the overlay
	Network   netip.Prefix // the whole overlay; the aggregate route leads to it
	RouterMAC ether.MAC    // the Gateway's MAC; the switch routes what is addressed to it. Not MAC: the kernel would take the frame for its own
	PerPeer   bool         // no aggregate route and no Gateway: Routes has the kernel know each peer
	Blackhole netip.Prefix // this host's subnet, where what has no other way is to be dropped; zero: it is not
	Log       *slog.Logger // nil discards
}
