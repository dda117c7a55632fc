// SPDX-License-Identifier: Apache-2.0

package gso

import (
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"vxtap/encap/packet"
)

// TestInterleavedFlows: each flow is joined for itself, and super-frames come
// out in the order of their first frames. With more flows than slots, those
// that came first have to close.
func TestInterleavedFlows(t *testing.T) {
	for _, n := range []int{1, 2, 8, maxOpen, maxOpen + 1, 3 * maxOpen} {
		t.Run(fmt.Sprint(n, " flows"), func(t *testing.T) {
			flows := make([]spec, n)
			for i := range flows {
				flows[i] = tcp4(pattern(100))
				flows[i].sport += uint16(i)
			}
			var in [][]byte
			for range 5 {
				for i := range flows {
					in = append(in, flows[i].frame())
					flows[i] = next(flows[i])
				}
			}
			supers := coalesce(t, NewCoalescer(joinAll), in...)
			if n <= maxOpen && len(supers) != n {
				t.Errorf("got %d super-frames, want %d", len(supers), n)
			}
			for i, s := range supers[:n] {
				if got := binary.BigEndian.Uint16(s.Head[34:]); got != 40000+uint16(i) {
					t.Errorf("super-frame %d is of port %d, want %d", i, got, 40000+i)
				}
			}
			if got := len(undo(t, supers)); got != len(in) {
				t.Errorf("%d frames came out as %d", len(in), got)
			}
		})
	}
}

// TestNewestFlowStaysOpen: when a slot is needed, the flow with the earliest
// super-frame gives way, not the one that has just begun.
func TestNewestFlowStaysOpen(t *testing.T) {
	var in [][]byte
	s := tcp4(pattern(100))
	for i := range maxOpen + 1 {
		f := s
		f.sport += uint16(i)
		in = append(in, f.frame())
	}
	last := next(s)
	last.sport += maxOpen
	second := next(s)
	second.sport++
	first := next(s)
	supers := coalesce(t, NewCoalescer(joinAll), append(in, last.frame(), second.frame(), first.frame())...)
	want := make([]int, maxOpen+2)
	for i := range want {
		want[i] = 1
	}
	want[1], want[maxOpen] = 2, 2
	if diff := cmp.Diff(want, counts(supers)); diff != "" {
		t.Errorf("frames (-want +got)\n%s", diff)
	}
}

// TestOldestFlowGivesWay: the earliest super-frame need not be in the first
// slot.
func TestOldestFlowGivesWay(t *testing.T) {
	port := func(s spec, i int) spec { s.sport += uint16(i); return s }
	s := tcp4(pattern(100))
	var in [][]byte
	for i := range maxOpen {
		in = append(in, port(s, i).frame())
	}
	// Flow 0 begins again, and is now younger than flow 1.
	again := s
	again.seq += 5000
	in = append(in, again.frame(), port(s, maxOpen).frame(), next(again).frame(), next(port(s, 1)).frame(), next(port(s, 2)).frame())
	supers := coalesce(t, NewCoalescer(joinAll), in...)
	want := make([]int, maxOpen+3)
	for i := range want {
		want[i] = 1
	}
	want[maxOpen] = 2 // flow 0, begun again; flow 1 gave way to the new one, and then made flow 2 give way
	if diff := cmp.Diff(want, counts(supers[:len(want)])); diff != "" {
		t.Errorf("frames (-want +got)\n%s", diff)
	}
}

// TestOnlyItsOwnFlowIsClosed: a frame that passes alone closes the flow that
// it belongs to wherever that is kept, and a fragment closes all that it may
// belong to.
func TestOnlyItsOwnFlowIsClosed(t *testing.T) {
	port := func(s spec, i int) spec { s.sport += uint16(i); return s }
	s := tcp4(pattern(100))
	for closed := range 4 {
		t.Run(fmt.Sprint("flow ", closed), func(t *testing.T) {
			var in [][]byte
			for i := range 4 {
				in = append(in, port(s, i).frame())
			}
			ack := port(s, closed)
			ack.payload = nil
			in = append(in, ack.frame())
			want := []int{2, 2, 2, 2, 1, 1}
			want[closed] = 1
			for i := range 4 {
				in = append(in, next(port(s, i)).frame())
			}
			if diff := cmp.Diff(want, counts(coalesce(t, NewCoalescer(joinAll), in...))); diff != "" {
				t.Errorf("frames (-want +got)\n%s", diff)
			}
		})
	}
	t.Run("all by a fragment", func(t *testing.T) {
		fragment := udp4(pattern(100))
		fragment.frag = 0x2000
		in := [][]byte{s.frame(), port(s, 1).frame(), port(s, 2).frame(), fragment.frame(), next(s).frame(), next(port(s, 1)).frame(), next(port(s, 2)).frame()}
		if diff := cmp.Diff([]int{1, 1, 1, 1, 1, 1, 1}, counts(coalesce(t, NewCoalescer(joinAll), in...))); diff != "" {
			t.Errorf("frames (-want +got)\n%s", diff)
		}
	})
}

// TestWholeKeyIsCompared has flows that differ in one bit of their key.
func TestWholeKeyIsCompared(t *testing.T) {
	for _, s := range []spec{tcp4(pattern(50)), tcp6(pattern(50))} {
		a := s.frame()
		for bit := range 8 * (len(s.addrs()) + 4) {
			at := s.l3() + 12
			if s.v6 {
				at = s.l3() + 8
			}
			if bit/8 >= len(s.addrs()) {
				at = s.l4() - len(s.addrs())
			}
			b := next(s).frame()
			b[at+bit/8] ^= 1 << (bit % 8)
			// Repair both checksums.
			v := mustParse(t, b)
			if !s.v6 {
				b[v.L3+10], b[v.L3+11] = 0, 0
				binary.BigEndian.PutUint16(b[v.L3+10:], ^rfc1071(b[v.L3:v.L4]))
			}
			v.SetCsum(0)
			n := v.End - v.L4
			v.SetCsum(^rfc1071(v.AddrBytes(), []byte{0, packet.ProtoTCP, byte(n >> 8), byte(n)}, b[v.L4:]))
			if !verifyFrame(v) {
				t.Fatal("the test is wrong")
			}
			if got := coalesce(t, NewCoalescer(joinAll), a, b); len(got) != 2 {
				t.Fatalf("v6 %v: flows that differ in bit %d were joined", s.v6, bit)
			}
		}
	}
}

// TestEthernetHeadersAreCompared has frames that differ in one bit of their
// MACs or their tag.
func TestEthernetHeadersAreCompared(t *testing.T) {
	for _, tagged := range []bool{false, true} {
		s := tcp4(pattern(50))
		s.tagged = tagged
		for at := range s.l3() - 2 {
			if at == 12 || at == 13 {
				continue // the type of the tag
			}
			for bit := range 8 {
				b := next(s).frame()
				b[at] ^= 1 << bit
				if got := coalesce(t, NewCoalescer(joinAll), s.frame(), b); len(got) != 2 {
					t.Fatalf("tagged %v: frames that differ in bit %d of byte %d were joined", tagged, bit, at)
				}
			}
		}
	}
}

// TestProtocolsAreFlowsOfTheirOwn: TCP and UDP between the same ports, and
// IPv4 and IPv6 between addresses that begin alike, do not close each other.
func TestProtocolsAreFlowsOfTheirOwn(t *testing.T) {
	a, b := tcp4(pattern(100)), udp4(pattern(100))
	b.sport, b.dport = a.sport, a.dport
	six := func(s spec) []byte { // its source begins with the addresses of a
		f := s.frame()
		v := mustParse(t, f)
		copy(f[v.L3+8:], a.addrs())
		v.SetCsum(0)
		n := v.L4Len()
		v.SetCsum(^rfc1071(v.AddrBytes(), []byte{0, packet.ProtoTCP, byte(n >> 8), byte(n)}, f[v.L4:]))
		return f
	}
	c := tcp6(pattern(100))
	supers := coalesce(t, NewCoalescer(joinAll), a.frame(), b.frame(), six(c), next(a).frame(), next(b).frame(), six(next(c)))
	if diff := cmp.Diff([]int{2, 2, 2}, counts(supers)); diff != "" {
		t.Errorf("frames (-want +got)\n%s", diff)
	}
}
