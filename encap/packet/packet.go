// SPDX-License-Identifier: Apache-2.0

// Package packet has a checked view of one Ethernet frame: where its IP
// header, its TCP or UDP header and its payload start, and what the switch
// must know of them.
//
// Parse checks every length once, against what remains; after that no accessor
// can reach outside the frame. Nothing is copied and nothing allocated.
package packet

import (
	"encoding/binary"

	"vxtap/encap/ether"
)

// Fault says why a frame could not be parsed.
type Fault uint8

// The faults of a frame; None is the zero value.
const (
	None         Fault = iota
	TooShort           // no room for the Ethernet or the IP header
	BadIPHeader        // IP version or header length that cannot be
	BadLength          // IP length larger than the frame, or smaller than the headers
	BadTransport       // TCP header length or UDP length that cannot be
)

var faultNames = [...]string{
	None:         "none",
	TooShort:     "too short",
	BadIPHeader:  "bad IP header",
	BadLength:    "bad IP length",
	BadTransport: "bad transport header",
}

// String returns a few words for people.
func (f Fault) String() string {
	if int(f) < len(faultNames) {
		return faultNames[f]
	}
	return "unknown"
}

// Protocol numbers (IANA) that the switch tells apart.
const (
	ProtoICMP   = 1
	ProtoTCP    = 6
	ProtoUDP    = 17
	ProtoICMPv6 = 58
)

// View is one parsed frame. It borrows the frame and is valid as long as the
// frame's memory is. All offsets count from the first byte of the frame, and
// L3 <= L4 <= Payload <= End <= len(Frame) always holds after Parse returned
// None. Copying a View is fine.
type View struct {
	Frame []byte

	// L3 is where the network header starts: 14, or 18 behind a VLAN tag.
	L3 int
	// L4 is where the transport header starts, behind IPv4 options and IPv6
	// extension headers; for a frame that is not IP it equals L3.
	L4 int
	// Payload is where the data of TCP or UDP starts; for all else, and for
	// fragments, it equals L4.
	Payload int
	// End is where the IP packet ends. What follows is Ethernet padding. For a
	// frame that is not IP it is the end of the frame.
	End int

	// EtherType is the payload's own type, behind a VLAN tag if there is one.
	EtherType ether.Type
	// Version is 4 or 6, or 0 for what is not IP.
	Version uint8
	// Proto is the transport protocol, behind IPv6 extension headers. It is
	// only meaningful for IP.
	Proto uint8
	// Fragment is set for every IP fragment, the first included: there is no
	// whole transport packet to look at, even where its header is there. IPv6
	// atomic fragments (RFC 6946) count too.
	Fragment bool
	// Tagged is set when there is an 802.1Q or 802.1ad tag. Parse looks behind
	// one tag; behind it a second one is an EtherType like any other.
	Tagged bool
}

// Parse reads the headers of frame, whoever it comes from. It assigns every
// field. After a fault the view is good for nothing but Frame, EtherType,
// Tagged and the MACs.
func (v *View) Parse(frame []byte) Fault {
	*v = View{Frame: frame}
	if len(frame) < ether.HeaderLen {
		return TooShort
	}
	typ, l3 := ether.Type(binary.BigEndian.Uint16(frame[12:])), ether.HeaderLen
	if typ == ether.TypeVLAN || typ == ether.TypeQinQ {
		v.Tagged = true
		if len(frame) < ether.HeaderLen+4 {
			return TooShort
		}
		typ, l3 = ether.Type(binary.BigEndian.Uint16(frame[16:])), ether.HeaderLen+4
	}
	v.EtherType = typ
	switch typ {
	case ether.TypeIPv4:
		return v.parseIPv4(l3)
	case ether.TypeIPv6:
		return v.parseIPv6(l3)
	}
	v.L3, v.L4, v.Payload, v.End = l3, l3, l3, len(frame)
	return None
}

// parseIPv4 reads the header of RFC 791. A total length of zero, with which
// Linux marks packets over 64 KB (BIG TCP), is BadLength: no such packet can
// have come through a datagram, and we never ask a TAP for one.
func (v *View) parseIPv4(l3 int) Fault {
	ip := v.Frame[l3:]
	if len(ip) < 20 {
		return TooShort
	}
	ihl, total := int(ip[0]&0x0f)*4, int(binary.BigEndian.Uint16(ip[2:]))
	if ip[0]>>4 != 4 || ihl < 20 {
		return BadIPHeader
	}
	if total < ihl || total > len(ip) {
		return BadLength
	}
	const moreFragmentsAndOffset = 0x3fff
	fragment := binary.BigEndian.Uint16(ip[6:])&moreFragmentsAndOffset != 0
	return v.finish(4, l3, l3+ihl, l3+total, ip[9], fragment)
}

// finish looks at the transport header, then assigns all that is known.
func (v *View) finish(version uint8, l3, l4, end int, proto uint8, fragment bool) Fault {
	payload := l4
	if !fragment {
		l4b := v.Frame[l4:end]
		switch proto {
		case ProtoTCP:
			if len(l4b) < 20 {
				return BadTransport
			}
			n := int(l4b[12]>>4) * 4
			if n < 20 || n > len(l4b) {
				return BadTransport
			}
			payload += n
		case ProtoUDP:
			if len(l4b) < 8 {
				return BadTransport
			}
			// Less than the IP length is allowed: RFC 9868 puts UDP options
			// there, and Linux trims. Zero, the jumbogram, is not.
			if n := int(binary.BigEndian.Uint16(l4b[4:])); n < 8 || n > len(l4b) {
				return BadTransport
			}
			payload += 8
		}
	}
	v.L3, v.L4, v.Payload, v.End = l3, l4, payload, end
	v.Version, v.Proto, v.Fragment = version, proto, fragment
	return None
}
