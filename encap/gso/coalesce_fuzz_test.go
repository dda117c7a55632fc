// SPDX-License-Identifier: Apache-2.0

package gso

import (
	"bytes"
	"encoding/binary"
	"testing"

	"vxtap/encap/packet"
	"vxtap/encap/virtio"
)

var joinAll = CoalescerOptions{TCP4: true, TCP6: true, UDP: true}

// undo cuts what comes out of a coalescer into the frames that went in, and
// checks on the way what must hold of every super-frame.
func undo(t testing.TB, supers []Super) [][]byte {
	t.Helper()
	var out [][]byte
	arena := NewArena(1 << 20)
	for i, s := range supers {
		frame := joined(s.Head, s.Payloads...)
		if s.Frames == 1 {
			if len(s.Payloads) != 0 {
				t.Fatalf("super %d: a frame alone has %d payloads", i, len(s.Payloads))
			}
			out = append(out, frame)
			continue
		}
		v := mustParse(t, frame)
		if v.End != len(frame) || int(s.Virtio.HdrLen) != v.Payload || len(s.Head) != v.Payload {
			t.Fatalf("super %d: ends at %d of %d, headers %d, hdr_len %d, head %d", i, v.End, len(frame), v.Payload, s.Virtio.HdrLen, len(s.Head))
		}
		if len(frame) > maxSuper || s.Frames > maxFrames || s.Frames != len(s.Payloads) {
			t.Fatalf("super %d: %d bytes of %d frames, %d payloads", i, len(frame), s.Frames, len(s.Payloads))
		}
		if why := kernelTakes(frame, s.Virtio); why != "" {
			t.Fatalf("super %d: the kernel would refuse it: %s", i, why)
		}
		if v.Version == 4 && rfc1071(frame[v.L3:v.L4]) != 0xffff {
			t.Fatalf("super %d: wrong IPv4 checksum", i)
		}
		length := []byte{byte(v.L4Len() >> 8), byte(v.L4Len())}
		if want := rfc1071(v.AddrBytes(), []byte{0, v.Proto}, length); v.Csum() != want {
			t.Fatalf("super %d: checksum field is %#04x, the pseudo header's sum %#04x", i, v.Csum(), want)
		}
		segs, fault := Split(nil, arena, nil, v, s.Virtio)
		if fault != None || len(segs) != s.Frames {
			t.Fatalf("super %d: split into %d of %d: %v", i, len(segs), s.Frames, fault)
		}
		bytesIn := 0
		for _, seg := range segs {
			out = append(out, joined(seg.Header, seg.Payload))
			bytesIn += seg.Len()
		}
		if s.Bytes != bytesIn {
			t.Fatalf("super %d: Bytes is %d, its frames have %d", i, s.Bytes, bytesIn)
		}
	}
	return out
}

// withoutID clears the IPv4 ID where DF makes it meaningless: frames with a
// fixed ID are joined, and come apart with IDs that count.
func withoutID(frame []byte) []byte {
	var v packet.View
	if v.Parse(frame) != packet.None || v.Version != 4 || frame[v.L3+6]&0x40 == 0 {
		return frame
	}
	frame = bytes.Clone(frame)
	binary.BigEndian.PutUint16(frame[v.L3+4:], 0)
	binary.BigEndian.PutUint16(frame[v.L3+10:], 0)
	return frame
}

// FuzzSplitThenJoin: cutting a super-frame gives the segments that were made
// by hand, and joining those again gives frames that are, once more cut, the
// same to the last byte.
func FuzzSplitThenJoin(f *testing.F) {
	f.Add(uint16(64308), uint16(1398), uint16(0), uint8(packet.ACK|packet.PSH), uint16(65530), uint32(1<<32-5000), uint8(12))
	f.Add(uint16(1), uint16(1), uint16(1), uint8(packet.ACK), uint16(0), uint32(0), uint8(0))
	f.Add(uint16(1399), uint16(1398), uint16(2), uint8(packet.ACK|packet.FIN|packet.CWR|packet.ECE), uint16(1), uint32(1), uint8(40))
	f.Add(uint16(9000), uint16(999), uint16(4), uint8(0), uint16(7), uint32(0), uint8(0))
	f.Add(uint16(48000), uint16(1200), uint16(6), uint8(0), uint16(7), uint32(0), uint8(0))
	f.Add(uint16(5000), uint16(77), uint16(0xffff), uint8(0xff), uint16(7), uint32(9), uint8(8))
	f.Fuzz(func(t *testing.T, length, size, shape uint16, flags uint8, id uint16, seq uint32, options uint8) {
		if size == 0 {
			return
		}
		s := tcp4(nil)
		s.tagged, s.v6, s.udp = shape&1 != 0, shape&2 != 0, shape&4 != 0
		s.df, s.tos = shape&8 != 0, uint8(shape>>4)
		s.flags, s.id, s.seq, s.urgent = flags, id, seq, shape>>8
		s.tcpOptions = pattern(int(options) % 11 * 4)
		if shape&0x10 != 0 && !s.v6 {
			s.ipOptions = []byte{1, 1, 1, 0}
		}
		s.payload = pattern(min(int(length), 65535-200))
		if len(s.payload)/int(size) > 2000 {
			return // only slow
		}
		frame, h := s.super(int(size))
		segs, fault := Split(nil, NewArena(1<<20), []byte("prefix.."), mustParse(t, frame), h)
		want := s.segments(int(size))
		if fault != None || len(segs) != len(want) {
			t.Fatalf("got %d segments, %v, want %d", len(segs), fault, len(want))
		}
		c := NewCoalescer(joinAll)
		frames := make([][]byte, len(segs))
		for i, seg := range segs {
			frames[i] = joined(seg.Header[8:], seg.Payload)
			if string(seg.Header[:8]) != "prefix.." || !bytes.Equal(frames[i], want[i].frame()) {
				t.Fatalf("segment %d:\n got % x\nwant % x", i, frames[i], want[i].frame())
			}
			c.Add(mustParse(t, frames[i]), virtio.Header{})
		}
		back := undo(t, c.Supers())
		if len(back) != len(frames) {
			t.Fatalf("%d frames came back as %d", len(frames), len(back))
		}
		for i := range back {
			if !bytes.Equal(back[i], frames[i]) {
				t.Fatalf("frame %d:\n got % x\nwant % x", i, back[i], frames[i])
			}
		}
	})
}

// FuzzCoalesce plays a script of frames of a few flows, with everything that
// can go wrong between two of them. However they are joined, cut again they
// are the same frames, each flow in its own order.
func FuzzCoalesce(f *testing.F) {
	f.Add([]byte{0, 0, 0, 0, 0, 0, 0, 0})
	f.Add([]byte{0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5})
	f.Add([]byte{0, 0x10, 0, 0x20, 0, 0x30, 0, 0x40, 0, 0x50, 0, 0x60, 0, 0x70, 0, 0x80, 0, 0x90, 0, 0xa0, 0, 0xb0, 0, 0xc0, 0, 0xd0, 0, 0xe0, 0, 0xf0, 0})
	f.Add([]byte{3, 3, 0x13, 3, 0x23, 3, 3, 0x33, 3, 3, 0x43, 3, 3, 0x53, 3, 3, 0x63, 0x73, 3, 0x83, 3, 0x93, 3})
	f.Add(bytes.Repeat([]byte{0}, 200))
	f.Fuzz(func(t *testing.T, script []byte) {
		script = script[:min(len(script), 600)]
		c := NewCoalescer(joinAll)
		var in [][]byte
		flows := [16]spec{}
		for i := range flows {
			s := tcp4(pattern(20 + 40*(i%3)))
			s.udp, s.v6, s.tagged = i%4 == 3, i%5 == 2, i%7 == 6
			s.df, s.sport = i%2 == 0, uint16(1000+i)
			flows[i] = s
		}
		frames, bytesIn := 0, 0
		for _, op := range script {
			s := &flows[op&15]
			frame := play(s, op>>4)
			v := mustParse(t, frame)
			h, fault := Describe(v, 0, 1450)
			if fault != None {
				t.Fatalf("describe: %v", fault)
			}
			c.Add(v, h)
			in = append(in, frame)
			frames++
			bytesIn += len(frame)
		}
		supers := c.Supers()
		for i, s := range supers {
			frames -= s.Frames
			bytesIn -= s.Bytes
			if i > 0 && s.First <= supers[i-1].First {
				t.Fatalf("super-frame %d begins with frame %d, the one before with %d", i, s.First, supers[i-1].First)
			}
			begin, got := in[s.First], s.Head
			if s.Frames > 1 {
				begin, got = begin[len(s.Head):], s.Payloads[0]
			}
			if !bytes.Equal(begin, got) {
				t.Fatalf("super-frame %d does not begin with frame %d", i, s.First)
			}
		}
		if frames != 0 || bytesIn != 0 {
			t.Fatalf("%d frames and %d bytes did not come out", frames, bytesIn)
		}
		out := undo(t, supers)
		for i := range flows {
			wantFlow, gotFlow := ofPort(in, flows[i].sport), ofPort(out, flows[i].sport)
			if len(wantFlow) != len(gotFlow) {
				t.Fatalf("flow %d: %d frames came out as %d", i, len(wantFlow), len(gotFlow))
			}
			for j := range wantFlow {
				if !bytes.Equal(withoutID(wantFlow[j]), withoutID(gotFlow[j])) {
					t.Fatalf("flow %d, frame %d:\n got % x\nwant % x", i, j, gotFlow[j], wantFlow[j])
				}
			}
		}
	})
}

// play makes the next frame of a flow, with something odd about it.
func play(s *spec, odd byte) []byte {
	f := *s
	advance := true
	switch odd {
	case 1:
		f.flags |= packet.PSH
	case 2:
		f.payload = nil // a pure acknowledgement, or an empty datagram
	case 3:
		f.payload = f.payload[:7]
	case 4:
		f.payload = pattern(len(f.payload) + 1)
	case 5:
		f.seq++ // a hole
	case 6:
		s.ack++
		f.ack++
	case 7:
		if f.udp { // no checksum
			advanceFlow(s, f, advance)
			return f.raw(0)
		}
		f.flags |= packet.FIN
	case 8:
		f.flags |= packet.CWR
	case 9:
		f.tos |= packet.CE
	case 10: // a first fragment
		f.frag = 0x2000 // IPv4 only
	case 11:
		advance = false // the same again
	case 12:
		s.id-- // the ID stays
	case 13:
		f.tcpOptions = bytes.Clone(timestamps)
		f.tcpOptions[7]++
	case 14:
		b, _ := f.partial()
		advanceFlow(s, f, advance)
		return b
	case 15: // damage
		b := f.frame()
		b[len(b)-1] ^= 0x40
		advanceFlow(s, f, advance)
		return b
	}
	advanceFlow(s, f, advance)
	return f.frame()
}

func advanceFlow(s *spec, sent spec, advance bool) {
	if advance {
		s.seq = sent.seq + uint32(len(sent.payload))
		s.id++
	}
}

// ofPort returns the frames from source port, fragments included.
func ofPort(frames [][]byte, port uint16) [][]byte {
	var out [][]byte
	for _, f := range frames {
		var v packet.View
		if v.Parse(f) == packet.None && v.Version != 0 && binary.BigEndian.Uint16(f[v.L4:]) == port {
			out = append(out, f)
		}
	}
	return out
}
