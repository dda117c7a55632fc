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

// mark is what we know our own by: anybody may send zeros through this host. It
// stands, with the source port that was written, where the inner source MAC
// does, in each segment.
type mark [4]byte

// with returns the mark of a probe from port, 0 for the control.
func (m mark) with(port uint16) []byte { return binary.BigEndian.AppendUint16(m[:], port) }

// probeFrame returns the super-frame to be written for the peer at to, behind
// its virtio header.
func probeFrame(e vxlan.Endpoint, to netip.Addr, mtu int, port uint16, m mark) (frame []byte, err error) {
	mss := min(mtu-40, largestMSS)
	inner, err := innerFrame(m.with(port), 2*mss)
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
