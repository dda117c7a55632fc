// SPDX-License-Identifier: Apache-2.0

package gso

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"vxtap/encap/packet"
	"vxtap/encap/virtio"
)

// spec is a frame to be made for a test. It is built byte by byte with a
// checksum of its own, so that nothing under test checks itself.
type spec struct {
	tagged, v6, udp bool
	dstMAC          byte // its last byte

	tos       uint8
	flowLabel uint32
	ttl       uint8
	id        uint16
	df        bool
	frag      uint16 // flags and offset beside DF
	ipOptions []byte

	srcHost, dstHost byte
	sport, dport     uint16
	seq, ack         uint32
	reserved         uint8 // low nibble of the data offset byte
	flags            uint8
	window, urgent   uint16
	tcpOptions       []byte

	payload []byte
}

// timestamps are the options that every Linux TCP segment has.
var timestamps = []byte{1, 1, 8, 10, 0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde, 0xf0}

// tcp4 is an ordinary data segment.
func tcp4(payload []byte) spec {
	return spec{
		dstMAC: 2, ttl: 64, id: 1000, df: true, srcHost: 1, dstHost: 2, sport: 40000, dport: 5201,
		seq: 1 << 20, ack: 77, flags: packet.ACK, window: 502, tcpOptions: timestamps, payload: payload,
	}
}

func tcp6(payload []byte) spec {
	s := tcp4(payload)
	s.v6, s.flowLabel = true, 0xabcde
	return s
}

func udp4(payload []byte) spec {
	return spec{udp: true, dstMAC: 2, ttl: 64, id: 1000, df: true, srcHost: 1, dstHost: 2, sport: 40000, dport: 443, payload: payload}
}

func udp6(payload []byte) spec {
	s := udp4(payload)
	s.v6, s.flowLabel = true, 0xabcde
	return s
}

// pattern returns n bytes that differ from place to place.
func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + i>>8*31)
	}
	return b
}

// rfc1071 is the ones'-complement sum, not complemented, in the slow way.
func rfc1071(parts ...[]byte) uint16 {
	var sum uint64
	for _, b := range parts {
		for i, x := range b {
			sum += uint64(x) << (8 * (1 - i%2))
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return uint16(sum)
}

func (s spec) l3() int {
	if s.tagged {
		return 18
	}
	return 14
}

func (s spec) l4() int {
	if s.v6 {
		return s.l3() + 40
	}
	return s.l3() + 20 + len(s.ipOptions)
}

func (s spec) headers() int {
	if s.udp {
		return s.l4() + 8
	}
	return s.l4() + 20 + len(s.tcpOptions)
}

func (s spec) addrs() []byte {
	if s.v6 {
		src := append([]byte{0xfd, 14: 0}, s.srcHost)
		return append(append(src, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0), s.dstHost)
	}
	return []byte{10, 5, 1, s.srcHost, 10, 5, 2, s.dstHost}
}

func (s spec) proto() byte {
	if s.udp {
		return packet.ProtoUDP
	}
	return packet.ProtoTCP
}

func (s spec) csumOffset() int {
	if s.udp {
		return 6
	}
	return 16
}

// pseudo returns the sum of the pseudo header.
func (s spec) pseudo() uint16 {
	n := len(s.l4Header()) + len(s.payload)
	return rfc1071(s.addrs(), []byte{0, s.proto()}, []byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
}

func (s spec) l4Header() []byte {
	be := binary.BigEndian
	b := be.AppendUint16(be.AppendUint16(nil, s.sport), s.dport)
	if s.udp {
		return append(be.AppendUint16(b, uint16(8+len(s.payload))), 0, 0)
	}
	b = be.AppendUint32(be.AppendUint32(b, s.seq), s.ack)
	b = append(b, byte(20+len(s.tcpOptions))<<2|s.reserved, s.flags)
	b = be.AppendUint16(b, s.window)
	b = append(b, 0, 0)
	return append(be.AppendUint16(b, s.urgent), s.tcpOptions...)
}

func (s spec) ipHeader() []byte {
	be := binary.BigEndian
	n := len(s.l4Header()) + len(s.payload)
	if s.v6 {
		b := be.AppendUint32(nil, 6<<28|uint32(s.tos)<<20|s.flowLabel)
		b = append(be.AppendUint16(b, uint16(n)), s.proto(), s.ttl)
		return append(b, s.addrs()...)
	}
	b := []byte{0x45 + byte(len(s.ipOptions)/4), s.tos}
	b = be.AppendUint16(be.AppendUint16(b, uint16(20+len(s.ipOptions)+n)), s.id)
	frag := s.frag
	if s.df {
		frag |= 0x4000
	}
	b = append(be.AppendUint16(b, frag), s.ttl, s.proto(), 0, 0)
	b = append(append(b, s.addrs()...), s.ipOptions...)
	be.PutUint16(b[10:], ^rfc1071(b))
	return b
}

// raw returns the frame with check as its transport checksum field.
func (s spec) raw(check uint16) []byte {
	b := []byte{0x02, 0, 0, 0, 0, s.dstMAC, 0x02, 0, 0, 0, 0, 1}
	if s.tagged {
		b = append(b, 0x81, 0, 0x20, 100)
	}
	if s.v6 {
		b = append(b, 0x86, 0xdd)
	} else {
		b = append(b, 0x08, 0x00)
	}
	b = append(b, s.ipHeader()...)
	l4 := s.l4Header()
	binary.BigEndian.PutUint16(l4[s.csumOffset():], check)
	return append(append(b, l4...), s.payload...)
}

// frame returns the frame complete.
func (s spec) frame() []byte {
	check := ^rfc1071([]byte{byte(s.pseudo() >> 8), byte(s.pseudo())}, s.l4Header(), s.payload)
	if s.udp && check == 0 {
		check = 0xffff
	}
	return s.raw(check)
}

// partial returns the frame as a local stack sends it: with the pseudo
// header's sum for a checksum, and the virtio header that says so.
func (s spec) partial() ([]byte, virtio.Header) {
	return s.raw(s.pseudo()), virtio.Header{
		Flags: virtio.NeedsCsum, HdrLen: uint16(s.headers()),
		CsumStart: uint16(s.l4()), CsumOffset: uint16(s.csumOffset()),
	}
}

// super returns the frame as a super-frame with segments of size.
func (s spec) super(size int) ([]byte, virtio.Header) {
	b, h := s.partial()
	h.GSOSize = uint16(size)
	switch {
	case s.udp:
		h.GSOType = virtio.GSOUDP
	case s.v6:
		h.GSOType = virtio.GSOTCPv6
	default:
		h.GSOType = virtio.GSOTCPv4
	}
	return b, h
}

// segments returns the specs of what a super-frame is to be cut into.
func (s spec) segments(size int) []spec {
	var out []spec
	for off := 0; off == 0 || off < len(s.payload); off += size {
		seg := s
		seg.payload = s.payload[off:min(off+size, len(s.payload))]
		seg.id += uint16(len(out))
		seg.seq += uint32(off)
		if off > 0 {
			seg.flags &^= packet.CWR
		}
		if off+size < len(s.payload) {
			seg.flags &^= packet.FIN | packet.PSH
		}
		out = append(out, seg)
	}
	return out
}

// mustParse returns the view of a frame that must parse.
func mustParse(t testing.TB, frame []byte) *packet.View {
	t.Helper()
	v := new(packet.View)
	if fault := v.Parse(frame); fault != packet.None {
		t.Fatalf("parse: %v: % x", fault, frame[:min(len(frame), 80)])
	}
	return v
}

// checkWithGopacket decodes a frame with gopacket and serialises it again with
// lengths and checksums computed: the bytes must be the same.
func checkWithGopacket(t testing.TB, frame []byte) {
	t.Helper()
	p := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.NoCopy)
	if e := p.ErrorLayer(); e != nil {
		t.Fatalf("gopacket: %v: % x", e.Error(), frame)
	}
	var all []gopacket.SerializableLayer
	for _, l := range p.Layers() {
		if l.LayerType() == layers.LayerTypeTCP || l.LayerType() == layers.LayerTypeUDP {
			if tcp, ok := l.(*layers.TCP); ok {
				_ = tcp.SetNetworkLayerForChecksum(p.NetworkLayer())
				all = append(all, tcp)
			} else if udp, ok := l.(*layers.UDP); ok {
				_ = udp.SetNetworkLayerForChecksum(p.NetworkLayer())
				all = append(all, udp)
			}
			all = append(all, gopacket.Payload(p.TransportLayer().LayerPayload()))
			break
		}
		s, ok := l.(gopacket.SerializableLayer)
		if !ok {
			t.Fatalf("gopacket cannot serialise %v", l.LayerType())
		}
		all = append(all, s)
	}
	buf := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, all...); err != nil {
		t.Fatalf("gopacket: %v", err)
	}
	got := buf.Bytes()[:len(frame)] // gopacket pads to 60
	if l, ok := p.TransportLayer().(*layers.UDP); ok {
		// A checksum that comes out as zero gopacket leaves zero, which is
		// none (RFC 768).
		check := got[len(frame)-len(l.Payload)-2:]
		if check[0] == 0 && check[1] == 0 {
			check[0], check[1] = 0xff, 0xff
		}
	}
	if !bytes.Equal(frame, got) {
		t.Fatalf("gopacket makes other bytes of it:\n  ours % x\ntheirs % x", frame, got)
	}
}

// joined returns head and payloads as one frame.
func joined(head []byte, payloads ...[]byte) []byte {
	return append(append([]byte(nil), head...), bytes.Join(payloads, nil)...)
}

// kernelTakes is __virtio_net_hdr_to_skb of Linux 6.18: why a frame written to
// a TAP under h would be refused with EINVAL, or "" if it is not.
func kernelTakes(frame []byte, h virtio.Header) string {
	nhMin, thLen := 0, 0
	switch h.GSOType &^ virtio.GSOECN {
	case virtio.GSONone:
	case virtio.GSOTCPv4:
		nhMin, thLen = 20, 20
	case virtio.GSOTCPv6:
		nhMin, thLen = 40, 20
	case virtio.GSOUDP:
		nhMin, thLen = 20, 8
	default:
		return "unknown GSO type"
	}
	if int(h.HdrLen) > len(frame) {
		return "hdr_len behind the end"
	}
	start, off := int(h.CsumStart), int(h.CsumOffset)
	if h.Flags&virtio.NeedsCsum != 0 {
		if start+max(thLen, off+2) > len(frame) {
			return "checksum behind the end"
		}
		if start < nhMin {
			return "checksum inside the network header"
		}
	}
	if !h.IsGSO() {
		return ""
	}
	switch {
	case h.GSOSize == 0 || h.GSOSize == 0xffff:
		return "GSO size"
	case h.Flags&virtio.NeedsCsum == 0:
		return "GSO without NEEDS_CSUM"
	case h.GSOType == virtio.GSOUDP && (off != 6 || len(frame)-start-8 > int(h.GSOSize)*128):
		return "UDP_L4 with a wrong offset or too many segments"
	case h.GSOType != virtio.GSOUDP && off != 16:
		return "TCP with a wrong offset"
	case len(frame)-start-thLen <= int(h.GSOSize):
		return "no more than one segment, silently no GSO"
	}
	return ""
}
