// SPDX-License-Identifier: Apache-2.0

package tunnel

// Reason says why a frame was not delivered. Every frame that the switch takes
// in and does not deliver counts under exactly one reason, so that
// received = delivered + the sum of drops always holds.
type Reason uint8

// The reasons, in the order in which a frame meets them. The names that people
// see are in reasonNames; docs/drops.md explains what to do about each.
const (
	// Both directions: the frame inside.

	Malformed   Reason = iota // shorter than its headers say, or headers that contradict each other
	VLANTagged                // an 802.1Q or 802.1ad tag: RFC 7348 section 6.1 discards it unless configured
	IPv6                      // an IPv4 overlay's switch carries no IPv6
	IPv4                      // an IPv6 overlay's switch carries no IPv4
	NotIP                     // ARP and everything else that is not IP: a routed segment has no use for it
	BadOffload                // an offload request that contradicts the frame
	BadChecksum               // the inner checksum is wrong
	TooBig                    // larger than the MTU, and no super-frame
	LinkLocal                 // to or from an IPv6 link-local address: no router forwards it (RFC 4291, section 2.5.6)
	NoPeersYet                // nobody has told the switch of any peers yet: it has just been started
	Broadcast                 // broadcast or multicast: flooding is off in a routed segment

	// Out: from the TAP to the underlay.

	UnknownMAC // unicast to a MAC that is not the router's: bridging is off in a routed segment
	OwnSubnet  // for our own subnet: no local bridge took it
	NoPeer     // no lease covers the destination
	UnderlayUnreachable
	UnderlayMTU  // the underlay's MTU is too small for the datagram
	UnderlayFull // the socket's buffer, or the device's queue, stayed full
	UnderlayError

	// In: from the underlay to the TAP.

	ShortDatagram // no room for a VXLAN and an Ethernet header
	Probe         // a header of zeros: somebody tries the way to us, and loses nothing
	NoVNIFlag     // the I flag is not set: not VXLAN, or not valid
	ReservedBits  // header bits that we do not understand
	OtherVNI      // a VNI that is not ours
	NotAPeer      // the sender's address is in no lease
	Congestion    // outer CE on a frame that is not ECN-capable (RFC 6040, section 4.2)
	WrongMAC      // not addressed to our VTEP MAC
	BadSourceMAC  // a source MAC that no station can have, or our own
	ForeignSource // the inner source address is not in the sender's subnet
	Transit       // the inner destination is another peer's: never from tunnel to tunnel
	TAPFull       // the TAP did not take the frame at once
	TAPError

	// NumReasons is how many reasons there are.
	NumReasons
)

var reasonNames = [NumReasons]string{
	Malformed:           "malformed",
	VLANTagged:          "vlan-tagged",
	IPv6:                "ipv6",
	IPv4:                "ipv4",
	NotIP:               "not-ip",
	BadOffload:          "bad-offload",
	BadChecksum:         "bad-checksum",
	TooBig:              "too-big",
	LinkLocal:           "link-local",
	NoPeersYet:          "no-peers-yet",
	Broadcast:           "broadcast",
	UnknownMAC:          "unknown-mac",
	OwnSubnet:           "own-subnet",
	NoPeer:              "no-peer",
	UnderlayUnreachable: "underlay-unreachable",
	UnderlayMTU:         "underlay-mtu",
	UnderlayFull:        "underlay-full",
	UnderlayError:       "underlay-error",
	ShortDatagram:       "short-datagram",
	Probe:               "probe",
	NoVNIFlag:           "no-vni-flag",
	ReservedBits:        "reserved-bits",
	OtherVNI:            "other-vni",
	NotAPeer:            "not-a-peer",
	Congestion:          "congestion",
	WrongMAC:            "wrong-mac",
	BadSourceMAC:        "bad-source-mac",
	ForeignSource:       "foreign-source",
	Transit:             "transit",
	TAPFull:             "tap-full",
	TAPError:            "tap-error",
}

// String returns the name under which status, metrics and logs show r.
func (r Reason) String() string {
	if r < NumReasons {
		return reasonNames[r]
	}
	return "unknown"
}
