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

// perFrame reports the time of one wire frame where one operation does n.
func perFrame(b *testing.B, n int) {
	b.Helper()
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/frame")
}

func BenchmarkSplit(b *testing.B) {
	for _, bb := range []struct {
		name    string
		s       spec
		size, n int
	}{
		{"TSO4, 64 B", tcp4(pattern(64 * 64)), 64, 64},
		{"TSO4, full", tcp4(pattern(46 * 1398)), 1398, 46},
		{"TSO6, 64 B", tcp6(pattern(64 * 64)), 64, 64},
		{"TSO6, full", tcp6(pattern(46 * 1378)), 1378, 46},
		{"USO, 64 B", udp4(pattern(64 * 64)), 64, 64},
		{"USO, full", udp4(pattern(46 * 1398)), 1398, 46},
	} {
		b.Run(bb.name, func(b *testing.B) {
			frame, h := bb.s.super(bb.size)
			v := mustParse(b, frame)
			arena, dst := NewArena(1<<14), make([]Segment, 0, 64)
			b.SetBytes(int64(len(frame)))
			b.ReportAllocs()
			for b.Loop() {
				arena.Reset()
				dst, _ = Split(dst[:0], arena, []byte{0x08, 0, 0, 0, 0, 0, 1, 0}, v, h)
			}
			if len(dst) != bb.n {
				b.Fatalf("%d segments, want %d", len(dst), bb.n)
			}
			perFrame(b, bb.n)
		})
	}
}

// BenchmarkCoalesce joins frames that are parsed already.
func BenchmarkCoalesce(b *testing.B) {
	for _, bb := range []struct {
		name   string
		frames [][]byte
	}{
		{"TCPv4, 64 B", wire(tcp4(pattern(64*64)), 64)},
		{"TCPv4, 1398 B", wire(tcp4(pattern(46*1398)), 1398)},
		{"TCPv6, 64 B", wire(tcp6(pattern(64*64)), 64)},
		{"TCPv6, 1398 B", wire(tcp6(pattern(46*1398)), 1398)},
		{"UDP, 64 B", wire(udp4(pattern(64*64)), 64)},
		{"UDP, 1398 B", wire(udp4(pattern(46*1398)), 1398)},
		{"40 flows mixed", mixed()},
	} {
		b.Run(bb.name, func(b *testing.B) {
			views := make([]packet.View, len(bb.frames))
			total := 0
			for i, f := range bb.frames {
				views[i] = *mustParse(b, f)
				total += len(f)
			}
			c := NewCoalescer(joinAll)
			batch := func() {
				c.Reset()
				for i := range views {
					c.Add(&views[i], virtio.Header{})
				}
				c.Supers()
			}
			batch() // the first gets the memory
			b.SetBytes(int64(total))
			b.ReportAllocs()
			for b.Loop() {
				batch()
			}
			perFrame(b, len(views))
		})
	}
}

func BenchmarkArrival(b *testing.B) {
	b.Run("is it a batch", func(b *testing.B) {
		f := tcp4(pattern(1398)).frame()
		d := datagram(f, f)
		b.ReportAllocs()
		for b.Loop() {
			if !IsBatch(d, len(d)/2) {
				b.Fatal("two datagrams are no batch")
			}
		}
	})
	partial, _ := tcp4(pattern(1398)).partial()
	super, _ := tcp4(pattern(46 * 1398)).partial()
	for _, bb := range []struct {
		name  string
		frame []byte
	}{
		{"describe TCPv4", tcp4(pattern(1398)).frame()},
		{"describe TCPv6", tcp6(pattern(1378)).frame()},
		{"describe TCPv4, partial", partial},
		{"describe a super-frame", super},
	} {
		b.Run(bb.name, func(b *testing.B) {
			v := mustParse(b, bb.frame)
			b.ReportAllocs()
			for b.Loop() {
				if _, fault := Describe(v, 0, testMTU); fault != None {
					b.Fatal(fault)
				}
			}
		})
	}
}

// BenchmarkComplete finishes the checksum of frames that are not segmented.
func BenchmarkComplete(b *testing.B) {
	for _, bb := range []struct {
		name string
		s    spec
	}{{"acknowledgement", tcp4(nil)}, {"64 B", tcp4(pattern(64))}, {"1398 B", tcp4(pattern(1398))}} {
		b.Run(bb.name, func(b *testing.B) {
			// 64 frames: one that was written a moment ago, as no frame of the
			// switch's ever was, would be waited for.
			var frames [64][]byte
			var h virtio.Header
			for i := range frames {
				frames[i], h = bb.s.partial()
			}
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				if fault := Complete(frames[i%64], h); fault != None {
					b.Fatal(fault)
				}
				i++
			}
		})
	}
}
