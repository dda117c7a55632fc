// SPDX-License-Identifier: Apache-2.0

package vxlan

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"vxtap/encap/buffer"
	"vxtap/encap/checksum"
	"vxtap/encap/ether"
)

// Lengths and offsets in an Outer.
const (
	// OuterLen is what stands before the inner frame on an IPv4 underlay, the
	// outer Ethernet header included.
	OuterLen = outerUDP + 8 + HeaderLen
	// OuterUDP is where the outer UDP header starts.
	OuterUDP = outerUDP

	outerIP  = ether.HeaderLen
	outerUDP = outerIP + 20
)

// outerTTL is what Linux's VXLAN device sends where no TTL is configured
// (net.ipv4.ip_default_ttl), and one more: the host forwards our frames, which
// takes one off.
const outerTTL = 64 + 1

// Endpoint is our side of an outer header.
type Endpoint struct {
	MAC   ether.MAC      // of the device that our frames enter the host by: their destination
	Local netip.AddrPort // our address, IPv4, and the VXLAN port of both ends
}

// Outer is all headers outside the inner frame on the way to one peer:
// Ethernet, IPv4, UDP, VXLAN. It is made once for each peer; Put copies it
// before a frame and fills in what differs from frame to frame. It is not
// changed by that, and anyone may use it.
type Outer struct {
	bytes  [OuterLen]byte
	ipSum  uint32 // over the IPv4 header without TOS, length, ID and checksum
	udpSum uint32 // over the pseudo header without the length
}

// NewOuter returns the headers to the VTEP at to. buf, which needs OuterLen
// bytes of headroom, and room after it for gopacket to pad a short Ethernet
// frame to 60 bytes, is written to and stays the caller's.
func NewOuter(e Endpoint, to netip.Addr, header Header, buf *buffer.Buffer) (*Outer, error) {
	if !e.Local.Addr().Is4() || !to.Is4() {
		return nil, fmt.Errorf("outer headers from %s to %s: only IPv4 underlays are there so far", e.Local.Addr(), to)
	}
	// The source MAC is never looked at: a router throws the header away.
	mac := e.MAC
	mac[5] ^= 1
	from, port := e.Local.Addr(), layers.UDPPort(e.Local.Port())
	_ = buf.Clear()
	for _, layer := range []gopacket.SerializableLayer{
		gopacket.Payload(header[:]),
		&layers.UDP{DstPort: port},
		&layers.IPv4{Version: 4, IHL: 5, TTL: outerTTL, Protocol: layers.IPProtocolUDP, SrcIP: from.AsSlice(), DstIP: to.AsSlice()},
		&layers.Ethernet{SrcMAC: mac[:], DstMAC: e.MAC[:], EthernetType: layers.EthernetTypeIPv4},
	} {
		if err := layer.SerializeTo(buf, gopacket.SerializeOptions{}); err != nil {
			return nil, fmt.Errorf("serialise outer headers to %s: %w", to, err)
		}
	}
	o := &Outer{bytes: [OuterLen]byte(buf.Bytes()[:OuterLen])}
	ip := o.bytes[outerIP:outerUDP]
	o.ipSum = checksum.Sum(ip, 0)
	o.udpSum = checksum.Pseudo(ip[12:], uint8(layers.IPProtocolUDP), 0)
	return o, nil
}

// Put writes the headers to the first OuterLen bytes of b, for an inner frame
// of length bytes. DF is clear, as Linux's VXLAN device leaves it.
//
// The IPv4 checksum is complete. The UDP checksum holds the pseudo header's
// sum only: whoever cuts the frame, or puts it on a wire, adds the rest.
// length must leave room for the headers in 65535 bytes.
func (o *Outer) Put(b []byte, length int, tos uint8, id, sourcePort uint16) {
	_ = b[OuterLen-1]
	copy(b, o.bytes[:])
	udp := 8 + HeaderLen + length
	total := uint16(20 + udp)
	b[outerIP+1] = tos
	binary.BigEndian.PutUint16(b[outerIP+2:], total)
	binary.BigEndian.PutUint16(b[outerIP+4:], id)
	binary.BigEndian.PutUint16(b[outerIP+10:], ^checksum.Fold(o.ipSum+uint32(tos)+uint32(total)+uint32(id)))
	binary.BigEndian.PutUint16(b[outerUDP:], sourcePort)
	binary.BigEndian.PutUint16(b[outerUDP+4:], uint16(udp))
	binary.BigEndian.PutUint16(b[outerUDP+6:], checksum.Fold(o.udpSum+uint32(udp)))
}
