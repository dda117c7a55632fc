// SPDX-License-Identifier: Apache-2.0

package gso

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/google/go-cmp/cmp"

	"vxtap/encap/packet"
	"vxtap/encap/virtio"
)

// coalesce adds frames and returns what comes out.
func coalesce(t testing.TB, c *Coalescer, frames ...[]byte) []Super {
	t.Helper()
	for _, f := range frames {
		c.Add(mustParse(t, f), virtio.Header{})
	}
	return c.Supers()
}

// counts returns how many frames each super-frame has.
func counts(supers []Super) []int {
	var n []int
	for _, s := range supers {
		n = append(n, s.Frames)
	}
	return n
}

// next returns the segment that follows s with the same headers.
func next(s spec) spec {
	s.seq += uint32(len(s.payload))
	s.id++
	return s
}

// TestCoalesceVector has the whole of what comes out, byte by byte.
func TestCoalesceVector(t *testing.T) {
	// The segments of TestSplitVectors without what may not be joined.
	segments := []string{
		eth4 + "4502002a ffff4000 400623be 0a050102 0a050203" + "9c401451 fffffffe 0000004d 501001f6 7d8b0000" + "6865",
		eth4 + "4502002a 00004000 400623be 0a050102 0a050203" + "9c401451 00000000 0000004d 501001f6 79830000" + "6c6c",
		eth4 + "45020029 00014000 400623be 0a050102 0a050203" + "9c401451 00000002 0000004d 501801f6 76e60000" + "6f",
	}
	c := NewCoalescer(joinAll)
	var frames [][]byte
	for _, s := range segments {
		frames = append(frames, unhex(t, s))
	}
	got := coalesce(t, c, frames...)
	want := []Super{{
		Virtio: virtio.Header{
			Flags: virtio.NeedsCsum, GSOType: virtio.GSOTCPv4,
			HdrLen: 54, GSOSize: 2, CsumStart: 34, CsumOffset: 16,
		},
		Head: unhex(t, eth4+"4502002d ffff4000 400623bb 0a050102 0a050203"+
			"9c401451 fffffffe 0000004d 501801f6 172e0000"),
		Payloads: [][]byte{[]byte("he"), []byte("ll"), []byte("o")},
		Frames:   3,
		Bytes:    56 + 56 + 55,
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if &got[0].Payloads[1][0] != &frames[1][54] {
		t.Error("the payload was copied")
	}
}

// TestPassesAlone has frames that are no candidates at all, between two that
// would be joined: those of the same flow close it, others do not.
func TestPassesAlone(t *testing.T) {
	a := tcp4(pattern(200))
	b := next(a)
	same := func(edit func(*spec)) []byte { s := b; edit(&s); return s.frame() }
	icmp := udp4(pattern(56)).frame()
	icmp[23] = packet.ProtoICMP
	partialFrame, partialHeader := b.partial()
	superFrame, superHeader := b.super(100)
	noChecksum := udp4(pattern(200)).raw(0)
	tests := []struct {
		name  string
		frame []byte
		h     virtio.Header
		want  []int
	}{
		{name: "a pure acknowledgement of the flow", frame: same(func(s *spec) { s.payload = nil }), want: []int{1, 1, 1}},
		{name: "a FIN of the flow", frame: same(func(s *spec) { s.flags |= packet.FIN }), want: []int{1, 1, 1}},
		{name: "a partial frame of the flow", frame: partialFrame, h: partialHeader, want: []int{1, 1, 1}},
		{name: "a super-frame of the flow", frame: superFrame, h: superHeader, want: []int{1, 1, 1}},
		{name: "a frame of the flow that only says that it is partial", frame: b.frame(), h: partialHeader, want: []int{1, 1, 1}},
		{name: "a frame of the flow that only says that it is a super-frame", frame: b.frame(), h: virtio.Header{GSOType: virtio.GSOTCPv4}, want: []int{1, 1, 1}},
		{name: "a padded frame of the flow", frame: append(b.frame(), 0), want: []int{1, 1, 1}},
		{name: "a fragment between the same hosts", frame: same(func(s *spec) { s.frag, s.sport = 0x2000, 9 }), want: []int{1, 1, 1}},
		{name: "a pure acknowledgement of another flow", frame: same(func(s *spec) { s.payload, s.sport = nil, 9 }), want: []int{2, 1}},
		{name: "a pure acknowledgement the other way", frame: same(func(s *spec) {
			s.payload, s.sport, s.dport, s.srcHost, s.dstHost = nil, s.dport, s.sport, s.dstHost, s.srcHost
		}), want: []int{2, 1}},
		{name: "a fragment between other hosts", frame: same(func(s *spec) { s.frag, s.srcHost = 0x2000, 9 }), want: []int{2, 1}},
		{name: "ICMP between the same hosts", frame: icmp, want: []int{2, 1}},
		{name: "UDP without a checksum", frame: noChecksum, want: []int{2, 1}},
		{name: "no IP", frame: append([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1, 0x08, 0x06}, make([]byte, 28)...), want: []int{2, 1}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := NewCoalescer(joinAll)
			c.Add(mustParse(t, a.frame()), virtio.Header{})
			c.Add(mustParse(t, tt.frame), tt.h)
			c.Add(mustParse(t, b.frame()), virtio.Header{})
			supers := c.Supers()
			if diff := cmp.Diff(tt.want, counts(supers)); diff != "" {
				t.Fatalf("frames (-want +got)\n%s", diff)
			}
			want := Super{Virtio: tt.h, Head: tt.frame, Frames: 1, Bytes: len(tt.frame), First: 1}
			if diff := cmp.Diff(want, supers[1]); diff != "" {
				t.Errorf("it did not pass verbatim (-want +got)\n%s", diff)
			}
		})
	}
}

func TestOptionsChooseWhatIsJoined(t *testing.T) {
	kinds := map[string]spec{"TCPv4": tcp4(pattern(100)), "TCPv6": tcp6(pattern(100)), "UDPv4": udp4(pattern(100)), "UDPv6": udp6(pattern(100))}
	tests := []struct {
		name string
		o    CoalescerOptions
		want map[string]bool
	}{
		{name: "nothing"},
		{name: "TCPv4", o: CoalescerOptions{TCP4: true}, want: map[string]bool{"TCPv4": true}},
		{name: "TCPv6", o: CoalescerOptions{TCP6: true}, want: map[string]bool{"TCPv6": true}},
		{name: "UDP", o: CoalescerOptions{UDP: true}, want: map[string]bool{"UDPv4": true, "UDPv6": true}},
	}
	for _, tt := range tests {
		for kind, s := range kinds {
			t.Run(tt.name+" takes "+kind, func(t *testing.T) {
				supers := coalesce(t, NewCoalescer(tt.o), s.frame(), next(s).frame())
				if got := len(supers) == 1; got != tt.want[kind] {
					t.Errorf("joined: %v, want %v", got, tt.want[kind])
				}
			})
		}
	}
}

// TestRuns has runs of frames of one flow: where super-frames end.
func TestRuns(t *testing.T) {
	run := func(s spec, n int) [][]byte {
		var out [][]byte
		for range n {
			out = append(out, s.frame())
			s = next(s)
		}
		return out
	}
	lastOf := func(frames [][]byte) *packet.View { return mustParse(t, frames[len(frames)-1]) }
	tests := []struct {
		name   string
		frames [][]byte
		want   []int
	}{
		{name: "46 full segments", frames: run(tcp4(pattern(1398)), 46), want: []int{46}},
		{name: "as many as 64 KB hold", frames: run(tcp4(pattern(1398)), 60), want: []int{46, 14}},
		{name: "64 small ones", frames: run(tcp4(pattern(10)), 64), want: []int{64}},
		{name: "65 small ones", frames: run(tcp4(pattern(10)), 65), want: []int{64, 1}},
		{name: "200 datagrams", frames: run(udp4(pattern(100)), 200), want: []int{64, 64, 64, 8}},
		{name: "jumbo frames", frames: run(tcp4(pattern(8898)), 20), want: []int{7, 7, 6}},
		{name: "frames so large that two do not fit", frames: run(tcp4(pattern(40000)), 3), want: []int{1, 1, 1}},
		{name: "as large as may be", frames: run(tcp4(pattern((maxSuper-66)/2)), 2), want: []int{2}},
		{name: "one byte larger than may be", frames: run(tcp4(pattern((maxSuper-66)/2+1)), 2), want: []int{1, 1}},
		{name: "the second comes after the third", want: []int{1, 1, 1}, frames: func() [][]byte {
			f := run(tcp4(pattern(1000)), 3)
			return [][]byte{f[0], f[2], f[1]}
		}()},
		{name: "options between the IPv6 and the TCP header", want: []int{1, 1}, frames: func() [][]byte {
			out := run(tcp6(pattern(1000)), 2)
			for i, f := range out {
				out[i] = joined(f[:54], []byte{packet.ProtoTCP, 0, 1, 4, 0, 0, 0, 0}, f[54:])
				out[i][20] = 60
				binary.BigEndian.PutUint16(out[i][18:], uint16(len(out[i])-54))
			}
			return out
		}()},
		{name: "a short one in between", want: []int{3, 2}, frames: func() [][]byte {
			s := tcp4(pattern(1000))
			out := run(s, 2)
			s = next(next(s))
			short := s
			short.payload = s.payload[:999]
			out = append(out, short.frame())
			s.seq += 999
			s.id++
			return append(out, run(s, 2)...)
		}()},
		{name: "PSH in between", want: []int{3, 2}, frames: func() [][]byte {
			s := tcp4(pattern(1000))
			out := run(s, 2)
			s = next(next(s))
			push := s
			push.flags |= packet.PSH
			return append(append(out, push.frame()), run(next(s), 2)...)
		}()},
		{name: "a fixed ID, then one that counts", want: []int{3, 1}, frames: func() [][]byte {
			s := tcp4(pattern(1000))
			out := [][]byte{s.frame()}
			for range 2 {
				s = next(s)
				s.id--
				out = append(out, s.frame())
			}
			return append(out, next(s).frame())
		}()},
		{name: "an ID that counts, then a fixed one", want: []int{2, 1}, frames: func() [][]byte {
			s := tcp4(pattern(1000))
			out := run(s, 2)
			s = next(next(s))
			s.id--
			return append(out, s.frame())
		}()},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			supers := coalesce(t, NewCoalescer(joinAll), tt.frames...)
			if diff := cmp.Diff(tt.want, counts(supers)); diff != "" {
				t.Fatalf("frames (-want +got)\n%s", diff)
			}
			out := undo(t, supers)
			for i := range out {
				if !bytes.Equal(withoutID(out[i]), withoutID(tt.frames[i])) {
					t.Fatalf("frame %d came out changed", i)
				}
			}
			if v := lastOf(tt.frames); v.TCPFlags()&packet.PSH != 0 && supers[len(supers)-1].Head[v.L4+13]&packet.PSH == 0 {
				t.Error("PSH was lost")
			}
		})
	}
}

// TestReset: nothing of one batch is left in the next, and nothing of it is
// joined to the next.
func TestReset(t *testing.T) {
	c := NewCoalescer(joinAll)
	s := tcp4(pattern(500))
	for range 3 {
		c.Reset()
		supers := coalesce(t, c, s.frame(), next(s).frame())
		if diff := cmp.Diff([]int{2}, counts(supers)); diff != "" {
			t.Fatalf("frames (-want +got)\n%s", diff)
		}
		if supers[0].First != 0 {
			t.Fatalf("the first frame of a batch is number %d", supers[0].First)
		}
		s = next(next(s))
	}
	c.Reset()
	if got := c.Supers(); len(got) != 0 {
		t.Errorf("got %d super-frames of nothing", len(got))
	}
}

// TestResetWithoutSupers: a batch that nobody asked for is forgotten too.
func TestResetWithoutSupers(t *testing.T) {
	c := NewCoalescer(joinAll)
	s := tcp4(pattern(500))
	c.Add(mustParse(t, s.frame()), virtio.Header{})
	c.Reset()
	if diff := cmp.Diff([]int{1}, counts(coalesce(t, c, next(s).frame()))); diff != "" {
		t.Errorf("frames (-want +got)\n%s", diff)
	}
}

// TestAddAfterSupers: what has come out stays as it is.
func TestAddAfterSupers(t *testing.T) {
	c := NewCoalescer(joinAll)
	s := tcp4(pattern(500))
	coalesce(t, c, s.frame(), next(s).frame())
	s = next(next(s))
	if diff := cmp.Diff([]int{2, 2}, counts(coalesce(t, c, s.frame(), next(s).frame()))); diff != "" {
		t.Errorf("frames (-want +got)\n%s", diff)
	}
}

// TestManySupers needs more memory for headers than there is at the start.
func TestManySupers(t *testing.T) {
	c := NewCoalescer(joinAll)
	const pairs = 1000
	var want [][]byte
	for i := range pairs {
		s := tcp6(pattern(20 + i%7))
		s.tcpOptions, s.sport = pattern(40), uint16(i)
		want = append(want, s.frame(), next(s).frame())
	}
	supers := coalesce(t, c, want...)
	if len(supers) != pairs {
		t.Fatalf("got %d super-frames, want %d", len(supers), pairs)
	}
	for i, got := range undo(t, supers) {
		if !bytes.Equal(got, want[i]) {
			t.Fatalf("frame %d came out changed", i)
		}
	}
}
