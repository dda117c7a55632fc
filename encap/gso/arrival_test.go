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

const testMTU = 1450

// datagram puts a VXLAN header before each frame and joins them.
func datagram(frames ...[]byte) []byte {
	var b []byte
	for _, f := range frames {
		b = append(append(b, 0x08, 0, 0, 0, 0, 0, 1, 0), f...)
	}
	return b
}

func TestIsBatch(t *testing.T) {
	full := tcp4(pattern(1398)).frame()
	full6 := tcp6(pattern(1378)).frame()
	tail := tcp4(pattern(100)).frame()
	tagged := tcp4(pattern(1398))
	tagged.tagged = true
	arp := append([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1, 0x08, 0x06}, make([]byte, 28)...)
	padded := append(tcp4(nil).frame(), make([]byte, 20)...)
	uso, _ := udp4(pattern(48000)).super(1200)
	uso6, _ := udp6(pattern(48000)).super(1200)
	usoTagged := udp4(pattern(48000))
	usoTagged.tagged = true
	usoInTag, _ := usoTagged.super(1200)
	tso, _ := tcp4(pattern(46 * 1398)).super(1398)
	noLength := bytes.Clone(tso)
	noLength[16], noLength[17] = 0, 0

	tests := []struct {
		name string
		in   []byte
		cmsg int
		want bool
	}{
		{name: "no segment size", in: datagram(full, full), cmsg: 0},
		{name: "a segment size below zero", in: datagram(full, full), cmsg: -1},
		{name: "as long as its segment size", in: datagram(full), cmsg: len(full) + 8},
		{name: "shorter than its segment size", in: datagram(tail), cmsg: len(full) + 8},
		{name: "two of the same length", in: datagram(full, full), cmsg: len(full) + 8, want: true},
		{name: "two and a shorter one", in: datagram(full, full, tail), cmsg: len(full) + 8, want: true},
		{name: "IPv6", in: datagram(full6, tail), cmsg: len(full6) + 8, want: true},
		{name: "tagged", in: datagram(tagged.frame(), tail), cmsg: len(full) + 12, want: true},
		{name: "padded frames: the IP length says less", in: datagram(padded, padded), cmsg: len(padded) + 8, want: true},
		{name: "IPv4 that is one byte longer than a segment", in: append(datagram(full), 0), cmsg: len(full) + 7},
		{name: "IPv6 that is one byte longer than a segment", in: append(datagram(full6), 0), cmsg: len(full6) + 7},
		{name: "no IP: nothing comes as a super-frame but IP", in: datagram(arp, arp, arp), cmsg: len(arp) + 8, want: true},
		{name: "inner UDP super-frame with the inner size", in: datagram(uso), cmsg: 1200},
		{name: "inner UDPv6 super-frame with the inner size", in: datagram(uso6), cmsg: 1200},
		{name: "inner UDP super-frame behind a tag", in: datagram(usoInTag), cmsg: 1200},
		{name: "inner TCP super-frame, whatever size came with it", in: datagram(tso), cmsg: 1398},
		{name: "one frame and a few bytes that belong to nothing", in: append(datagram(uso), 1, 2, 3), cmsg: 1200},
		{name: "no IP length: garbage either way", in: datagram(noLength), cmsg: 1400, want: true},
		{name: "no room for an Ethernet header", in: make([]byte, 21), cmsg: 10, want: true},
		{name: "no room for a tag", in: append(datagram(arp[:12]), 0x81, 0, 0), cmsg: 10, want: true},
		{name: "no room for an IPv4 header", in: datagram(full)[:30], cmsg: 10, want: true},
		{name: "no room for an IPv6 header", in: datagram(tcp6(nil).frame())[:50], cmsg: 10, want: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := IsBatch(tt.in, tt.cmsg); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

func TestDescribe(t *testing.T) {
	partial := func(s spec) []byte { b, _ := s.partial(); return b }
	needs := func(s spec, typ virtio.GSOType, size int) virtio.Header {
		return virtio.Header{
			Flags: virtio.NeedsCsum, GSOType: typ, GSOSize: uint16(size), HdrLen: uint16(s.headers()),
			CsumStart: uint16(s.l4()), CsumOffset: uint16(s.csumOffset()),
		}
	}
	with := func(s spec, edit func(*spec)) spec { edit(&s); return s }
	damaged := func(b []byte) []byte { b[len(b)-1] ^= 1; return b }

	syn := with(tcp4(nil), func(s *spec) { s.flags = packet.SYN })
	fits4, over4 := tcp4(pattern(1398)), tcp4(pattern(1399))
	big4, big6 := tcp4(pattern(46*1398)), tcp6(pattern(40000))
	tagged := with(tcp4(pattern(40000)), func(s *spec) { s.tagged = true })
	congested := with(big4, func(s *spec) { s.flags |= packet.CWR })
	fragment := with(udp4(pattern(1400)), func(s *spec) { s.frag = 0x2000 })
	uso4, uso6 := udp4(pattern(48000)), udp6(pattern(48000))
	short := with(udp4(pattern(100)), func(s *spec) { s.payload = pattern(100) }).frame()
	binary.BigEndian.PutUint16(short[38:], 50) // UDP options behind

	tests := []struct {
		name      string
		frame     []byte
		cmsg, mtu int
		want      virtio.Header
		fault     Fault
		after     []byte // the frame afterwards, if it is to be changed
	}{
		{name: "a complete frame", frame: fits4.frame()},
		{name: "a complete frame with a wrong checksum is the receiver's business", frame: damaged(fits4.frame())},
		{name: "a partial SYN", frame: partial(syn), want: needs(syn, 0, 0)},
		{name: "a partial frame of full size", frame: partial(fits4), want: needs(fits4, 0, 0)},
		{name: "a partial datagram, a segment size with it", frame: partial(udp4(pattern(900))), cmsg: 900, want: needs(udp4(pattern(900)), 0, 0)},
		{name: "a partial UDPv6 datagram", frame: partial(udp6(pattern(9))), want: needs(udp6(nil), 0, 0)},
		{name: "UDP without a checksum", frame: udp4(pattern(100)).raw(0)},
		{name: "no IP", frame: append([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1, 0x08, 0x06}, make([]byte, 46)...)},
		{name: "a fragment that looks partial", frame: partial(fragment)},

		{name: "one byte more than the MTU", frame: partial(over4), want: needs(over4, virtio.GSOTCPv4, 1398)},
		{name: "a TCPv4 super-frame", frame: partial(big4), want: needs(big4, virtio.GSOTCPv4, 1398)},
		{name: "a TCPv4 super-frame, a misleading size with it", frame: partial(big4), cmsg: 7, want: needs(big4, virtio.GSOTCPv4, 1398)},
		{name: "a TCPv6 super-frame", frame: partial(big6), want: needs(big6, virtio.GSOTCPv6, 1378)},
		{name: "a TCPv4 super-frame behind a tag", frame: partial(tagged), want: needs(tagged, virtio.GSOTCPv4, 1398)},
		{name: "a TCPv4 super-frame with CWR", frame: partial(congested), want: needs(congested, virtio.GSOTCPv4|virtio.GSOECN, 1398)},
		{name: "a UDPv4 super-frame", frame: partial(uso4), cmsg: 1200, want: needs(uso4, virtio.GSOUDP, 1200)},
		{name: "a UDPv6 super-frame", frame: partial(uso6), cmsg: 1200, want: needs(uso6, virtio.GSOUDP, 1200)},
		{name: "a UDP super-frame that fits the MTU", frame: partial(udp4(pattern(600))), cmsg: 100, want: needs(udp4(nil), virtio.GSOUDP, 100)},
		{name: "a UDP super-frame of single bytes", frame: partial(udp4(pattern(64))), cmsg: 1, want: needs(udp4(nil), virtio.GSOUDP, 1)},
		{name: "a UDP super-frame with a tail of one byte", frame: partial(udp4(pattern(1202))), cmsg: 1201, want: needs(udp4(nil), virtio.GSOUDP, 1201)},
		{name: "a UDP super-frame of 128 segments", frame: partial(uso4), cmsg: 375, want: needs(uso4, virtio.GSOUDP, 375)},
		{name: "a UDP super-frame whose segments fill the MTU", frame: partial(uso4), cmsg: 1422, want: needs(uso4, virtio.GSOUDP, 1422)},
		{name: "a UDP super-frame of single bytes", frame: partial(udp4(pattern(99))), cmsg: 1, mtu: 50, want: needs(uso4, virtio.GSOUDP, 1)},
		{name: "an MTU with room for one byte", frame: partial(big4), mtu: 53, want: needs(big4, virtio.GSOTCPv4, 1)},
		{name: "a complete TCPv4 super-frame", frame: big4.frame(), want: needs(big4, virtio.GSOTCPv4, 1398), after: partial(big4)},
		{name: "a complete UDPv6 super-frame", frame: uso6.frame(), cmsg: 1200, want: needs(uso6, virtio.GSOUDP, 1200), after: partial(uso6)},
		{name: "the largest MTU that a TAP can have", frame: partial(tcp4(pattern(65535 - 52))), mtu: 65521, want: needs(big4, virtio.GSOTCPv4, 65521-52)},

		{name: "a complete TCP super-frame with a wrong checksum", frame: damaged(big4.frame()), fault: BadChecksum},
		{name: "a complete UDP super-frame with a wrong checksum", frame: damaged(uso4.frame()), cmsg: 1200, fault: BadChecksum},
		{name: "a UDP super-frame without a segment size", frame: partial(uso4), fault: TooBig},
		{name: "a UDP super-frame of more segments than the kernel takes", frame: partial(uso4), cmsg: 374, fault: TooBig},
		{name: "a UDP super-frame whose segments do not fit the MTU", frame: partial(uso4), cmsg: 1423, fault: TooBig},
		{name: "a UDP super-frame with bytes behind the datagram", frame: func() []byte {
			b := partial(uso4)
			binary.BigEndian.PutUint16(b[38:], 47000)
			return b
		}(), cmsg: 1200, fault: TooBig},
		{name: "a super-frame with padding, which would become payload", frame: append(partial(big4), 0), fault: TooBig},
		{name: "a large fragment", frame: with(udp4(pattern(3000)), func(s *spec) { s.frag = 1 }).frame(), cmsg: 1000, fault: TooBig},
		{name: "large and no IP", frame: append(make([]byte, 12), append([]byte{0x08, 0x06}, make([]byte, 1451)...)...), fault: TooBig},
		{name: "an MTU smaller than the headers", frame: partial(big4), mtu: 52, fault: TooBig},
		{name: "an MTU of nothing", frame: partial(big4), mtu: -1, fault: TooBig},
		{name: "UDP shorter than its IP packet, complete", frame: short},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			mtu := tt.mtu
			if mtu == 0 {
				mtu = testMTU
			}
			if tt.after == nil {
				tt.after = bytes.Clone(tt.frame)
			}
			h, fault := Describe(mustParse(t, tt.frame), tt.cmsg, mtu)
			if diff := cmp.Diff(tt.want, h); fault != tt.fault || diff != "" {
				t.Fatalf("got %v, want %v, header (-want +got)\n%s", fault, tt.fault, diff)
			}
			if !bytes.Equal(tt.frame, tt.after) {
				t.Error("the frame is not what it should be afterwards")
			}
			if why := kernelTakes(tt.frame, h); fault == None && why != "" {
				t.Errorf("the kernel would refuse it: %s", why)
			}
		})
	}
}

// A UDP super-frame whose sender made no checksum gets one, unless it needs it to
// be believed.
func TestDescribeWithoutChecksum(t *testing.T) {
	partial := func(s spec) []byte { b, _ := s.partial(); return b }
	uso4, few4, uso6 := udp4(pattern(48000)), udp4(pattern(600)), udp6(pattern(48000))
	for _, tt := range []struct {
		name  string
		spec  spec
		cmsg  int
		size  uint16 // of a segment; 0: it is refused
		fault Fault
	}{
		{"IPv4", uso4, 1200, 1200, None},
		{"IPv4, and it fits the MTU", few4, 100, 100, None},
		{"IPv4 without a segment size", uso4, 0, 0, TooBig},
		{"IPv6", uso6, 1200, 0, BadChecksum},
	} {
		t.Run(tt.name, func(t *testing.T) {
			frame := tt.spec.raw(0)
			h, fault := Describe(mustParse(t, frame), tt.cmsg, testMTU)
			if fault != tt.fault || h.GSOSize != tt.size {
				t.Fatalf("got %v and segments of %d, want %v and %d", fault, h.GSOSize, tt.fault, tt.size)
			}
			if fault == None && !bytes.Equal(frame, partial(tt.spec)) {
				t.Error("the pseudo header's sum is not in its place, or more has changed")
			}
			if why := kernelTakes(frame, h); fault == None && why != "" {
				t.Errorf("the kernel would refuse it: %s", why)
			}
		})
	}
}

// TestSuperFrameWithoutChecksum has what Linux 6.18 sends by VXLAN and veth when
// a packet socket hands it a UDP super-frame that asks for a checksum and has 0
// in its place, and the checksum that it gives segments that began with the
// pseudo header's sum.
func TestSuperFrameWithoutChecksum(t *testing.T) {
	payload := bytes.Repeat([]byte("x"), 8*500)
	frame := append(unhex(t, "020000000002 020000000001 0800"+
		"45000fbc 00010000 40115609 0a4e0001 0a4e0002"+
		"03e803e9 0fa80000"), payload...)
	binary.BigEndian.PutUint16(frame[24:], ^rfc1071(frame[14:24], frame[26:34]))
	v := mustParse(t, frame)
	h, fault := Describe(v, 500, testMTU)
	want := virtio.Header{Flags: virtio.NeedsCsum, GSOType: virtio.GSOUDP, HdrLen: 42, GSOSize: 500, CsumStart: 34, CsumOffset: 6}
	if fault != None || h != want {
		t.Fatalf("got %+v, %v, want %+v", h, fault, want)
	}
	if got := v.Csum(); got != 0x2458 {
		t.Errorf("got checksum %#04x, want the pseudo header's sum 0x2458", got)
	}
	segs, fault := Split(nil, NewArena(10000), nil, v, h)
	if fault != None || len(segs) != 8 {
		t.Fatalf("%d segments, %v", len(segs), fault)
	}
	for i, s := range segs {
		if got, want := s.Header[34:], unhex(t, "03e803e9 01fc39e1"); !bytes.Equal(got, want) || len(s.Payload) != 500 {
			t.Errorf("segment %d: UDP header %x and %d bytes, want %x and 500", i, got, len(s.Payload), want)
		}
	}
}

// TestDescribeByChance: a complete checksum that looks partial is filled in
// again with the same value.
func TestDescribeByChance(t *testing.T) {
	for _, s := range []spec{tcp4(pattern(1000)), udp4(pattern(1000)), tcp6(pattern(1001))} {
		// Payload whose sum makes the whole checksum equal to the pseudo sum.
		binary.BigEndian.PutUint16(s.payload, 0)
		pseudo := s.pseudo()
		sum := rfc1071([]byte{byte(pseudo >> 8), byte(pseudo)}, s.l4Header(), s.payload)
		binary.BigEndian.PutUint16(s.payload, rfc1071([]byte{byte(^pseudo >> 8), byte(^pseudo)}, []byte{byte(^sum >> 8), byte(^sum)}))
		frame := s.frame()
		v := mustParse(t, frame)
		if v.Csum() != pseudo {
			t.Fatalf("the test is wrong: %#04x, want %#04x", v.Csum(), pseudo)
		}
		h, fault := Describe(v, 0, testMTU)
		if fault != None || h.Flags != virtio.NeedsCsum {
			t.Fatalf("got %+v, %v, want NEEDS_CSUM", h, fault)
		}
		want := bytes.Clone(frame)
		if fault := Complete(frame, h); fault != None || !bytes.Equal(frame, want) {
			t.Errorf("completed to other bytes, %v", fault)
		}
	}
}

// TestArrivalToWire: what Describe says of a super-frame is what Split needs
// to send it on as wire frames.
func TestArrivalToWire(t *testing.T) {
	tests := []struct {
		name string
		s    spec
		size int
	}{
		{name: "TCPv4", s: tcp4(pattern(20000)), size: 1398},
		{name: "TCPv6", s: tcp6(pattern(20000)), size: 1378},
		{name: "UDPv4", s: udp4(pattern(20000)), size: 1200},
		{name: "UDPv6", s: udp6(pattern(20000)), size: 1200},
	}
	for _, tt := range tests {
		for name, frame := range map[string][]byte{"partial": func() []byte { b, _ := tt.s.partial(); return b }(), "complete": tt.s.frame()} {
			t.Run(tt.name+" "+name, func(t *testing.T) {
				v := mustParse(t, frame)
				h, fault := Describe(v, 1200, testMTU)
				if fault != None {
					t.Fatal(fault)
				}
				segs, fault := Split(nil, NewArena(10000), nil, v, h)
				if fault != None {
					t.Fatal(fault)
				}
				for i, want := range tt.s.segments(tt.size) {
					if got := joined(segs[i].Header, segs[i].Payload); !bytes.Equal(got, want.frame()) {
						t.Fatalf("segment %d:\n got % x\nwant % x", i, got, want.frame())
					}
				}
			})
		}
	}
}

func FuzzDescribe(f *testing.F) {
	add := func(b []byte, cmsg, mtu uint16) { f.Add(b, cmsg, mtu) }
	for _, s := range []spec{tcp4(pattern(100)), tcp6(pattern(100)), udp4(pattern(100)), udp6(pattern(100))} {
		b, _ := s.partial()
		add(b, 40, 1450)
		add(bytes.Clone(b), 40, 100)
		add(s.frame(), 40, 100)
	}
	f.Fuzz(func(t *testing.T, frame []byte, cmsg, mtu uint16) {
		if len(frame) > 1<<17 {
			return
		}
		var v packet.View
		if v.Parse(frame) != packet.None {
			return
		}
		before := bytes.Clone(frame)
		h, fault := Describe(&v, int(cmsg), int(mtu))
		if fault != None {
			if h != (virtio.Header{}) || !bytes.Equal(frame, before) {
				t.Fatalf("%v, but %+v", fault, h)
			}
			return
		}
		if why := kernelTakes(frame, h); why != "" {
			t.Fatalf("the kernel would refuse %+v: %s", h, why)
		}
		if !h.IsGSO() {
			if v.End-v.L3 > int(mtu) || !bytes.Equal(frame, before) {
				t.Fatalf("%d bytes, MTU %d, taken for an ordinary frame", v.End-v.L3, mtu)
			}
			if fault := Complete(frame, h); fault != None {
				t.Fatalf("complete: %v", fault)
			}
			return
		}
		segs, fault := Split(nil, NewArena(1<<22), nil, &v, h)
		if fault != None || len(segs) < 2 {
			t.Fatalf("split: %d segments, %v", len(segs), fault)
		}
		for _, s := range segs {
			if s.Len()-v.L3 > int(mtu) {
				t.Fatalf("a segment of %d bytes, MTU %d", s.Len()-v.L3, mtu)
			}
		}
	})
}

func FuzzIsBatch(f *testing.F) {
	f.Add(datagram(tcp4(pattern(50)).frame(), tcp4(pattern(50)).frame()), 124)
	f.Add(datagram(udp6(pattern(500)).frame()), 100)
	f.Add([]byte{}, 1)
	f.Fuzz(func(t *testing.T, b []byte, cmsg int) {
		if !IsBatch(b, cmsg) {
			return
		}
		if cmsg <= 0 || cmsg >= len(b) {
			t.Fatalf("%d bytes are a batch of %d each", len(b), cmsg)
		}
		var v packet.View
		if len(b) >= 8 && v.Parse(b[8:]) == packet.None && v.Version != 0 && v.End == len(b)-8 {
			t.Fatal("one frame to the end of the datagram is taken for a batch")
		}
	})
}
