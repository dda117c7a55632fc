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
// like any other. Probes are super-frames sent by the uplink. With them goes a
// small datagram from an ordinary socket, as the control: a peer that neither
// goes out to proves nothing.
//
// A rule may be for some sizes or source ports only. So there is one from every
// port, mostly as small as a super-frame can be; one has full segments, and is
// as large as a frame may be where nothing was proven before.

// probe is one super-frame.
type probe struct {
	port          uint16
	size, segment int // bytes of TCP payload, in all and of each segment
}

// smallSegment is the size of the segments that prove a port and nothing more.
const smallSegment = 64

// innerLen is the length of the headers inside a probe.
const innerLen = ether.HeaderLen + 20 + 20

// probesOf returns the probes that answer q.
func (d *Device) probesOf(q question) []probe {
	list := make([]probe, len(d.Ports))
	for i, port := range d.Ports {
		list[i] = probe{port, 2 * smallSegment, smallSegment}
	}
	full := min(d.mtu()-40, largestMSS)
	whole := &list[q.turn%len(list)]
	whole.size, whole.segment = 2*full, full
	if q.anew {
		whole.size = (maxWhole - innerLen) / full * full
	}
	return list
}

// controlLen is the length of the control's payload: a header and nothing in it.
const controlLen = vxlan.HeaderLen + ether.HeaderLen

// largestMSS is the largest segment that fits an IPv4 packet twice, behind the
// headers outside and inside. Where the MTU is larger still, smaller segments
// have to do for the proof.
const largestMSS = (maxWhole - innerLen) / 2

// maxWhole is the largest frame that fits an IPv4 packet with what is before it.
const maxWhole = 1<<16 - 1 - (vxlan.OuterLen - ether.HeaderLen)

// mark is what we know our own by: anybody may send zeros through this host. It
// stands, with the source port that was written, where the inner source MAC
// does, in each segment.
type mark [4]byte

// with returns the mark of a probe from port, 0 for the control.
func (m mark) with(port uint16) []byte { return binary.BigEndian.AppendUint16(m[:], port) }

// frame returns the super-frame to be written, behind its virtio header. outer
// leads to the peer.
func (p probe) frame(outer *vxlan.Outer, m mark) (frame []byte, err error) {
	inner, err := innerFrame(m.with(p.port), p.size)
	if err != nil {
		return nil, err
	}
	const start = virtio.TunnelHeaderLen + vxlan.OuterLen
	b := make([]byte, start, start+len(inner))
	outer.Put(b[virtio.TunnelHeaderLen:], len(inner), 0, 0, p.port)
	virtio.Header{
		Flags: virtio.NeedsCsum, GSOType: virtio.GSOTCPv4, GSOSize: uint16(p.segment),
		HdrLen: vxlan.OuterLen + innerLen, CsumStart: vxlan.OuterLen + 34, CsumOffset: 16,
	}.PutTunnel(b, vxlan.OuterUDP, vxlan.OuterLen+ether.HeaderLen)
	return append(b, inner...), nil
}

// outerTo returns the outer headers of the probes to a peer.
func (d *Device) outerTo(peer netip.Addr) (*vxlan.Outer, error) {
	return vxlan.NewOuter(d.Endpoint(), peer, vxlan.Header{}, buffer.New(vxlan.OuterLen, 64))
}

// controlPayload is what the control carries.
func controlPayload(m mark) []byte {
	b := make([]byte, controlLen)
	copy(b[vxlan.HeaderLen+6:], m.with(0))
	return b
}

// innerFrame returns a TCP super-frame with n bytes of zeros between addresses
// that are for documents (RFC 5737), its checksum partial.
func innerFrame(mac []byte, n int) ([]byte, error) {
	ip := &layers.IPv4{Version: 4, TTL: 1, Protocol: layers.IPProtocolTCP, SrcIP: []byte{192, 0, 2, 1}, DstIP: []byte{192, 0, 2, 2}}
	buf := gopacket.NewSerializeBuffer()
	err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true},
		&layers.Ethernet{SrcMAC: mac, DstMAC: make([]byte, 6), EthernetType: layers.EthernetTypeIPv4},
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
