// SPDX-License-Identifier: Apache-2.0

package gso

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"vxtap/encap/packet"
	"vxtap/encap/virtio"
)

// randomSpec makes a super-frame of any kind, everything in it random, with a
// liking for what is at an edge.
func randomSpec(r *rand.Rand) (s spec, size int) {
	s = spec{
		tagged: r.IntN(4) == 0, v6: r.IntN(2) == 0, udp: r.IntN(3) == 0, dstMAC: byte(r.Uint32()),
		tos: byte(r.Uint32()), flowLabel: r.Uint32N(1 << 20), ttl: byte(1 + r.IntN(255)), df: r.IntN(2) == 0,
		id: uint16(-r.IntN(80)), srcHost: byte(r.Uint32()), dstHost: byte(r.Uint32()),
		// Ports that nobody owns, or gopacket reads the payload as what belongs there.
		sport: uint16(49152 + r.IntN(1<<14)), dport: uint16(49152 + r.IntN(1<<14)),
		seq: uint32(-r.IntN(1 << 17)), ack: r.Uint32(), window: uint16(r.Uint32()),
		flags: packet.ACK,
	}
	if r.IntN(2) == 0 {
		s.seq, s.id = r.Uint32(), uint16(r.Uint32())
	}
	for _, flag := range []uint8{packet.PSH, packet.FIN, packet.CWR, packet.ECE, packet.URG} {
		if r.IntN(6) == 0 {
			s.flags |= flag
		}
	}
	if s.flags&packet.URG != 0 {
		s.urgent = uint16(r.Uint32())
	}
	s.tcpOptions = randomOptions(r)
	if !s.v6 && r.IntN(8) == 0 {
		s.ipOptions = [][]byte{{1, 1, 1, 1}, {148, 4, 0, 0}, {7, 7, 4, 0, 0, 0, 0, 1}}[r.IntN(3)]
	}
	switch r.IntN(3) {
	case 0:
		size = 1 + r.IntN(100)
	case 1:
		size = 1 + r.IntN(9000)
	default:
		size = 1398
	}
	n := 1 + r.IntN(70) // segments
	tail := []int{1, size, 1 + r.IntN(size)}[r.IntN(3)]
	longest := 65535 - 60 - 60
	if !s.v6 {
		longest -= len(s.ipOptions)
	}
	s.payload = make([]byte, min((n-1)*size+tail, longest))
	for i := range s.payload {
		s.payload[i] = byte(r.Uint32())
	}
	return s, size
}

// randomOptions returns TCP options that decode, of a length that counts in
// fours.
func randomOptions(r *rand.Rand) []byte {
	var b []byte
	for _, o := range [][]byte{
		{1, 1, 8, 10, byte(r.Uint32()), 2, 3, 4, 5, 6, 7, byte(r.Uint32())}, // timestamps
		{1, 1, 5, 10, 0, 0, 0, 1, 0, 0, 0, byte(r.Uint32())},                // one SACK block
		{2, 4, 5, 0xb4}, // MSS
		{1, 3, 3, 7},    // window scale
		{34, 12, byte(r.Uint32()), 1, 2, 3, 4, 5, 6, 7, 8, byte(r.Uint32N(99))}, // TCP fast open
	} {
		if r.IntN(3) == 0 && len(b)+len(o) <= 40 {
			b = append(b, o...)
		}
	}
	return b
}

// joinedCounts is the model: of which numbers of frames the super-frames are
// that the segments of s may be joined to.
func joinedCounts(segments []spec) []int {
	var counts []int
	open, total := false, 0
	for _, s := range segments {
		alone := len(s.ipOptions) > 0 || len(s.payload) == 0 || !s.udp && s.flags&^packet.PSH != packet.ACK
		total += len(s.payload)
		if open && !alone && counts[len(counts)-1] < 64 && s.headers()+total <= maxSuper {
			counts[len(counts)-1]++
		} else {
			counts = append(counts, 1)
			total = len(s.payload)
		}
		open = !alone && (s.udp || s.flags&packet.PSH == 0)
	}
	return counts
}

// checkIdentity cuts a super-frame, has every segment read by gopacket, joins
// the segments, and cuts again what was joined.
func checkIdentity(t *testing.T, s spec, size int) {
	t.Helper()
	frame, h := s.super(size)
	if s.flags&packet.CWR != 0 && !s.udp {
		h.GSOType |= virtio.GSOECN
	}
	segs, fault := Split(nil, NewArena(1<<20), []byte("prefix.."), mustParse(t, frame), h)
	want := s.segments(size)
	if fault != None || len(segs) != len(want) {
		t.Fatalf("got %d segments, %v, want %d", len(segs), fault, len(want))
	}
	frames := make([][]byte, len(segs))
	c := NewCoalescer(joinAll)
	var stream []byte
	for i, seg := range segs {
		frames[i] = joined(seg.Header[len("prefix.."):], seg.Payload)
		if !bytes.Equal(frames[i], want[i].frame()) {
			t.Fatalf("segment %d:\n got % x\nwant % x", i, frames[i], want[i].frame())
		}
		stream = append(stream, decodeSegment(t, frames[i], s, i, len(stream))...)
		c.Add(mustParse(t, frames[i]), virtio.Header{})
	}
	if !bytes.Equal(stream, s.payload) {
		t.Fatal("gopacket reads another byte stream out of the segments")
	}
	supers := c.Supers()
	if diff := cmp.Diff(joinedCounts(want), counts(supers)); diff != "" {
		t.Fatalf("frames (-want +got)\n%s%+v", diff, s)
	}
	if len(supers) == 1 && len(frames) > 1 {
		if got := joined(supers[0].Head, supers[0].Payloads...); !bytes.Equal(got, frame) || supers[0].Virtio != h {
			t.Fatalf("joined to another super-frame than was cut:\n got %+v % x\nwant %+v % x", supers[0].Virtio, supers[0].Head, h, frame[:len(supers[0].Head)])
		}
	}
	for i, back := range undo(t, supers) {
		if !bytes.Equal(back, frames[i]) {
			t.Fatalf("frame %d, joined and cut again:\n got % x\nwant % x", i, back, frames[i])
		}
	}
}

// decodeSegment reads segment i of s, which starts at offset of the stream,
// with gopacket, and returns its payload.
func decodeSegment(t *testing.T, frame []byte, s spec, i, offset int) []byte {
	t.Helper()
	checkWithGopacket(t, frame)
	p := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.NoCopy)
	if ip, ok := p.NetworkLayer().(*layers.IPv4); ok && (ip.Id != s.id+uint16(i) || int(ip.Length) != len(frame)-s.l3()) {
		t.Fatalf("segment %d: ID %d, length %d of %d", i, ip.Id, ip.Length, len(frame))
	}
	l := p.TransportLayer()
	if tcp, ok := l.(*layers.TCP); ok {
		last := offset+len(tcp.Payload) == len(s.payload)
		if tcp.Seq != s.seq+uint32(offset) || tcp.Ack != s.ack || tcp.Window != s.window || tcp.Urgent != s.urgent ||
			tcp.CWR != (i == 0 && s.flags&packet.CWR != 0) || tcp.ECE != (s.flags&packet.ECE != 0) || tcp.URG != (s.flags&packet.URG != 0) ||
			tcp.FIN != (last && s.flags&packet.FIN != 0) || tcp.PSH != (last && s.flags&packet.PSH != 0) {
			t.Fatalf("segment %d: %+v", i, tcp)
		}
	}
	return l.LayerPayload()
}

// TestSegmentThenCoalesce: segments joined again are the super-frame that they
// were cut from, to the last bit of its headers, and where that may not be,
// the same frames as far as they may be joined.
func TestSegmentThenCoalesce(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	kinds := map[[3]bool]int{}
	for range 600 {
		s, size := randomSpec(r)
		kinds[[3]bool{s.v6, s.udp, s.tagged}]++
		checkIdentity(t, s, size)
	}
	if len(kinds) != 8 {
		t.Errorf("only %d kinds of frame of 8 were made", len(kinds))
	}
}

func FuzzSegmentThenCoalesce(f *testing.F) {
	for seed := range uint64(20) {
		f.Add(seed, seed)
	}
	f.Fuzz(func(t *testing.T, a, b uint64) {
		s, size := randomSpec(rand.New(rand.NewPCG(a, b)))
		checkIdentity(t, s, size)
	})
}

// goodChecksums reports whether the checksums of a frame are right, worked out
// without the package that made them.
func goodChecksums(v *packet.View) bool {
	if v.Version == 4 && rfc1071(v.Frame[v.L3:v.L4]) != 0xffff {
		return false
	}
	n := v.L4Len()
	length := binary.BigEndian.AppendUint32(nil, uint32(n))
	return rfc1071(v.AddrBytes(), []byte{0, v.Proto}, length, v.Frame[v.L4:v.L4+n]) == 0xffff
}
