// SPDX-License-Identifier: Apache-2.0

package gso

import (
	"encoding/binary"

	"vxtap/encap/checksum"
	"vxtap/encap/ether"
	"vxtap/encap/packet"
	"vxtap/encap/virtio"
	"vxtap/encap/vxlan"
)

// A kernel VXLAN peer on the same machine, or behind veth, leaves to the
// receiver what hardware would have done. It hands a plain UDP socket inner
// super-frames of up to 64 KB as one datagram, and inner TCP and UDP checksums
// that hold only the pseudo header's sum. With UDP_GRO on, the segment size
// that comes with such a datagram is the inner one. (Measured on Linux 6.18.)

// maxUDPSegments is how many segments a UDP super-frame may have: Linux's
// UDP_MAX_SEGMENTS since 6.9. Older kernels take 64, and refuse more with
// EINVAL when it is written to the TAP.
const maxUDPSegments = 128

// IsBatch reports whether datagram, a UDP payload that came with the UDP_GRO
// segment size cmsgSize (0: none came), is several VXLAN datagrams joined, to
// be cut every cmsgSize bytes. If not, it is one frame whatever cmsgSize says,
// and cmsgSize goes to Describe.
//
// It is one frame when the IP header of the first inner frame says that the
// packet ends where the datagram ends, or that it is longer than a segment.
func IsBatch(datagram []byte, cmsgSize int) bool {
	if cmsgSize <= 0 || cmsgSize >= len(datagram) {
		return false
	}
	length, ok := firstFrameLen(datagram)
	return !ok || length <= cmsgSize
}

// firstFrameLen returns how long the first VXLAN datagram says that it is,
// from the IP header inside. It is false for what is not IP: only IP comes as
// a super-frame.
func firstFrameLen(datagram []byte) (int, bool) {
	l3 := vxlan.HeaderLen + ether.HeaderLen
	if len(datagram) < l3 {
		return 0, false
	}
	typ := ether.Type(binary.BigEndian.Uint16(datagram[l3-2:]))
	if typ == ether.TypeVLAN || typ == ether.TypeQinQ {
		l3 += 4
		if len(datagram) < l3 {
			return 0, false
		}
		typ = ether.Type(binary.BigEndian.Uint16(datagram[l3-2:]))
	}
	ip := datagram[l3:]
	switch {
	case typ == ether.TypeIPv4 && len(ip) >= 20:
		return l3 + int(binary.BigEndian.Uint16(ip[2:])), true
	case typ == ether.TypeIPv6 && len(ip) >= 40:
		return l3 + 40 + int(binary.BigEndian.Uint16(ip[4:])), true
	}
	return 0, false
}

// Describe returns the header under which the frame v, arrived from the
// underlay, may be written to a TAP whose MTU is mtu. cmsgSize is the UDP_GRO
// segment size of a datagram that is no batch, else 0.
//
//   - A TCP or UDP checksum that holds only the pseudo header's sum becomes
//     NEEDS_CSUM. A complete one that has that value by chance (once in 65536)
//     comes to no harm: what the kernel fills in is the same value again.
//   - A TCP packet larger than mtu becomes a super-frame with the largest
//     segments that fit: the true MSS is not known, and matters only where the
//     frame is segmented again.
//   - A UDP packet with more payload than cmsgSize becomes one with segments
//     of cmsgSize, also when it would fit the MTU whole: the sender's
//     datagrams, however small, must not come out as one.
//   - Anything else larger than mtu is TooBig.
//   - All else is complete, and the header zero.
//
// A super-frame with a complete checksum, from a sender that segments nothing
// but fills in checksums, is verified, and the pseudo header's sum is put in
// its place in the frame: no super-frame may go to the kernel without
// NEEDS_CSUM. If it is wrong, the fault is BadChecksum; UDP over IPv4 without one
// gets one, which a packet socket can be the reason for. Checksums of frames
// that fit the MTU are not verified.
//
// Describe never allocates. It is cheap enough to be called for every frame,
// those from a batch included (with cmsgSize 0): partial checksums come in
// small frames too.
func Describe(v *packet.View, cmsgSize, mtu int) (virtio.Header, Fault) {
	big := v.End-v.L3 > mtu
	typ := superType(v)
	if typ == virtio.GSONone {
		if big {
			return virtio.Header{}, TooBig
		}
		return virtio.Header{}, None
	}
	pseudo := checksum.Fold(checksum.Pseudo(v.AddrBytes(), v.Proto, v.L4Len()))
	partial := v.Csum() == pseudo
	super := big || typ == virtio.GSOUDP && cmsgSize > 0 && v.End-v.Payload > cmsgSize
	if !super && !partial {
		return virtio.Header{}, None
	}
	h := virtio.Header{
		Flags:      virtio.NeedsCsum,
		HdrLen:     uint16(v.Payload),
		CsumStart:  uint16(v.L4),
		CsumOffset: uint16(v.CsumOffset()),
	}
	if !super {
		return h, None
	}
	size := segmentSize(v, typ, cmsgSize, mtu)
	if size == 0 {
		return virtio.Header{}, TooBig
	}
	if !partial {
		if v.Proto == packet.ProtoUDP && v.Csum() == 0 {
			// None was made, which is for IPv4 only. The segments get one: the
			// kernel cuts no super-frame without.
			if v.Version != 4 {
				return virtio.Header{}, BadChecksum
			}
		} else if !verify(v) {
			return virtio.Header{}, BadChecksum
		}
		v.SetCsum(pseudo)
	}
	h.GSOType, h.GSOSize = typ, uint16(size)
	if v.TCPFlags()&packet.CWR != 0 {
		h.GSOType |= virtio.GSOECN
	}
	return h, None
}

// segmentSize returns how much payload a segment of the oversize packet v may
// have, or 0 if v cannot be a super-frame.
func segmentSize(v *packet.View, typ virtio.GSOType, cmsgSize, mtu int) int {
	room := mtu - (v.Payload - v.L3)
	if room <= 0 || v.End != len(v.Frame) {
		return 0
	}
	if typ != virtio.GSOUDP {
		return min(room, maxGSOSize)
	}
	// UDP_L4 demands a length that covers all segments.
	payload := v.End - v.Payload
	if cmsgSize <= 0 || cmsgSize > min(room, maxGSOSize) || payload > cmsgSize*maxUDPSegments ||
		v.L4+v.L4Len() != v.End {
		return 0
	}
	return cmsgSize
}

// maxGSOSize is the largest gso_size; 0xffff has a meaning of its own in Linux
// (GSO_BY_FRAGS).
const maxGSOSize = 0xfffe

// verify reports whether the transport checksum of v is right. v is TCP, or
// UDP with a checksum.
func verify(v *packet.View) bool {
	n := v.L4Len()
	l4 := v.Frame[v.L4 : v.L4+n]
	return checksum.Sum(l4, checksum.Pseudo(v.AddrBytes(), v.Proto, n)) == 0xffff
}
