// SPDX-License-Identifier: Apache-2.0

package gso

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"strings"
	"testing"

	"vxtap/encap/packet"
	"vxtap/encap/virtio"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Ethernet, IP, transport, payload; worked out outside this program.
const (
	eth4 = "020000000002 020000000001 0800 "
	eth6 = "020000000002 020000000001 8100 2064 86dd "
	ips6 = "fd000000000000000000000000000001 fd000000000000000000000000000002 "
)

func TestSplitVectors(t *testing.T) {
	tests := []struct {
		name  string
		super string
		h     virtio.Header
		want  []string
	}{
		{
			name: "TCPv4: ID and sequence wrap, CWR first, FIN and PSH last, ECE and ACK on all",
			super: eth4 + "4502002d ffff4000 400623bb 0a050102 0a050203" +
				"9c401451 fffffffe 0000004d 50d901f6 172e0000" + "68656c6c6f",
			h: virtio.Header{Flags: virtio.NeedsCsum, GSOType: virtio.GSOTCPv4 | virtio.GSOECN, GSOSize: 2, CsumStart: 34, CsumOffset: 16},
			want: []string{
				eth4 + "4502002a ffff4000 400623be 0a050102 0a050203" + "9c401451 fffffffe 0000004d 50d001f6 7ccb0000" + "6865",
				eth4 + "4502002a 00004000 400623be 0a050102 0a050203" + "9c401451 00000000 0000004d 505001f6 79430000" + "6c6c",
				eth4 + "45020029 00014000 400623be 0a050102 0a050203" + "9c401451 00000002 0000004d 505901f6 76a50000" + "6f",
			},
		},
		{
			name:  "UDPv6 behind a VLAN tag: odd size, one byte left",
			super: eth6 + "600abcde 000f1140" + ips6 + "9c4001bb 000ffa24" + "61626364656667",
			h:     virtio.Header{Flags: virtio.NeedsCsum, GSOType: virtio.GSOUDP, GSOSize: 3, CsumStart: 58, CsumOffset: 6},
			want: []string{
				eth6 + "600abcde 000b1140" + ips6 + "9c4001bb 000ba375" + "616263",
				eth6 + "600abcde 000b1140" + ips6 + "9c4001bb 000b9d72" + "646566",
				eth6 + "600abcde 00091140" + ips6 + "9c4001bb 000900dc" + "67",
			},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			segs, fault := Split(nil, NewArena(1000), []byte{0x08, 0, 0, 0, 0, 0, 1, 0}, mustParse(t, unhex(t, tt.super)), tt.h)
			if fault != None || len(segs) != len(tt.want) {
				t.Fatalf("got %d segments, %v, want %d", len(segs), fault, len(tt.want))
			}
			for i, seg := range segs {
				got, want := joined(seg.Header, seg.Payload), unhex(t, "0800000000000100"+tt.want[i])
				if !bytes.Equal(got, want) {
					t.Errorf("segment %d:\n got %x\nwant %x", i, got, want)
				}
				checkWithGopacket(t, got[8:])
			}
		})
	}
}

// TestSplitSizes has the sizes at which something may go wrong by one, each in
// all kinds of frames.
func TestSplitSizes(t *testing.T) {
	kinds := []struct {
		name string
		make func([]byte) spec
	}{
		{name: "TCPv4", make: tcp4}, {name: "TCPv6", make: tcp6}, {name: "UDPv4", make: udp4}, {name: "UDPv6", make: udp6},
	}
	sizes := []struct {
		name          string
		payload, size int
		segments      int
	}{
		{name: "no payload", payload: 0, size: 1398, segments: 1},
		{name: "one byte", payload: 1, size: 1398, segments: 1},
		{name: "one byte short of a segment", payload: 1397, size: 1398, segments: 1},
		{name: "a segment", payload: 1398, size: 1398, segments: 1},
		{name: "a segment and a tail of one byte", payload: 1399, size: 1398, segments: 2},
		{name: "an exact multiple", payload: 4 * 1398, size: 1398, segments: 4},
		{name: "a full super-frame of Linux", payload: 46 * 1398, size: 1398, segments: 46},
		{name: "63 segments", payload: 63 * 1000, size: 1000, segments: 63},
		{name: "64 segments, the last of one byte", payload: 63*1000 + 1, size: 1000, segments: 64},
		{name: "64 segments", payload: 64 * 1000, size: 1000, segments: 64},
		{name: "64 segments and a tail of one byte", payload: 64*1000 + 1, size: 1000, segments: 65},
		{name: "127 segments", payload: 127 * 500, size: 500, segments: 127},
		{name: "128 segments, the last of one byte", payload: 127*500 + 1, size: 500, segments: 128},
		{name: "128 segments", payload: 128 * 500, size: 500, segments: 128},
		{name: "129 segments, the last of one byte", payload: 128*500 + 1, size: 500, segments: 129},
		{name: "as many as one UDP_SEGMENT send takes", payload: 44 * 1398, size: 1398, segments: 44},
		{name: "segments of one byte", payload: 300, size: 1, segments: 300},
		{name: "odd segments", payload: 1000, size: 333, segments: 4},
		{name: "what fits one UDP datagram", payload: 65507 - 14 - 8 - 20 - 32, size: 1398, segments: 47},
		{name: "the longest IP packet", payload: 65535 - 40 - 32, size: 1398, segments: 47},
		{name: "a size larger than any payload", payload: 65535 - 40 - 32, size: 65535, segments: 1},
	}
	arena := NewArena(1 << 16)
	for _, k := range kinds {
		for _, tt := range sizes {
			t.Run(k.name+": "+tt.name, func(t *testing.T) {
				s := k.make(pattern(tt.payload))
				s.flags |= packet.PSH
				frame, h := s.super(tt.size)
				arena.Reset()
				segs, fault := Split(nil, arena, nil, mustParse(t, frame), h)
				if fault != None || len(segs) != tt.segments {
					t.Fatalf("got %d segments, %v, want %d", len(segs), fault, tt.segments)
				}
				for i, want := range s.segments(tt.size) {
					if got := joined(segs[i].Header, segs[i].Payload); !bytes.Equal(got, want.frame()) {
						t.Fatalf("segment %d:\n got % x\nwant % x", i, got, want.frame())
					}
				}
				for _, i := range []int{0, len(segs) / 2, len(segs) - 1} {
					checkWithGopacket(t, joined(segs[i].Header, segs[i].Payload))
				}
			})
		}
	}
}

func TestSplitFaults(t *testing.T) {
	payload := pattern(5000)
	fragment := tcp4(payload)
	fragment.frag = 0x2000
	tests := []struct {
		name string
		s    spec
		edit func(frame []byte, h *virtio.Header)
		want Fault
	}{
		{name: "no super-frame", s: tcp4(payload), edit: func(_ []byte, h *virtio.Header) { h.GSOType = virtio.GSONone }, want: BadType},
		{name: "only the ECN bit", s: tcp4(payload), edit: func(_ []byte, h *virtio.Header) { h.GSOType = virtio.GSOECN }, want: BadType},
		{name: "TCPv6 says the header of a TCPv4 frame", s: tcp4(payload), edit: func(_ []byte, h *virtio.Header) { h.GSOType = virtio.GSOTCPv6 }, want: BadType},
		{name: "TCPv4 says the header of a TCPv6 frame", s: tcp6(payload), edit: func(_ []byte, h *virtio.Header) { h.GSOType = virtio.GSOTCPv4 }, want: BadType},
		{name: "UDP says the header of a TCP frame", s: tcp4(payload), edit: func(_ []byte, h *virtio.Header) { h.GSOType = virtio.GSOUDP }, want: BadType},
		{name: "TCPv4 says the header of a UDP frame", s: udp4(payload), edit: func(_ []byte, h *virtio.Header) { h.GSOType = virtio.GSOTCPv4 }, want: BadType},
		{name: "UDP with ECN", s: udp4(payload), edit: func(_ []byte, h *virtio.Header) { h.GSOType |= virtio.GSOECN }, want: BadType},
		{name: "UFO", s: udp4(payload), edit: func(_ []byte, h *virtio.Header) { h.GSOType = 3 }, want: BadType},
		{name: "a tunnel type", s: tcp4(payload), edit: func(_ []byte, h *virtio.Header) { h.GSOType |= 0x20 }, want: BadType},
		{name: "a fragment", s: fragment, want: BadType},
		{name: "ICMP", s: udp4(payload), edit: func(b []byte, _ *virtio.Header) { b[23] = packet.ProtoICMP }, want: BadType},
		{name: "no IP", s: udp4(payload), edit: func(b []byte, _ *virtio.Header) { b[13] = 0x06 }, want: BadType},
		{name: "UDP shorter than its IP packet", s: udp4(payload), edit: func(b []byte, _ *virtio.Header) { binary.BigEndian.PutUint16(b[38:], 100) }, want: BadType},
		{name: "segments of nothing", s: tcp4(payload), edit: func(_ []byte, h *virtio.Header) { h.GSOSize = 0 }, want: BadSize},
		{name: "no NEEDS_CSUM", s: tcp4(payload), edit: func(_ []byte, h *virtio.Header) { h.Flags = virtio.DataValid }, want: BadCsumStart},
		{name: "checksum starts before the transport header", s: tcp4(payload), edit: func(_ []byte, h *virtio.Header) { h.CsumStart -= 2 }, want: BadCsumStart},
		{name: "checksum starts behind the frame", s: tcp4(payload), edit: func(_ []byte, h *virtio.Header) { h.CsumStart = 0xffff }, want: BadCsumStart},
		{name: "TCP with the checksum where UDP has it", s: tcp4(payload), edit: func(_ []byte, h *virtio.Header) { h.CsumOffset = 6 }, want: BadCsumStart},
		{name: "UDP with the checksum where TCP has it", s: udp4(payload), edit: func(_ []byte, h *virtio.Header) { h.CsumOffset = 16 }, want: BadCsumStart},
		{name: "more segments than the arena holds", s: tcp4(payload), edit: func(_ []byte, h *virtio.Header) { h.GSOSize = 1 }, want: NoRoom},
		{name: "hdr_len is not looked at", s: tcp4(payload), edit: func(_ []byte, h *virtio.Header) { h.HdrLen = 0xffff }},
		{name: "unknown flags are not looked at", s: tcp4(payload), edit: func(_ []byte, h *virtio.Header) { h.Flags |= 0xf0 }},
		{name: "ECN", s: tcp4(payload), edit: func(_ []byte, h *virtio.Header) { h.GSOType |= virtio.GSOECN }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			frame, h := tt.s.super(1000)
			if tt.edit != nil {
				tt.edit(frame, &h)
			}
			before := bytes.Clone(frame)
			arena := NewArena(1000)
			dst := []Segment{{Header: []byte("kept")}}
			got, fault := Split(dst, arena, nil, mustParse(t, frame), h)
			if fault != tt.want {
				t.Fatalf("got %v, want %v", fault, tt.want)
			}
			if fault != None && (len(got) != 1 || arena.used != 0) {
				t.Errorf("a fault left %d segments and %d bytes of the arena, want 1 and 0", len(got), arena.used)
			}
			if fault == None && len(got) != 6 {
				t.Errorf("got %d segments, want the 1 that was there and 5", len(got))
			}
			if !bytes.Equal(frame, before) {
				t.Error("the super-frame was changed")
			}
		})
	}
}

// TestSplitIgnoresTheOldChecksum: segments are right whatever the field had.
func TestSplitIgnoresTheOldChecksum(t *testing.T) {
	s := tcp4(pattern(3000))
	_, h := s.super(1398)
	segs, fault := Split(nil, NewArena(1000), nil, mustParse(t, s.raw(0xdead)), h)
	if fault != None {
		t.Fatal(fault)
	}
	for i, want := range s.segments(1398) {
		if got := joined(segs[i].Header, segs[i].Payload); !bytes.Equal(got, want.frame()) {
			t.Errorf("segment %d:\n got % x\nwant % x", i, got, want.frame())
		}
	}
}

// TestSplitLeavesPaddingOut: Ethernet padding is no payload.
func TestSplitLeavesPaddingOut(t *testing.T) {
	s := tcp4(pattern(100))
	frame, h := s.super(60)
	segs, fault := Split(nil, NewArena(1000), nil, mustParse(t, append(frame, "padding"...)), h)
	if fault != None || len(segs) != 2 || len(segs[1].Payload) != 40 {
		t.Errorf("got %d segments, the last of %d, %v, want 2, the last of 40", len(segs), len(segs[len(segs)-1].Payload), fault)
	}
}

// TestSplitExtensionHeaders: they are copied to each segment, and count in the
// IPv6 length.
func TestSplitExtensionHeaders(t *testing.T) {
	s := tcp6(pattern(2500))
	plain, h := s.super(1000)
	ext := []byte{packet.ProtoTCP, 0, 1, 4, 0, 0, 0, 0} // destination options: PadN
	frame := joined(plain[:54], ext, plain[54:])
	frame[20] = 60
	binary.BigEndian.PutUint16(frame[18:], uint16(len(frame)-54))
	h.CsumStart += 8
	segs, fault := Split(nil, NewArena(1000), nil, mustParse(t, frame), h)
	if fault != None || len(segs) != 3 {
		t.Fatalf("got %d segments, %v, want 3", len(segs), fault)
	}
	for i, w := range s.segments(1000) {
		got, want := joined(segs[i].Header, segs[i].Payload), w.frame()
		want = joined(want[:54], ext, want[54:])
		want[20] = 60
		binary.BigEndian.PutUint16(want[18:], uint16(len(want)-54))
		if !bytes.Equal(got, want) {
			t.Errorf("segment %d:\n got % x\nwant % x", i, got, want)
		}
	}
}

// TestSegmentsShareNoMemory: appending to one header must not reach the next.
func TestSegmentsShareNoMemory(t *testing.T) {
	frame, h := tcp4(pattern(2000)).super(1000)
	segs, _ := Split(nil, NewArena(1000), nil, mustParse(t, frame), h)
	second := bytes.Clone(segs[1].Header)
	_ = append(segs[0].Header, 0xff)
	if !bytes.Equal(segs[1].Header, second) {
		t.Error("appending to one header changed the next")
	}
}

// TestUDPChecksumZero has payloads whose checksum comes out as zero, which on
// the wire would mean none.
func TestUDPChecksumZero(t *testing.T) {
	zero := func(s spec) spec {
		// The last two bytes make the sum 0xffff.
		s.payload = append(pattern(998), 0, 0)
		sum := rfc1071([]byte{byte(s.pseudo() >> 8), byte(s.pseudo())}, s.l4Header(), s.payload)
		binary.BigEndian.PutUint16(s.payload[998:], ^sum)
		return s
	}
	for _, s := range []spec{zero(udp4(nil)), zero(udp6(nil))} {
		t.Run("Split", func(t *testing.T) {
			frame, h := s.super(1000)
			segs, fault := Split(nil, NewArena(1000), nil, mustParse(t, frame), h)
			if fault != None || len(segs) != 1 {
				t.Fatalf("got %d segments, %v", len(segs), fault)
			}
			if got := mustParse(t, joined(segs[0].Header, segs[0].Payload)).Csum(); got != 0xffff {
				t.Errorf("got %#04x, want 0xffff", got)
			}
		})
		t.Run("Complete", func(t *testing.T) {
			frame, h := s.partial()
			if fault := Complete(frame, h); fault != None {
				t.Fatal(fault)
			}
			if got := mustParse(t, frame).Csum(); got != 0xffff {
				t.Errorf("got %#04x, want 0xffff", got)
			}
		})
	}
}

func TestComplete(t *testing.T) {
	sctp := udp4(pattern(64))
	tests := []struct {
		name string
		make func() (frame []byte, h virtio.Header, want []byte)
		want Fault
	}{
		{name: "TCPv4 without payload", make: func() ([]byte, virtio.Header, []byte) {
			s := tcp4(nil)
			b, h := s.partial()
			return b, h, s.frame()
		}},
		{name: "TCPv6 of odd length behind a tag", make: func() ([]byte, virtio.Header, []byte) {
			s := tcp6(pattern(777))
			s.tagged = true
			b, h := s.partial()
			return b, h, s.frame()
		}},
		{name: "UDPv4", make: func() ([]byte, virtio.Header, []byte) {
			s := udp4(pattern(1400))
			b, h := s.partial()
			return b, h, s.frame()
		}},
		{name: "another protocol: wherever the header says", make: func() ([]byte, virtio.Header, []byte) {
			b, _ := sctp.partial()
			b[23] = 132
			b[42], b[43] = 0, 0
			want := bytes.Clone(b)
			binary.BigEndian.PutUint16(want[42:], ^rfc1071(b[34:]))
			return b, virtio.Header{Flags: virtio.NeedsCsum, CsumStart: 34, CsumOffset: 8}, want
		}},
		{name: "not asked for", make: func() ([]byte, virtio.Header, []byte) {
			b := tcp4(pattern(10)).raw(0xdead)
			return b, virtio.Header{CsumStart: 34, CsumOffset: 16}, b
		}},
		{name: "a super-frame", want: BadType, make: func() ([]byte, virtio.Header, []byte) {
			b, h := tcp4(pattern(3000)).super(1000)
			return b, h, b
		}},
		{name: "starts inside the Ethernet header", want: BadCsumStart, make: func() ([]byte, virtio.Header, []byte) {
			b, h := tcp4(pattern(10)).partial()
			h.CsumStart = 13
			return b, h, b
		}},
		{name: "field half behind the end", want: BadCsumStart, make: func() ([]byte, virtio.Header, []byte) {
			b, h := tcp4(pattern(10)).partial()
			h.CsumOffset = uint16(len(b)) - h.CsumStart - 1
			return b, h, b
		}},
		{name: "right behind the Ethernet header, the field last", make: func() ([]byte, virtio.Header, []byte) {
			b := append(make([]byte, 14), 0x12, 0x34, 0, 0)
			want := append(make([]byte, 14), 0x12, 0x34, 0xed, 0xcb)
			return b, virtio.Header{Flags: virtio.NeedsCsum, CsumStart: 14, CsumOffset: 2}, want
		}},
		{name: "everything as large as can be", want: BadCsumStart, make: func() ([]byte, virtio.Header, []byte) {
			b := tcp4(pattern(10)).frame()
			return b, virtio.Header{Flags: virtio.NeedsCsum, CsumStart: 0xffff, CsumOffset: 0xffff}, b
		}},
		{name: "no frame", want: BadCsumStart, make: func() ([]byte, virtio.Header, []byte) {
			return nil, virtio.Header{Flags: virtio.NeedsCsum}, nil
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			frame, h, want := tt.make()
			want = bytes.Clone(want)
			if got := Complete(frame, h); got != tt.want {
				t.Fatalf("got %v, want %v", got, tt.want)
			}
			if !bytes.Equal(frame, want) {
				t.Errorf("\n got % x\nwant % x", frame, want)
			}
		})
	}
}

func TestArena(t *testing.T) {
	a := NewArena(100)
	if a.take(3, 40) != nil || a.used != 0 {
		t.Error("120 bytes came out of 100")
	}
	if len(a.take(2, 50)) != 100 || a.take(1, 1) != nil {
		t.Error("100 bytes did not come out of 100, or more did")
	}
	a.Reset()
	if len(a.take(100, 1)) != 100 {
		t.Error("Reset did not give all of it back")
	}
}

func TestFaultNames(t *testing.T) {
	seen := map[string]bool{}
	for f := None; f <= TooBig; f++ {
		if s := f.String(); s == "" || s == "unknown" || seen[s] {
			t.Errorf("fault %d is called %q", f, s)
		}
		seen[f.String()] = true
	}
	if got := (TooBig + 1).String(); got != "unknown" {
		t.Errorf("got %q, want unknown", got)
	}
}

// FuzzSplit takes whatever a TAP, or Describe, could be made to say.
func FuzzSplit(f *testing.F) {
	seed := func(s spec, size int) {
		frame, h := s.super(size)
		b := make([]byte, virtio.HeaderLen)
		h.Put(b)
		f.Add(frame, b)
	}
	seed(tcp4(pattern(200)), 60)
	seed(tcp6(pattern(200)), 61)
	seed(udp4(pattern(200)), 1)
	seed(udp6(nil), 1)
	f.Fuzz(func(t *testing.T, frame, header []byte) {
		if len(header) < virtio.HeaderLen || len(frame) > 1<<17 {
			return
		}
		var h virtio.Header
		h.Decode(header)
		before := bytes.Clone(frame)
		var v packet.View
		if v.Parse(frame) != packet.None {
			return
		}
		arena := NewArena(1 << 16)
		segs, fault := Split(nil, arena, nil, &v, h)
		if !bytes.Equal(frame, before) {
			t.Fatal("the super-frame was changed")
		}
		if fault != None {
			if len(segs) != 0 || arena.used != 0 {
				t.Fatalf("%v, but %d segments", fault, len(segs))
			}
			return
		}
		var payload []byte
		for _, s := range segs {
			w := mustParse(t, joined(s.Header, s.Payload))
			if w.End != len(w.Frame) || !goodChecksums(w) || len(s.Payload) > int(h.GSOSize) {
				t.Fatalf("bad segment % x", w.Frame)
			}
			payload = append(payload, s.Payload...)
		}
		if !bytes.Equal(payload, v.Frame[v.Payload:v.End]) {
			t.Fatal("the payload is not the same")
		}
	})
}

func FuzzComplete(f *testing.F) {
	frame, h := tcp4(pattern(50)).partial()
	b := make([]byte, virtio.HeaderLen)
	h.Put(b)
	f.Add(frame, b)
	f.Add([]byte{}, make([]byte, virtio.HeaderLen))
	f.Add(make([]byte, 16), []byte{1, 0, 0, 0, 0, 0, 14, 0, 0, 0})
	f.Fuzz(func(t *testing.T, frame, header []byte) {
		if len(header) < virtio.HeaderLen {
			return
		}
		var h virtio.Header
		h.Decode(header)
		before := bytes.Clone(frame)
		fault := Complete(frame, h)
		start, field := int(h.CsumStart), int(h.CsumStart)+int(h.CsumOffset)
		if fault == None && h.Flags&virtio.NeedsCsum != 0 {
			check := binary.BigEndian.Uint16(frame[field:])
			if want := ^rfc1071(before[start:]); check != want && (want != 0 || check != 0xffff) {
				t.Fatalf("got %#04x, want %#04x", check, want)
			}
			copy(before[field:], frame[field:field+2])
		}
		if !bytes.Equal(frame, before) {
			t.Fatal("more than the checksum was changed")
		}
	})
}
