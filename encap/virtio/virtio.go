// SPDX-License-Identifier: Apache-2.0

// Package virtio reads and writes the header that a TAP opened with
// IFF_VNET_HDR puts before every frame (virtio 1.2, section 5.1.6; Linux
// include/uapi/linux/virtio_net.h): which checksum is still to be filled in,
// and whether the frame is a super-frame to be cut into segments.
//
// The bytes come from the kernel, but also stand between us and every peer
// that can send frames, so the consumers check each field against the frame.
package virtio

import "encoding/binary"

// HeaderLen is the length of the header that a TAP uses by default
// (TUNGETVNETHDRSZ); the longer forms add fields that we do not ask for.
const HeaderLen = 10

// Flags say what is missing in a frame.
type Flags uint8

// NeedsCsum means that the transport checksum field holds only the folded sum
// of the pseudo header: the rest is to be added by whoever puts the frame on a
// wire. DataValid means that somebody has verified the checksum.
const (
	NeedsCsum Flags = 1
	DataValid Flags = 2
)

// GSOType says how a super-frame is to be cut.
type GSOType uint8

// The kinds of super-frame a TAP hands out when asked to (TUNSETOFFLOAD).
// GSOECN is a bit beside TCPv4 or TCPv6: only the first segment carries CWR.
const (
	GSONone  GSOType = 0
	GSOTCPv4 GSOType = 1
	GSOTCPv6 GSOType = 4
	GSOUDP   GSOType = 5 // UDP_L4: one datagram per segment, not IP fragments
	GSOECN   GSOType = 0x80
)

// Header describes one frame. The zero value says: complete, nothing to do.
// Offsets count from the first byte of the Ethernet frame.
//
// It is small and passed by value; the methods take a pointer all the same.
// Arguments come in registers, one a field, and a method on the value would
// copy it through memory: written in pieces and read as a whole, which stalls
// the processor for longer than the method takes (9 ns a frame on Zen 4).
type Header struct {
	Flags   Flags
	GSOType GSOType
	// HdrLen is the length of all headers, Ethernet to transport. On read it
	// is a hint that is often wrong (Linux: skb_headlen); on write it must be
	// exact, for the kernel places that much in linear memory.
	HdrLen     uint16
	GSOSize    uint16 // payload bytes per segment
	CsumStart  uint16 // where the transport header starts
	CsumOffset uint16 // from CsumStart to the checksum field
}

// Put writes h into the first HeaderLen bytes of b in the machine's byte
// order, which is what a TAP expects without TUNSETVNETLE. b must be long
// enough.
func (h *Header) Put(b []byte) {
	_ = b[HeaderLen-1]
	b[0], b[1] = byte(h.Flags), byte(h.GSOType)
	binary.NativeEndian.PutUint16(b[2:], h.HdrLen)
	binary.NativeEndian.PutUint16(b[4:], h.GSOSize)
	binary.NativeEndian.PutUint16(b[6:], h.CsumStart)
	binary.NativeEndian.PutUint16(b[8:], h.CsumOffset)
}

// TunnelHeaderLen is the length of the header for frames that are inside a UDP
// tunnel: struct virtio_net_hdr_v1_hash_tunnel, Linux 6.17. A TAP uses it after
// TUNSETVNETHDRSZ.
const TunnelHeaderLen = 24

// The bits beside a GSOType and NeedsCsum that TunnelHeaderLen brings (virtio
// 1.4, section 5.1.6).
const (
	// GSOTunnelIPv4 says that the super-frame is inside a UDP tunnel over IPv4.
	GSOTunnelIPv4 GSOType = 0x20
	// TunnelCsum says that the outer UDP checksum is partial as well.
	TunnelCsum Flags = 8
)

// PutTunnel writes h into the first TunnelHeaderLen bytes of b, for a
// super-frame inside a UDP tunnel over IPv4. All offsets count from the first
// byte of the outer frame: those of h, which are about the inner packet,
// outerTransport, where the outer UDP header starts, and innerNetwork, where
// the inner IP header does. No hash is reported.
func (h Header) PutTunnel(b []byte, outerTransport, innerNetwork uint16) {
	_ = b[TunnelHeaderLen-1]
	h.Flags |= TunnelCsum
	h.GSOType |= GSOTunnelIPv4
	h.Put(b)
	clear(b[HeaderLen:20])
	// Little endian whatever the machine: the only fields of the kind.
	binary.LittleEndian.PutUint16(b[20:], outerTransport)
	binary.LittleEndian.PutUint16(b[22:], innerNetwork)
}

// Decode assigns every field of h from the first HeaderLen bytes of b, which
// must be long enough.
func (h *Header) Decode(b []byte) {
	_ = b[HeaderLen-1]
	*h = Header{
		Flags:      Flags(b[0]),
		GSOType:    GSOType(b[1]),
		HdrLen:     binary.NativeEndian.Uint16(b[2:]),
		GSOSize:    binary.NativeEndian.Uint16(b[4:]),
		CsumStart:  binary.NativeEndian.Uint16(b[6:]),
		CsumOffset: binary.NativeEndian.Uint16(b[8:]),
	}
}

// IsGSO reports whether the frame is a super-frame.
func (h *Header) IsGSO() bool { return h.GSOType&^GSOECN != GSONone }
