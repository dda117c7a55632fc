// SPDX-License-Identifier: Apache-2.0

// Package host is what the switch needs from the host's kernel: which
// interface and address carry the tunnel, whether the way is free for our
// device and our port, and the address, route and neighbour that lead the
// overlay's traffic into the device.
//
// Apply gives the kernel one route and one neighbour, whatever the number of
// peers: the switch finds the peer. Where the kernel is to know peers one by one,
// Routes does that. Nothing needs undoing that hangs on the device: the kernel
// drops it with the device. A blackhole route and direct routes do not, and are
// there to stay when the device goes.
//
// Every function is a few netlink calls in the network namespace of the calling
// thread, and may be called concurrently with itself and with frames in flight;
// those of Routes take as long as there are peers, and are for one goroutine. On
// platforms other than Linux each returns an error that matches
// errors.ErrUnsupported.
package host

import (
	"errors"
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

// Gateway6 is the next hop of an IPv6 overlay's route: Gateway's bytes in an
// address of fe80::/10 (RFC 4291, section 2.5.6). The kernel asks nobody for it
// either, and it is never made from a MAC: those have ff:fe in their middle.
var Gateway6 = netip.MustParseAddr("fe80::a9fe:5448")

// Choice says which interface is to carry the tunnel, in flannel's order
// (pkg/ipmatch/match.go): the first of Names that exists, else the first of
// Patterns that matches, else the interface on the way to CanReach, else the
// one that has PublicIP, else the one that has PublicIPv6, else the one of the
// default route. Each is a demand: when Names are given and none exists, it is an
// error, not a reason to go on.
//
// There is one interface for both families, as flannel wants it for dual stack.
type Choice struct {
	Names []string // interface names, or addresses of interfaces
	// Patterns are matched against every interface's IPv4 addresses, then
	// against the names, and against IPv6 addresses where nothing else matches:
	// their letters are in many names as well.
	Patterns   []*regexp.Regexp
	CanReach   netip.Addr // zero: not asked for
	PublicIP   netip.Addr // zero: whatever the interface has
	PublicIPv6 netip.Addr // the same for the IPv6 underlay
}

// Uplink is the interface that carries the tunnel.
type Uplink struct {
	Name  string
	Index int
	MTU   int        // bytes of an outer IP packet
	Addr  netip.Addr // the IPv4 address that our datagrams leave from: PublicIP where the interface has it
	// Addr6 is the IPv6 address that our datagrams leave from: PublicIPv6 where
	// the interface has it; zero if it has none. It never has a zone: Local6 has.
	// The kernel may still be looking for a duplicate of it: see AwaitAddress.
	Addr6 netip.Addr
}

// Local6 is Addr6 with the zone that a socket needs for a link-local address.
func (u Uplink) Local6() netip.Addr {
	if u.Addr6.IsLinkLocalUnicast() {
		return u.Addr6.WithZone(u.Name)
	}
	return u.Addr6
}

// Change is what kind of change of the host was heard of.
type Change int

const (
	// Neighbour is one of the tunnel device's own neighbours.
	Neighbour Change = iota
	// Elsewhere is all else, and what was missed.
	Elsewhere
	// Elsewhere6 is all else that is of IPv6 alone: its addresses, routes and
	// rules. What goes by IPv4 need not be looked at for it.
	Elsewhere6
)

// Plan is how the tunnel's device is to be set up. All of it is of one family,
// that of Network: a host with both has a device for each.
type Plan struct {
	Device    string
	Index     int          // of the interface, which is given its name again if somebody renamed it; 0: whichever has the name
	MAC       ether.MAC    // the VTEP MAC that the lease publishes
	MTU       int          // bytes of an inner IP packet
	Addr      netip.Prefix // <subnet>.0/32, or <subnet>::/128: the source of what the host itself sends into the overlay
	Network   netip.Prefix // the whole overlay; the aggregate route leads to it
	RouterMAC ether.MAC    // the Gateway's MAC, or Gateway6's; the switch routes what is addressed to it. Not MAC: the kernel would take the frame for its own
	PerPeer   bool         // no aggregate route and no Gateway: Routes has the kernel know each peer
	Blackhole netip.Prefix // this host's subnet, where what has no other way is to be dropped; zero: it is not
	Log       *slog.Logger // nil discards
}

// KernelVXLAN is a vxlan device of the kernel's, as flanneld leaves it.
type KernelVXLAN struct {
	Name  string
	MAC   ether.MAC
	index int // two devices of one name are not the same
}

// ErrTaken says that a device's name or a port is a process's. One that was killed
// may still be ending: the kernel closes what it had a moment after kill returns.
var ErrTaken = errors.New("taken by a process")

// takenError is a sentence that matches ErrTaken.
type takenError struct{ words string }

func (e takenError) Error() string { return e.words }

// Is makes takenError match ErrTaken.
func (e takenError) Is(target error) bool { return target == ErrTaken }

// ErrRuns says that a flanneld is at work in this network namespace.
var ErrRuns = errors.New("runs here")
