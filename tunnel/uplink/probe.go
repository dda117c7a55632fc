// SPDX-License-Identifier: Apache-2.0

package uplink

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"vxtap/encap/buffer"
	"vxtap/encap/checksum"
	"vxtap/encap/ether"
	"vxtap/encap/virtio"
	"vxtap/encap/vxlan"
)

// A probe is a VXLAN datagram whose header is all zeros. Without the I flag
// every VTEP must drop it (RFC 7348, section 5), the kernel's without a word;
// vxtap's counts it as a probe. To all between here and there it is a datagram
// like any other. Two kinds are sent together: a super-frame of two full
// segments by the uplink, and a small one from an ordinary socket, as the
// control: a peer that neither goes out to proves nothing.

// controlLen is the length of the control's payload: a header and nothing in it.
const controlLen = vxlan.HeaderLen + ether.HeaderLen

// largestMSS is the largest segment that fits an IPv4 packet twice, behind the
// headers outside and inside. Where the MTU is larger still, smaller segments
// have to do for the proof.
const largestMSS = (1<<16 - 1 - (vxlan.OuterLen - ether.HeaderLen) - 54) / 2

// probeFrame returns the super-frame to be written for the peer at to, behind
// its virtio header, and how many bytes of IP its segments have in sum.
func probeFrame(e vxlan.Endpoint, to netip.Addr, mtu int, port uint16) (frame []byte, err error) {
	mss := min(mtu-40, largestMSS)
	inner, err := innerFrame(2 * mss)
	if err != nil {
		return nil, err
	}
	buf := buffer.New(vxlan.OuterLen, 64)
	outer, err := vxlan.NewOuter(e, to, vxlan.Header{}, buf)
	if err != nil {
		return nil, err
	}
	const start = virtio.TunnelHeaderLen + vxlan.OuterLen
	b := make([]byte, start, start+len(inner))
	outer.Put(b[virtio.TunnelHeaderLen:], len(inner), 0, 0, port)
	virtio.Header{
		Flags: virtio.NeedsCsum, GSOType: virtio.GSOTCPv4, GSOSize: uint16(mss),
		HdrLen: vxlan.OuterLen + 54, CsumStart: vxlan.OuterLen + 34, CsumOffset: 16,
	}.PutTunnel(b, vxlan.OuterUDP, vxlan.OuterLen+ether.HeaderLen)
	return append(b, inner...), nil
}

// innerFrame returns a TCP super-frame with n bytes of zeros between addresses
// that are for documents (RFC 5737), its checksum partial.
func innerFrame(n int) ([]byte, error) {
	ip := &layers.IPv4{Version: 4, TTL: 1, Protocol: layers.IPProtocolTCP, SrcIP: []byte{192, 0, 2, 1}, DstIP: []byte{192, 0, 2, 2}}
	buf := gopacket.NewSerializeBuffer()
	err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true},
		&layers.Ethernet{SrcMAC: make([]byte, 6), DstMAC: make([]byte, 6), EthernetType: layers.EthernetTypeIPv4},
		ip,
		&layers.TCP{SrcPort: 9, DstPort: 9, ACK: true, Window: 1},
		gopacket.Payload(make([]byte, n)))
	if err != nil {
		return nil, fmt.Errorf("serialise a probe: %w", err)
	}
	b := buf.Bytes()
	binary.BigEndian.PutUint16(b[24:], ^checksum.Fold(checksum.Sum(b[14:34], 0)))
	binary.BigEndian.PutUint16(b[50:], checksum.Fold(checksum.Pseudo(b[26:34], 6, 20+n)))
	return b, nil
}

// sighting is what was seen to leave by the interface, in sum.
type sighting struct {
	control bool
	bytes   int // of VXLAN payload in segments of the probe
	changed string
}

// see takes note of one IPv4 packet to the peer that has a zero VXLAN header.
func (s *sighting) see(packet []byte, from netip.AddrPort) {
	if len(packet) < 28 || packet[0]>>4 != 4 {
		return
	}
	ihl := int(packet[0]&15) * 4
	if ihl < 20 || len(packet) < ihl+8 {
		return
	}
	payload := int(binary.BigEndian.Uint16(packet[ihl+4:])) - 8
	if payload == controlLen {
		s.control = true
		return
	}
	addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte(packet[12:16])), binary.BigEndian.Uint16(packet[ihl:]))
	switch fragment := binary.BigEndian.Uint16(packet[6:]) & 0x3fff; {
	case fragment != 0:
		s.changed = "the host fragments what it forwards: the MTU on the way to the peer is too small"
	case addr != from:
		// Without the ports, which are others with each probe: what is said again
		// is the same, and no news.
		s.changed = fmt.Sprintf("the host changes the source of what it forwards, %s, to %s and a port of its own: exempt it from masquerading", from.Addr(), addr.Addr())
	default:
		s.bytes += payload
	}
}

// judge returns what the sighting says about the way. want is how many bytes of
// VXLAN payload the probe has as one packet; cut into segments it has more, for
// each has headers of its own.
func (s *sighting) judge(want int) (verdict, string) {
	switch {
	case s.changed != "":
		return blocked, s.changed
	case s.bytes >= want:
		return passes, ""
	case s.control:
		return blocked, "the host drops what it should forward: look at the FORWARD chain, reverse path filtering and policy routes"
	}
	return unknown, ""
}
