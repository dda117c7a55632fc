// SPDX-License-Identifier: Apache-2.0

package tunnel

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"vxtap/encap/ether"
	"vxtap/encap/virtio"
)

// The same network in IPv6.
var (
	ownSubnet6 = netip.MustParsePrefix("fd00:5:0:1::/64")
	peerTwo6   = Peer{Subnet: netip.MustParsePrefix("fd00:5:0:2::/64"), VTEP: netip.MustParseAddr("fd00::2"), MAC: peerTwo.MAC}
	peerThree6 = Peer{Subnet: netip.MustParsePrefix("fd00:5:0:3::/64"), VTEP: netip.MustParseAddr("fd00::3"), MAC: peerThree.MAC}
)

// Addresses in the subnets of these.
const (
	own6   = "fd00:5:0:1::5"
	two6   = "fd00:5:0:2::9"
	three6 = "fd00:5:0:3::9"
)

func asIPv6(c *Config) { c.Subnet = ownSubnet6 }

// run6 is run for the IPv6 network.
func run6(t *testing.T, p *fakePort, u *fakeUnderlay, edit func(*Config)) Stats {
	t.Helper()
	return runWith(t, p, u, func(c *Config) {
		asIPv6(c)
		if edit != nil {
			edit(c)
		}
	}, peerTwo6, peerThree6)
}

// packet6 builds an Ethernet frame with an IPv6 packet of n zeros.
func packet6(dstMAC, srcMAC ether.MAC, src, dst string, proto uint8, n int) []byte {
	b := make([]byte, 14+40+n)
	copy(b, dstMAC[:])
	copy(b[6:], srcMAC[:])
	binary.BigEndian.PutUint16(b[12:], uint16(ether.TypeIPv6))
	ip := b[14:]
	ip[0], ip[6], ip[7] = 0x60, proto, 64
	binary.BigEndian.PutUint16(ip[4:], uint16(n))
	s, d := netip.MustParseAddr(src).As16(), netip.MustParseAddr(dst).As16()
	copy(ip[8:], s[:])
	copy(ip[24:], d[:])
	return b
}

// pseudo6 is the sum of the pseudo header of RFC 8200, section 8.1.
func pseudo6(b []byte, proto uint8) uint32 {
	return sum16(b[22:54]) + uint32(proto) + uint32(len(b)-54)
}

// frame6 builds an Ethernet frame with an IPv6 UDP packet; edit may spoil it.
func frame6(dstMAC, srcMAC ether.MAC, src, dst string, payload int, edit func([]byte)) []byte {
	b := packet6(dstMAC, srcMAC, src, dst, 17, 8+payload)
	udp := b[54:]
	binary.BigEndian.PutUint16(udp, 1000)
	binary.BigEndian.PutUint16(udp[2:], 2000)
	binary.BigEndian.PutUint16(udp[4:], uint16(len(udp)))
	binary.BigEndian.PutUint16(udp[6:], ^fold(pseudo6(b, 17)+sum16(udp)))
	if edit != nil {
		edit(b)
	}
	return b
}

// tcpFrame6 is tcpFrame over IPv6.
func tcpFrame6(dst, src ether.MAC, from, to string, n int, seq uint32, partial bool) []byte {
	b := packet6(dst, src, from, to, 6, 20+n)
	tcp := b[54:]
	binary.BigEndian.PutUint16(tcp, 1000)
	binary.BigEndian.PutUint16(tcp[2:], 2000)
	binary.BigEndian.PutUint32(tcp[4:], seq)
	tcp[12], tcp[13] = 5<<4, 0x10 // ACK
	if partial {
		binary.BigEndian.PutUint16(tcp[16:], fold(pseudo6(b, 6)))
	} else {
		binary.BigEndian.PutUint16(tcp[16:], ^fold(pseudo6(b, 6)+sum16(tcp)))
	}
	return b
}

func superHeader6(mss int) virtio.Header {
	return virtio.Header{Flags: virtio.NeedsCsum, GSOType: virtio.GSOTCPv6, HdrLen: 74, GSOSize: uint16(mss), CsumStart: 54, CsumOffset: 16}
}

// joined6 is joined over IPv6.
func joined6(n, mss int) Datagram {
	var data []byte
	for i := range n {
		data = append(data, encapsulated(tcpFrame6(ownMAC, peerTwo.MAC, two6, own6, mss, uint32(i*mss), false))...)
	}
	return Datagram{Data: data, From: peerTwo6.VTEP, GSOSize: len(data) / n}
}

// withClass sets the traffic class of an IPv6 frame.
func withClass(class uint8) func([]byte) {
	return func(b []byte) { binary.BigEndian.PutUint16(b[14:], 0x6000|uint16(class)<<4) }
}

func TestOut6RewritesAndEncapsulates(t *testing.T) {
	p, u := &fakePort{}, &fakeUnderlay{}
	p.reads = [][]byte{
		frame6(routerMAC, ownMAC, own6, two6, 100, nil),
		frame6(routerMAC, ownMAC, own6, three6, 7, withClass(0xb8|2)),
		frame6(routerMAC, ownMAC, own6, two6, testMTU-48, nil), // the largest
	}
	stats := run6(t, p, u, nil)
	want := []sentDatagram{
		{peerTwo6.VTEP, 0, encapsulated(frame6(peerTwo.MAC, ownMAC, own6, two6, 100, nil))},
		// The outer header takes over ECT(0) from the inner one, and no more.
		{peerThree6.VTEP, 2, encapsulated(frame6(peerThree.MAC, ownMAC, own6, three6, 7, withClass(0xb8|2)))},
		{peerTwo6.VTEP, 0, encapsulated(frame6(peerTwo.MAC, ownMAC, own6, two6, testMTU-48, nil))},
	}
	if diff := cmp.Diff(want, u.sent, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Errorf("sent (-want +got):\n%s", diff)
	}
	if got := []uint64{stats.Peers[0].OutFrames, stats.Peers[1].OutFrames}; !slices.Equal(got, []uint64{2, 1}) || stats.Out.Delivered != 3 {
		t.Errorf("%v frames by peer, %d delivered", got, stats.Out.Delivered)
	}
}

func TestOut6Drops(t *testing.T) {
	out := func(src, dst string, edit func([]byte)) []byte { return frame6(routerMAC, ownMAC, src, dst, 100, edit) }
	tests := []struct {
		name   string
		frame  []byte
		header virtio.Header
		refuse error
		want   Reason
	}{
		{name: "a frame shorter than its headers", frame: out(own6, two6, nil)[:40], want: Malformed},
		{name: "a VLAN tag", frame: out(own6, two6, func(b []byte) { b[12], b[13], b[16], b[17] = 0x81, 0, 0x08, 0x06 }), want: VLANTagged},
		{name: "an IPv4 packet", frame: frame(routerMAC, ownMAC, "10.5.1.5", "10.5.2.9", 1, nil), want: IPv4},
		{name: "ARP", frame: out(own6, two6, func(b []byte) { b[12], b[13] = 0x08, 0x06 }), want: NotIP},
		{name: "a checksum to be put outside the frame", frame: out(own6, two6, nil), header: virtio.Header{Flags: virtio.NeedsCsum, CsumStart: 160, CsumOffset: 6}, want: BadOffload},
		{name: "a super-frame of the other version", frame: tcpFrame6(routerMAC, ownMAC, own6, two6, 3000, 0, true), header: superHeader(1358), want: BadOffload},
		{name: "larger than the MTU", frame: frame6(routerMAC, ownMAC, own6, two6, testMTU-48+1, nil), want: TooBig},
		{name: "router solicitation", frame: packet6(ether.MAC{0x33, 0x33, 0, 0, 0, 2}, ownMAC, "fe80::1", "ff02::2", 58, 8), want: Broadcast},
		{name: "a neighbour looked for", frame: packet6(ether.MAC{0x33, 0x33, 0xff, 0, 0, 9}, ownMAC, own6, "ff02::1:ff00:9", 58, 24), want: Broadcast},
		{name: "multicast to the router", frame: out(own6, "ff0e::1", nil), want: Broadcast},
		{name: "the gateway itself", frame: out(own6, "fe80::a9fe:5448", nil), want: LinkLocal},
		{name: "a link-local source", frame: out("fe80::5", two6, nil), want: LinkLocal},
		{name: "the end of fe80::/10", frame: out(own6, "febf::1", nil), want: LinkLocal},
		{name: "behind fe80::/10", frame: out(own6, "fec0::1", nil), want: NoPeer},
		{name: "another station", frame: out(own6, two6, func(b []byte) { b[5]++ }), want: UnknownMAC},
		{name: "our own subnet", frame: out(own6, "fd00:5:0:1::77", nil), want: OwnSubnet},
		{name: "a subnet that nobody leases", frame: out(own6, "fd00:5:0:4::1", nil), want: NoPeer},
		{name: "an IPv4 peer's address in IPv6", frame: out(own6, "::ffff:10.5.2.9", nil), want: NoPeer},
		{name: "a peer out of reach", frame: out(own6, two6, nil), refuse: ErrUnreachable, want: UnderlayUnreachable},
		{name: "an underlay too narrow", frame: out(own6, two6, nil), refuse: ErrMTU, want: UnderlayMTU},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, u := &fakePort{reads: [][]byte{tt.frame}, headers: []virtio.Header{tt.header}}, &fakeUnderlay{refuse: tt.refuse}
			stats := run6(t, p, u, nil)
			if diff := cmp.Diff(map[string]uint64{tt.want.String(): 1}, drops(stats.Out)); diff != "" {
				t.Errorf("drops (-want +got):\n%s", diff)
			}
			if len(u.sent) != 0 {
				t.Errorf("sent %d datagrams", len(u.sent))
			}
		})
	}
}

func TestIn6Drops(t *testing.T) {
	in := func(src, dst string, edit func([]byte)) []byte {
		return encapsulated(frame6(ownMAC, peerTwo.MAC, src, dst, 100, edit))
	}
	tests := []struct {
		name   string
		data   []byte
		from   netip.Addr // peerTwo6's VTEP if not set
		class  uint8
		checks Checks
		refuse error
		want   Reason
	}{
		{name: "an IP packet cut short", data: in(two6, own6, nil)[:80], want: Malformed},
		{name: "a stranger", data: in(two6, own6, nil), from: netip.MustParseAddr("fd00::99"), want: NotAPeer},
		{name: "an IPv4 stranger whose bytes are a peer's", data: in(two6, own6, nil), from: netip.MustParseAddr("0.0.0.2"), want: NotAPeer},
		{name: "another station's frame", data: in(two6, own6, func(b []byte) { b[5]++ }), want: WrongMAC},
		{name: "a router advertisement to all nodes", data: encapsulated(packet6(ether.MAC{0x33, 0x33, 0, 0, 0, 1}, peerTwo.MAC, "fe80::2", "ff02::1", 58, 16)), want: WrongMAC},
		{name: "a router advertisement to us", data: encapsulated(packet6(ownMAC, peerTwo.MAC, "fe80::2", "ff02::1", 58, 16)), want: Broadcast},
		{name: "the same where nothing is checked", data: encapsulated(packet6(ownMAC, peerTwo.MAC, two6, "ff02::1", 58, 16)), checks: Checks{Off, Off}, want: Broadcast},
		{name: "a neighbour advertisement", data: in("fe80::2", own6, nil), checks: Checks{Off, Off}, want: LinkLocal},
		{name: "to our link-local address", data: in(two6, "fe80::1", nil), want: LinkLocal},
		{name: "our own source: a loop", data: in(two6, own6, func(b []byte) { copy(b[6:], ownMAC[:]) }), want: BadSourceMAC},
		{name: "a VLAN tag", data: in(two6, own6, func(b []byte) { b[12], b[13], b[16], b[17] = 0x81, 0, 0x08, 0x06 }), want: VLANTagged},
		{name: "IPv4", data: encapsulated(frame(ownMAC, peerTwo.MAC, "10.5.2.9", "10.5.1.5", 1, nil)), want: IPv4},
		{name: "ARP", data: in(two6, own6, func(b []byte) { b[12], b[13] = 0x08, 0x06 }), want: NotIP},
		{name: "another peer's source", data: in(three6, own6, nil), want: ForeignSource},
		{name: "nobody's source", data: in("2001:db8::1", own6, nil), want: ForeignSource},
		{name: "no source", data: in("::", own6, nil), want: ForeignSource},
		{name: "for another peer", data: in(two6, three6, nil), want: Transit},
		{name: "congestion that cannot be told of", data: in(two6, own6, nil), class: 3, want: Congestion},
		{name: "larger than the MTU", data: encapsulated(frame6(ownMAC, peerTwo.MAC, two6, own6, testMTU-48+1, nil)), want: TooBig},
		{name: "a super-frame with a wrong checksum", data: encapsulated(badSum(tcpFrame6(ownMAC, peerTwo.MAC, two6, own6, 5000, 0, true))), want: BadChecksum},
		{name: "a TAP that is full", data: in(two6, own6, nil), refuse: ErrFull, want: TAPFull},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			from := tt.from
			if !from.IsValid() {
				from = peerTwo6.VTEP
			}
			p := &fakePort{refuse: tt.refuse, takes: Offloads{Csum: true, TCP6: true}}
			u := &fakeUnderlay{datagrams: []Datagram{{Data: tt.data, From: from, TOS: tt.class}}}
			stats := run6(t, p, u, func(c *Config) { c.Checks = tt.checks })
			if diff := cmp.Diff(map[string]uint64{tt.want.String(): 1}, drops(stats.In)); diff != "" {
				t.Errorf("drops (-want +got):\n%s", diff)
			}
			if len(p.written) != 0 {
				t.Errorf("wrote %d frames", len(p.written))
			}
		})
	}
}

func badSum(b []byte) []byte { b[70] ^= 0x55; return b }

// RFC 6040, figure 4, in the traffic class; the DSCP inside stays.
func TestIn6CombinesECN(t *testing.T) {
	const notECT, ect1, ect0, ce, dropped = 0, 1, 2, 3, 99
	want := [4][4]uint8{ // by inner, then outer field: Not-ECT, ECT(1), ECT(0), CE
		notECT: {notECT, notECT, notECT, dropped},
		ect1:   {ect1, ect1, ect1, ce},
		ect0:   {ect0, ect1, ect0, ce},
		ce:     {ce, ce, ce, ce},
	}
	const dscp = 0xb8
	for inner := range uint8(4) {
		for outer := range uint8(4) {
			p, u := &fakePort{}, &fakeUnderlay{}
			u.datagrams = []Datagram{{
				Data: encapsulated(frame6(ownMAC, peerTwo.MAC, two6, own6, 100, withClass(dscp|inner))),
				From: peerTwo6.VTEP, TOS: outer,
			}}
			run6(t, p, u, nil)
			if want[inner][outer] == dropped {
				if len(p.written) != 0 {
					t.Errorf("inner %d, outer %d: delivered, want dropped", inner, outer)
				}
				continue
			}
			w := frame6(ownMAC, peerTwo.MAC, two6, own6, 100, withClass(dscp|want[inner][outer]))
			if len(p.written) != 1 || !bytes.Equal(p.written[0], w) {
				t.Errorf("inner %d, outer %d: wrote %x, want %x", inner, outer, p.written, w)
			}
		}
	}
}

// A super-frame is cut whatever the kernel can do, and its segments are the ones
// that TCP would have sent.
func TestOut6SuperFrame(t *testing.T) {
	const mss, count = 1358, 46
	super := tcpFrame6(routerMAC, ownMAC, own6, two6, count*mss, 7, true)
	for _, most := range []int{63, 1} {
		p, u := &fakePort{reads: [][]byte{slices.Clone(super)}, headers: []virtio.Header{superHeader6(mss)}}, &fakeUnderlay{maxSegments: most}
		stats := run6(t, p, u, nil)
		if stats.Out.Received != 1 || stats.Out.Delivered != 1 || len(u.sent) != count {
			t.Fatalf("%d datagrams, counters %+v", len(u.sent), stats.Out)
		}
		for i, s := range u.sent {
			want := encapsulated(tcpFrame6(peerTwo.MAC, ownMAC, own6, two6, mss, uint32(7+i*mss), false))
			if !bytes.Equal(s.Data, want) {
				t.Fatalf("datagram %d: %x\nwant %x", i, s.Data[:90], want[:90])
			}
		}
	}
}

// Segments that follow each other become one super-frame again.
func TestIn6Coalesces(t *testing.T) {
	const mss, count = 1358, 40
	p, u := &fakePort{takes: Offloads{Csum: true, TCP6: true, UDP: true}}, &fakeUnderlay{datagrams: []Datagram{joined6(count, mss)}}
	stats := run6(t, p, u, nil)
	want := tcpFrame6(ownMAC, peerTwo.MAC, two6, own6, count*mss, 0, true)
	if len(p.written) != 1 || !bytes.Equal(p.written[0], want) || p.writtenAs[0] != superHeader6(mss) {
		t.Errorf("%d writes, as %+v", len(p.written), p.writtenAs)
	}
	if stats.In.Delivered != count || stats.Peers[0].InFrames != count {
		t.Errorf("delivered %d, of the peer %d, want %d", stats.In.Delivered, stats.Peers[0].InFrames, count)
	}
}

// A kernel peer's super-frame that arrives in one piece goes on in one, or in
// segments where the TAP takes none.
func TestIn6SuperFrame(t *testing.T) {
	const mss = testMTU - 60
	super := tcpFrame6(ownMAC, peerTwo.MAC, two6, own6, 10*mss, 0, true)
	for takes, want := range map[Offloads]int{{Csum: true, TCP6: true}: 1, {Csum: true, TCP4: true}: 10} {
		p, u := &fakePort{takes: takes}, &fakeUnderlay{datagrams: []Datagram{{Data: encapsulated(super), From: peerTwo6.VTEP}}}
		stats := run6(t, p, u, nil)
		if stats.In.Delivered != 1 || len(p.written) != want {
			t.Errorf("a TAP that takes %+v: %d writes, want %d: drops %v", takes, len(p.written), want, drops(stats.In))
		}
		if first := tcpFrame6(ownMAC, peerTwo.MAC, two6, own6, mss, 0, false); want > 1 && !bytes.Equal(p.written[0], first) {
			t.Errorf("first segment %x\nwant %x", p.written[0][:80], first[:80])
		}
	}
}

// The longest prefix wins, and a route of the other version never does.
func TestLookup6(t *testing.T) {
	inner := Peer{Subnet: netip.MustParsePrefix("fd00:5:0:2:8000::/65"), VTEP: netip.MustParseAddr("fd00::4")}
	table := newTable([]Peer{peerTwo6, inner, peerThree6, peerTwo}, nil)
	for addr, want := range map[string]netip.Addr{
		"fd00:5:0:2::1":      peerTwo6.VTEP,
		"fd00:5:0:2:8000::1": inner.VTEP,
		"fd00:5:0:3::1":      peerThree6.VTEP,
		"fd00:5:0:4::1":      {},
		"10.5.2.1":           peerTwo.VTEP,
		"::ffff:10.5.2.1":    {},
		"::a05:201":          {},
	} {
		var got netip.Addr
		if p := table.lookup(netip.MustParseAddr(addr)); p != nil {
			got = p.VTEP
		}
		if got != want {
			t.Errorf("%s: got %v, want %v", addr, got, want)
		}
	}
}

// A peer of the other version is no peer: to send to it would end the daemon.
func TestPeersOfTheOtherVersion(t *testing.T) {
	odd := []Peer{
		{Subnet: peerThree.Subnet, VTEP: peerThree6.VTEP, MAC: peerThree.MAC},
		{Subnet: peerThree6.Subnet, VTEP: peerThree.VTEP, MAC: peerThree.MAC},
		{Subnet: peerThree6.Subnet, VTEP: netip.MustParseAddr("::ffff:192.168.0.3"), MAC: peerThree.MAC},
		{MAC: peerThree.MAC},
	}
	for _, six := range []bool{false, true} {
		s := replaySwitch(t, &replay{v6: six})
		s.SetPeers(append(odd, peerTwo, peerTwo6))
		want := peerTwo
		if six {
			want = peerTwo6
		}
		if got := s.Stats().Peers; len(got) != 1 || got[0].Peer != want {
			t.Errorf("peers %+v, want %+v", got, want)
		}
	}
}

func FuzzIn6(f *testing.F) {
	good := encapsulated(frame6(ownMAC, peerTwo.MAC, two6, own6, 100, nil))
	f.Add(good, 0, uint8(0), true)
	f.Add(joined6(3, 100).Data, joined6(3, 100).GSOSize, uint8(3), true)
	f.Add(encapsulated(tcpFrame6(ownMAC, peerTwo.MAC, two6, own6, 5000, 0, true)), 0, uint8(1), false)
	f.Add(encapsulated(packet6(ownMAC, peerTwo.MAC, "fe80::2", "ff02::1", 58, 16)), 0, uint8(0), true)
	f.Add(good[:9], 1, uint8(2), false)
	f.Fuzz(func(t *testing.T, data []byte, gsoSize int, class uint8, offloads bool) {
		if len(data) > 1<<16-1 || gsoSize < 0 || gsoSize > 1<<16-1 {
			return // no socket returns more
		}
		r := &replay{v6: true, clone: true, datagram: Datagram{Data: data, From: peerTwo6.VTEP, GSOSize: gsoSize, TOS: class}}
		s := replaySwitch(t, r)
		l := newInLoop(s, 0)
		if !offloads {
			r.takes = &Offloads{}
		}
		inBatch(t, l, r, 2)
		if d := s.Stats().In; !d.Balanced() || d.Received < 2 {
			t.Errorf("received %d, delivered %d, dropped %d", d.Received, d.Delivered, d.Dropped())
		}
	})
}

func FuzzOut6(f *testing.F) {
	f.Add(frame6(routerMAC, ownMAC, own6, two6, 100, nil), uint8(0), uint8(0), uint16(0), uint16(0), uint16(0))
	f.Add(tcpFrame6(routerMAC, ownMAC, own6, two6, 5000, 0, true), uint8(1), uint8(4), uint16(1358), uint16(54), uint16(16))
	f.Add(packet6(routerMAC, ownMAC, own6, two6, 0, 64), uint8(1), uint8(4), uint16(1), uint16(1), uint16(1))
	f.Add(frame(routerMAC, ownMAC, "10.5.1.5", "10.5.2.9", 100, nil), uint8(1), uint8(1), uint16(1), uint16(34), uint16(6))
	f.Fuzz(func(t *testing.T, data []byte, flags, gsoType uint8, gsoSize, csumStart, csumOffset uint16) {
		r := &replay{v6: true, frame: data, header: virtio.Header{
			Flags: virtio.Flags(flags), GSOType: virtio.GSOType(gsoType), GSOSize: gsoSize, CsumStart: csumStart, CsumOffset: csumOffset,
		}}
		s := replaySwitch(t, r)
		outBatch(t, newOutLoop(s, 0), r, 3)
		if d := s.Stats().Out; !d.Balanced() || d.Received != 3 {
			t.Errorf("received %d, delivered %d, dropped %d", d.Received, d.Delivered, d.Dropped())
		}
	})
}
