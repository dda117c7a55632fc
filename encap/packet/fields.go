// SPDX-License-Identifier: Apache-2.0

package packet

import (
	"encoding/binary"
	"math/bits"
	"net/netip"

	"vxtap/encap/checksum"
	"vxtap/encap/ether"
)

// The accessors below return the zero value where the frame has no such field.

// DstMAC returns the destination MAC.
func (v *View) DstMAC() ether.MAC {
	if len(v.Frame) < ether.HeaderLen {
		return ether.MAC{}
	}
	return ether.MAC(v.Frame[0:6])
}

// SrcMAC returns the source MAC.
func (v *View) SrcMAC() ether.MAC {
	if len(v.Frame) < ether.HeaderLen {
		return ether.MAC{}
	}
	return ether.MAC(v.Frame[6:12])
}

// SrcIPv4 returns the source address of an IPv4 packet in host order, which is
// what the hot loop compares with a prefix.
func (v *View) SrcIPv4() uint32 {
	if v.Version != 4 {
		return 0
	}
	return binary.BigEndian.Uint32(v.Frame[v.L3+12:])
}

// DstIPv4 returns the destination address of an IPv4 packet in host order.
func (v *View) DstIPv4() uint32 {
	if v.Version != 4 {
		return 0
	}
	return binary.BigEndian.Uint32(v.Frame[v.L3+16:])
}

// Src returns the source address of an IP packet.
func (v *View) Src() netip.Addr {
	switch v.Version {
	case 4:
		return netip.AddrFrom4([4]byte(v.Frame[v.L3+12:]))
	case 6:
		return netip.AddrFrom16([16]byte(v.Frame[v.L3+8:]))
	}
	return netip.Addr{}
}

// Dst returns the destination address of an IP packet.
func (v *View) Dst() netip.Addr {
	switch v.Version {
	case 4:
		return netip.AddrFrom4([4]byte(v.Frame[v.L3+16:]))
	case 6:
		return netip.AddrFrom16([16]byte(v.Frame[v.L3+24:]))
	}
	return netip.Addr{}
}

// AddrBytes returns the source and the destination address as they stand next
// to each other in the IP header, 8 or 32 bytes, for checksum.Pseudo. They
// belong to the frame.
func (v *View) AddrBytes() []byte {
	switch v.Version {
	case 4:
		return v.Frame[v.L3+12 : v.L3+20]
	case 6:
		return v.Frame[v.L3+8 : v.L3+40]
	}
	return nil
}

// HasPorts reports whether the frame has a whole TCP or UDP header.
func (v *View) HasPorts() bool { return v.Payload > v.L4 }

// Ports returns the source and the destination port.
func (v *View) Ports() (src, dst uint16) {
	if !v.HasPorts() {
		return 0, 0
	}
	p := binary.BigEndian.Uint32(v.Frame[v.L4:])
	return uint16(p >> 16), uint16(p)
}

// Bits of TCPFlags.
const (
	FIN = 1 << iota
	SYN
	RST
	PSH
	ACK
	URG
	ECE
	CWR
)

// TCPFlags returns the flags of a TCP segment.
func (v *View) TCPFlags() uint8 {
	if v.Proto != ProtoTCP || !v.HasPorts() {
		return 0
	}
	return v.Frame[v.L4+13]
}

// CsumOffset returns how far behind L4 the transport checksum lies: 16 for
// TCP, 6 for UDP. It is 0, which neither has, when there is none that a switch
// may touch.
func (v *View) CsumOffset() int {
	switch {
	case !v.HasPorts():
		return 0
	case v.Proto == ProtoTCP:
		return 16
	default:
		return 6
	}
}

// Csum returns the transport checksum field of TCP or UDP.
func (v *View) Csum() uint16 {
	off := v.CsumOffset()
	if off == 0 {
		return 0
	}
	return binary.BigEndian.Uint16(v.Frame[v.L4+off:])
}

// SetCsum writes the transport checksum field of TCP or UDP, and does nothing
// to other frames.
func (v *View) SetCsum(check uint16) {
	if off := v.CsumOffset(); off != 0 {
		binary.BigEndian.PutUint16(v.Frame[v.L4+off:], check)
	}
}

// L4Len returns the length of the transport header and its data: what the IP
// header leaves for TCP, what the UDP header says for UDP.
func (v *View) L4Len() int {
	if v.Proto == ProtoUDP && v.HasPorts() {
		return int(binary.BigEndian.Uint16(v.Frame[v.L4+4:]))
	}
	return v.End - v.L4
}

// TOS returns the IPv4 type of service or the IPv6 traffic class: DSCP in the
// upper six bits, ECN in the lower two.
func (v *View) TOS() uint8 {
	switch v.Version {
	case 4:
		return v.Frame[v.L3+1]
	case 6:
		return uint8(binary.BigEndian.Uint16(v.Frame[v.L3:]) >> 4)
	}
	return 0
}

// The ECN codepoints of RFC 3168, section 5.
const (
	NotECT = 0
	ECT1   = 1
	ECT0   = 2
	CE     = 3
)

// ECN returns the ECN codepoint, 0 for what is not IP.
func (v *View) ECN() uint8 { return v.TOS() & 3 }

// SetECN writes the ECN codepoint into the frame and repairs the IPv4 header
// checksum. Transport checksums do not cover it.
func (v *View) SetECN(ecn uint8) {
	switch v.Version {
	case 4:
		ip := v.Frame[v.L3 : v.L3+20]
		before := binary.BigEndian.Uint16(ip)
		after := before&^3 | uint16(ecn&3)
		binary.BigEndian.PutUint16(ip, after)
		binary.BigEndian.PutUint16(ip[10:], checksum.Update16(binary.BigEndian.Uint16(ip[10:]), before, after))
	case 6:
		ip := v.Frame[v.L3:]
		ip[1] = ip[1]&^0x30 | ecn&3<<4
	}
}

// FlowHash returns a hash that is the same for all frames of a flow: addresses,
// protocol and ports; without ports for fragments and other protocols, so that
// all pieces of a packet go the same way; the MACs for what is not IP. It is
// meant for spreading flows over outer source ports (RFC 7348, section 5) and
// is not symmetric, nor safe against somebody who looks for collisions.
func (v *View) FlowHash() uint32 {
	var a, b uint64
	switch v.Version {
	case 4:
		a = binary.BigEndian.Uint64(v.Frame[v.L3+12:])
		b = uint64(v.Proto)
	case 6:
		ip := v.Frame[v.L3 : v.L3+40]
		a = mix(binary.BigEndian.Uint64(ip[8:]), binary.BigEndian.Uint64(ip[16:]))
		b = mix(binary.BigEndian.Uint64(ip[24:]), binary.BigEndian.Uint64(ip[32:])) ^ uint64(v.Proto)
	default:
		if len(v.Frame) < ether.HeaderLen {
			return 0
		}
		a = binary.BigEndian.Uint64(v.Frame)
		b = uint64(binary.BigEndian.Uint32(v.Frame[8:]))
	}
	if v.HasPorts() {
		b ^= uint64(binary.BigEndian.Uint32(v.Frame[v.L4:])) << 8
	}
	h := mix(a, b)
	return uint32(h>>32) ^ uint32(h)
}

// mix folds a full 64x64 bit product: each bit of either word reaches all bits
// of the result. The constants are odd words without structure.
func mix(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a^0x9e3779b97f4a7c15, b^0xd1b54a32d192ed03)
	return hi ^ lo
}
