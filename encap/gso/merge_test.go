// SPDX-License-Identifier: Apache-2.0

package gso

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"vxtap/encap/packet"
)

// edit makes two consecutive segments differ in one thing.
type edit = func(a, b *spec)

// mergeTest has two segments that would be joined, but for what edit does.
type mergeTest struct {
	name string
	a    spec
	edit edit
	want bool // joined
}

type mergeTests []mergeTest

func (m *mergeTests) tcp4(name string, want bool, e edit) {
	*m = append(*m, mergeTest{"TCPv4: " + name, tcp4(pattern(500)), e, want})
}

func (m *mergeTests) tcp6(name string, want bool, e edit) {
	*m = append(*m, mergeTest{"TCPv6: " + name, tcp6(pattern(500)), e, want})
}

func (m *mergeTests) udp4(name string, want bool, e edit) {
	*m = append(*m, mergeTest{"UDPv4: " + name, udp4(pattern(500)), e, want})
}

func (m *mergeTests) udp6(name string, want bool, e edit) {
	*m = append(*m, mergeTest{"UDPv6: " + name, udp6(pattern(500)), e, want})
}

func (m *mergeTests) all(name string, want bool, e edit) {
	m.tcp(name, want, e)
	m.udp4(name, want, e)
	m.udp6(name, want, e)
}

func (m *mergeTests) tcp(name string, want bool, e edit) {
	m.tcp4(name, want, e)
	m.tcp6(name, want, e)
}

func (m *mergeTests) v4(name string, want bool, e edit) {
	m.tcp4(name, want, e)
	m.udp4(name, want, e)
}

// ofAnyKind has what must be alike in every flow.
func (m *mergeTests) ofAnyKind() {
	m.all("nothing differs", true, func(_, _ *spec) {})
	m.all("tagged alike", true, func(a, b *spec) { a.tagged, b.tagged = true, true })
	m.all("one tagged", false, func(_, b *spec) { b.tagged = true })
	m.all("other destination MAC", false, func(_, b *spec) { b.dstMAC = 9 })
	m.all("other source", false, func(_, b *spec) { b.srcHost = 9 })
	m.all("other destination", false, func(_, b *spec) { b.dstHost = 9 })
	m.all("other source port", false, func(_, b *spec) { b.sport++ })
	m.all("other destination port", false, func(_, b *spec) { b.dport++ })
	m.all("the other direction", false, func(_, b *spec) {
		b.sport, b.dport, b.srcHost, b.dstHost = b.dport, b.sport, b.dstHost, b.srcHost
	})
	m.all("other TTL", false, func(_, b *spec) { b.ttl-- })
	m.all("other DSCP", false, func(_, b *spec) { b.tos = 0x20 })
	m.all("the same DSCP and ECN", true, func(a, b *spec) { a.tos, b.tos = 0xb9, 0xb9 })
	m.all("ECT(0) on the second", false, func(_, b *spec) { b.tos = packet.ECT0 })
	m.all("ECT(1) after ECT(0)", false, func(a, b *spec) { a.tos, b.tos = packet.ECT0, packet.ECT1 })
	m.all("CE on the second", false, func(a, b *spec) { a.tos, b.tos = packet.ECT0, packet.CE })
	m.all("a shorter one at the end", true, func(_, b *spec) { b.payload = b.payload[:1] })
	m.all("a longer one at the end", false, func(_, b *spec) { b.payload = pattern(501) })
	m.all("no payload in the first", false, func(a, b *spec) { a.payload, b.seq = nil, a.seq })
	m.all("no payload in the second", false, func(_, b *spec) { b.payload = nil })
}

func (m *mergeTests) ofTCP() {
	m.tcp("a hole in the sequence", false, func(_, b *spec) { b.seq++ })
	m.tcp("the same sequence again", false, func(a, b *spec) { b.seq = a.seq })
	m.tcp("an earlier sequence", false, func(a, b *spec) { b.seq = a.seq - 500 })
	m.tcp("a sequence that overlaps", false, func(_, b *spec) { b.seq -= 250 })
	m.tcp("a sequence far ahead", false, func(_, b *spec) { b.seq += 1 << 31 })
	m.tcp("the sequence wraps", true, func(a, b *spec) { a.seq, b.seq = 1<<32-250, 250 })
	m.tcp("another acknowledgement", false, func(_, b *spec) { b.ack++ })
	m.tcp("another window", false, func(_, b *spec) { b.window++ })
	m.tcp("another urgent pointer", false, func(_, b *spec) { b.urgent++ })
	m.tcp("another timestamp", false, func(_, b *spec) { b.tcpOptions = append(bytes.Clone(timestamps[:11]), 0) })
	m.tcp("a timestamp of the second only", false, func(a, b *spec) { a.tcpOptions = bytes.Repeat([]byte{1}, 12) })
	m.tcp("a later timestamp value", false, func(_, b *spec) { b.tcpOptions = bytes.Clone(timestamps); b.tcpOptions[7]++ })
	m.tcp("a first option that differs", false, func(_, b *spec) { b.tcpOptions = bytes.Clone(timestamps); b.tcpOptions[0] = 0 })
	m.tcp("other options of the same length", false, func(_, b *spec) { b.tcpOptions = make([]byte, 12) })
	m.tcp("fewer options", false, func(_, b *spec) { b.tcpOptions = nil })
	m.tcp("no options", true, func(a, b *spec) { a.tcpOptions, b.tcpOptions = nil, nil })
	m.tcp("40 bytes of options", true, func(a, b *spec) { a.tcpOptions, b.tcpOptions = pattern(40), pattern(40) })
	m.tcp("another reserved bit", false, func(_, b *spec) { b.reserved = 1 })
	m.tcp("PSH on the second", true, func(_, b *spec) { b.flags |= packet.PSH })
	m.tcp("PSH on the first", false, func(a, _ *spec) { a.flags |= packet.PSH })
	m.tcp("PSH on both", false, func(a, b *spec) { a.flags |= packet.PSH; b.flags |= packet.PSH })
	m.tcp("PSH and FIN on the second", false, func(_, b *spec) { b.flags |= packet.PSH | packet.FIN })
	m.tcp("no ACK", false, func(a, b *spec) { a.flags, b.flags = 0, 0 })
	for name, flag := range map[string]uint8{
		"FIN": packet.FIN, "SYN": packet.SYN, "RST": packet.RST, "URG": packet.URG, "ECE": packet.ECE, "CWR": packet.CWR,
	} {
		m.tcp(name+" on the first", false, func(a, _ *spec) { a.flags |= flag })
		m.tcp(name+" on the second", false, func(_, b *spec) { b.flags |= flag })
		m.tcp(name+" on both", false, func(a, b *spec) { a.flags |= flag; b.flags |= flag })
	}
}

func (m *mergeTests) ofIP() {
	m.v4("DF on the first only", false, func(_, b *spec) { b.df = false })
	m.v4("DF on the second only", false, func(a, _ *spec) { a.df = false })
	m.v4("IDs count without DF", true, func(a, b *spec) { a.df, b.df = false, false })
	m.v4("the ID wraps", true, func(a, b *spec) { a.id, b.id = 0xffff, 0 })
	m.v4("the ID stays, with DF", true, func(a, b *spec) { b.id = a.id })
	m.v4("the ID stays, without DF", false, func(a, b *spec) { a.df, b.df, b.id = false, false, a.id })
	m.v4("an ID is left out, with DF", false, func(_, b *spec) { b.id++ })
	m.v4("the ID goes back", false, func(a, b *spec) { b.id = a.id - 1 })
	m.v4("the ID jumps, without DF", false, func(a, b *spec) { a.df, b.df = false, false; b.id += 7 })
	m.v4("options in the first IP header", false, func(a, _ *spec) { a.ipOptions = make([]byte, 4) })
	m.v4("options in both IP headers", false, func(a, b *spec) { a.ipOptions, b.ipOptions = make([]byte, 4), make([]byte, 4) })
	m.v4("options in the second IP header", false, func(_, b *spec) { b.ipOptions = make([]byte, 4) })
	m.v4("first fragments", false, func(a, b *spec) { a.frag, b.frag = 0x2000, 0x2000 })
	m.v4("last fragments", false, func(a, b *spec) { a.frag, b.frag = 100, 200 })
	m.v4("the reserved bit", false, func(a, b *spec) { a.frag, b.frag = 0x8000, 0x8000 })
	m.tcp6("another flow label", false, func(_, b *spec) { b.flowLabel++ })
	m.udp6("another flow label", false, func(_, b *spec) { b.flowLabel++ })
}

func TestMergeRules(t *testing.T) {
	var tests mergeTests
	tests.ofAnyKind()
	tests.ofTCP()
	tests.ofIP()
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := tt.a
			b := next(a)
			tt.edit(&a, &b)
			fa, fb := a.frame(), b.frame()
			supers := coalesce(t, NewCoalescer(joinAll), fa, fb)
			if got := len(supers) == 1; got != tt.want {
				t.Fatalf("joined: %v, want %v", got, tt.want)
			}
			out := undo(t, supers)
			for i, want := range [][]byte{fa, fb} {
				if !bytes.Equal(withoutID(out[i]), withoutID(want)) {
					t.Errorf("frame %d:\n got % x\nwant % x", i, out[i], want)
				}
			}
		})
	}
}

// TestMergeNeedsGoodFrames damages one byte of one of three frames that would
// be joined. None that is damaged may be, and every frame passes as it came.
func TestMergeNeedsGoodFrames(t *testing.T) {
	places := map[string]func(spec) int{
		"last byte":          func(s spec) int { return len(s.frame()) - 1 },
		"transport checksum": func(s spec) int { return s.l4() + s.csumOffset() },
		"IP checksum":        func(s spec) int { return s.l3() + 10 },
	}
	for name, place := range places {
		for _, first := range []spec{tcp4(pattern(301)), tcp6(pattern(301)), udp4(pattern(301)), udp6(pattern(301))} {
			if first.v6 && name == "IP checksum" {
				continue
			}
			for bad := range 3 {
				t.Run(fmt.Sprintf("%s of frame %d, v6 %v, udp %v", name, bad, first.v6, first.udp), func(t *testing.T) {
					var in [][]byte
					for i, s := 0, first; i < 3; i, s = i+1, next(s) {
						in = append(in, s.frame())
					}
					in[bad][place(first)] ^= 0x10
					supers := coalesce(t, NewCoalescer(joinAll), in...)
					want := [][]int{{1, 2}, {1, 1, 1}, {2, 1}}[bad]
					if diff := cmp.Diff(want, counts(supers)); diff != "" {
						t.Fatalf("frames (-want +got)\n%s", diff)
					}
					for i, out := range undo(t, supers) {
						if !bytes.Equal(out, in[i]) {
							t.Errorf("frame %d came out changed", i)
						}
					}
				})
			}
		}
	}
}

// extended returns an IPv6 frame with an extension header put in.
func extended(frame []byte, proto byte, ext ...byte) []byte {
	out := joined(frame[:54], ext, frame[54:])
	out[54], out[20] = frame[20], proto
	binary.BigEndian.PutUint16(out[18:], uint16(len(out)-54))
	return out
}

// TestExtensionHeadersPassAlone: Linux joins what has the same extension
// headers, and closes a flow whose have changed. Here frames with any pass
// alone; they are rare.
func TestExtensionHeadersPassAlone(t *testing.T) {
	padding := []byte{0, 0, 1, 4, 0, 0, 0, 0}
	other := []byte{0, 0, 1, 4, 1, 0, 0, 0}
	fragment := []byte{0, 0, 0, 1, 0, 0, 0, 9} // the first of several
	for _, s := range []spec{tcp6(pattern(200)), udp6(pattern(200))} {
		a, b := s.frame(), next(s).frame()
		tests := []struct {
			name string
			a, b []byte
		}{
			{"hop-by-hop options in both", extended(a, 0, padding...), extended(b, 0, padding...)},
			{"destination options in both", extended(a, 60, padding...), extended(b, 60, padding...)},
			{"a routing header without segments in both", extended(a, 43, 0, 0, 0, 0, 0, 0, 0, 0), extended(b, 43, 0, 0, 0, 0, 0, 0, 0, 0)},
			{"options that differ", extended(a, 60, padding...), extended(b, 60, other...)},
			{"options in the first", extended(a, 60, padding...), b},
			{"options in the second", a, extended(b, 60, padding...)},
			{"fragments", extended(a, 44, fragment...), extended(b, 44, fragment...)},
			{"a fragment, then a whole one", extended(a, 44, fragment...), b},
			{"an atomic fragment (RFC 6946)", a, extended(b, 44, 0, 0, 0, 0, 0, 0, 0, 9)},
		}
		for _, tt := range tests {
			t.Run(fmt.Sprintf("%s, udp %v", tt.name, s.udp), func(t *testing.T) {
				supers := coalesce(t, NewCoalescer(joinAll), tt.a, tt.b)
				if len(supers) != 2 || !bytes.Equal(supers[0].Head, tt.a) || !bytes.Equal(supers[1].Head, tt.b) {
					t.Errorf("%d came out, want both as they were", len(supers))
				}
			})
		}
	}
}
