// SPDX-License-Identifier: Apache-2.0

package gso

import (
	"bytes"
	"testing"

	"vxtap/encap/packet"
	"vxtap/encap/virtio"
)

// full is what Linux's TCP hands out behind an MTU of 1450: 46 segments.
func full() ([]byte, virtio.Header) { return tcp4(pattern(46 * 1398)).super(1398) }

// wire returns the segments of s as frames.
func wire(s spec, size int) [][]byte {
	var frames [][]byte
	for _, seg := range s.segments(size) {
		frames = append(frames, seg.frame())
	}
	return frames
}

// mixed is a batch as a busy receiver sees it: 512 frames of 40 flows.
func mixed() [][]byte {
	var frames [][]byte
	flows := make([]spec, 40)
	for i := range flows {
		flows[i] = tcp4(pattern(100 + 50*(i%5)))
		flows[i].sport += uint16(i)
		flows[i].v6, flows[i].udp = i%3 == 1, i%4 == 2
	}
	for i := range 512 {
		f := &flows[i*i/7%len(flows)]
		if s := *f; i%11 == 0 && !s.udp {
			s.payload = nil
			frames = append(frames, s.frame())
			continue
		}
		frames = append(frames, f.frame())
		*f = next(*f)
	}
	return frames
}

func TestAllocs(t *testing.T) {
	prefix := []byte{0x08, 0, 0, 0, 0, 0, 1, 0}
	arena := NewArena(1 << 14)
	dst := make([]Segment, 0, 64)
	super, superHeader := full()
	sv := mustParse(t, super)
	partial, partialHeader := tcp4(pattern(1398)).partial()
	pv := mustParse(t, bytes.Clone(partial))
	c := NewCoalescer(joinAll)
	var views []*packet.View
	for _, f := range append(wire(tcp4(pattern(46*1398)), 1398), mixed()...) {
		views = append(views, mustParse(t, f))
	}
	batch := datagram(partial, partial)
	tests := []struct {
		name string
		do   func()
	}{
		{name: "Split", do: func() {
			arena.Reset()
			dst, _ = Split(dst[:0], arena, prefix, sv, superHeader)
		}},
		{name: "Split with a fault", do: func() { dst, _ = Split(dst[:0], arena, prefix, pv, partialHeader) }},
		{name: "Complete", do: func() { Complete(partial, partialHeader) }},
		{name: "IsBatch", do: func() { IsBatch(batch, len(batch)/2) }},
		{name: "Describe", do: func() { _, _ = Describe(pv, 0, testMTU) }},
		{name: "Describe a super-frame", do: func() { _, _ = Describe(sv, 0, testMTU) }},
		{name: "Add and Supers after the first batch", do: func() {
			c.Reset()
			for _, v := range views {
				c.Add(v, virtio.Header{})
			}
			c.Supers()
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if n := testing.AllocsPerRun(50, tt.do); n != 0 {
				t.Errorf("got %v allocations, want 0", n)
			}
		})
	}
}

func BenchmarkSplit(b *testing.B) {
	for name, s := range map[string]spec{"TCPv4": tcp4(pattern(46 * 1398)), "TCPv6": tcp6(pattern(46 * 1398)), "UDPv4": udp4(pattern(46 * 1398))} {
		b.Run(name, func(b *testing.B) {
			frame, h := s.super(1398)
			v := mustParse(b, frame)
			arena, dst := NewArena(1<<14), make([]Segment, 0, 64)
			b.SetBytes(int64(len(frame)))
			b.ReportAllocs()
			for b.Loop() {
				arena.Reset()
				dst, _ = Split(dst[:0], arena, []byte{0x08, 0, 0, 0, 0, 0, 1, 0}, v, h)
			}
		})
	}
}

func BenchmarkCoalesce(b *testing.B) {
	batches := map[string][][]byte{
		"46 TCPv4":  wire(tcp4(pattern(46*1398)), 1398),
		"46 TCPv6":  wire(tcp6(pattern(46*1398)), 1398),
		"46 UDPv4":  wire(udp4(pattern(46*1398)), 1398),
		"512 mixed": mixed(),
	}
	for name, frames := range batches {
		b.Run(name, func(b *testing.B) {
			c := NewCoalescer(joinAll)
			total := 0
			for _, f := range frames {
				total += len(f)
			}
			b.SetBytes(int64(total))
			b.ReportAllocs()
			for b.Loop() {
				c.Reset()
				var v packet.View
				for _, f := range frames {
					v.Parse(f)
					c.Add(&v, virtio.Header{})
				}
				c.Supers()
			}
		})
	}
}

func BenchmarkComplete(b *testing.B) {
	for name, s := range map[string]spec{"acknowledgement": tcp4(nil), "full size": tcp4(pattern(1398))} {
		b.Run(name, func(b *testing.B) {
			frame, h := s.partial()
			b.ReportAllocs()
			for b.Loop() {
				Complete(frame, h)
			}
		})
	}
}

func BenchmarkDescribe(b *testing.B) {
	partial, _ := tcp4(pattern(46 * 1398)).partial()
	for name, frame := range map[string][]byte{
		"complete": tcp4(pattern(1398)).frame(), "super-frame": partial, "TCPv6": tcp6(pattern(1000)).frame(),
	} {
		b.Run(name, func(b *testing.B) {
			v := mustParse(b, frame)
			b.ReportAllocs()
			for b.Loop() {
				_, _ = Describe(v, 0, testMTU)
			}
		})
	}
}
