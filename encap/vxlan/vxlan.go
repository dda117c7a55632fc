// SPDX-License-Identifier: Apache-2.0

// Package vxlan has the VXLAN header of RFC 7348, section 5:
//
//	 0                   1                   2                   3
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|R|R|R|R|I|R|R|R|            Reserved                           |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//	|                VXLAN Network Identifier (VNI) |   Reserved    |
//	+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
package vxlan

import (
	"encoding/binary"
	"fmt"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"vxtap/encap/buffer"
)

// Sizes in bytes.
const (
	HeaderLen = 8
	// OverheadIPv4 is what encapsulation over an IPv4 underlay takes from the
	// MTU: outer IPv4 20, UDP 8, VXLAN 8, inner Ethernet 14.
	OverheadIPv4 = 20 + 8 + HeaderLen + 14
	// OverheadIPv6 is the same over an IPv6 underlay, whose header is 40
	// bytes. flanneld tells containers OverheadIPv4 also then, while its kernel
	// makes the device itself as small as this (v0.28.10 on Linux 6.18).
	OverheadIPv6 = 40 + 8 + HeaderLen + 14
)

// Ports. 8472 is what Linux used before IANA gave out 4789, and what flannel's
// vxlan backend uses on Linux to this day.
const (
	PortFlannel = 8472
	PortIANA    = 4789
)

// VNI is a VXLAN network identifier, 24 bits.
type VNI uint32

// MaxVNI is the largest identifier that fits the header.
const MaxVNI VNI = 1<<24 - 1

// Header is the VXLAN header as it goes on the wire.
type Header [HeaderLen]byte

// Template returns the header for vni with the I flag set and every reserved
// bit zero, as RFC 7348 section 5 demands of a sender. It is made once per
// segment and copied before each frame. buf, which needs HeaderLen bytes of
// headroom, is written to and stays the caller's.
func Template(vni VNI, buf *buffer.Buffer) (Header, error) {
	if vni > MaxVNI {
		return Header{}, fmt.Errorf("VNI %d does not fit 24 bits", vni)
	}
	// gopacket leaves the flag byte zero unless ValidIDFlag is set; every peer
	// drops such a frame.
	layer := layers.VXLAN{ValidIDFlag: true, VNI: uint32(vni)}
	if err := layer.SerializeTo(buf, gopacket.SerializeOptions{}); err != nil {
		return Header{}, fmt.Errorf("serialise VXLAN header: %w", err)
	}
	return Header(buf.Bytes()[:HeaderLen]), nil
}

// Flag bits outside the VNI, as one big-endian word over bytes 0-3.
const (
	flagI = 0x08 << 24
	// gbpBits are G, D, A and the policy identifier of the Group Based Policy
	// extension (draft-smith-vxlan-group-policy); Linux sends them when the
	// device was made with "gbp".
	gbpBits = 0x80<<24 | 0x40<<16 | 0x08<<16 | 0xffff
)

// Fault says why a VXLAN header was refused.
type Fault uint8

// The faults of a VXLAN header; None is the zero value.
const (
	None Fault = iota
	Short
	NoVNIFlag
	ReservedBits
)

// Parse reads the header at the start of a UDP payload. Bits that RFC 7348
// reserves are refused as Linux refuses them (vxlan_rcv: "unparsed" bits drop
// the frame), although the RFC would have them ignored: a header that says
// something which we do not understand may change what the frame means. gbp
// admits the bits of Group Based Policy.
func Parse(b []byte, gbp bool) (VNI, Fault) {
	if len(b) < HeaderLen {
		return 0, Short
	}
	flags, id := binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:])
	if flags&flagI == 0 {
		return 0, NoVNIFlag
	}
	flags &^= flagI
	if gbp {
		flags &^= gbpBits
	}
	if flags != 0 || id&0xff != 0 {
		return 0, ReservedBits
	}
	return VNI(id >> 8), None
}
