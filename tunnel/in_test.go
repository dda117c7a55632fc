// SPDX-License-Identifier: Apache-2.0

package tunnel

import (
	"bytes"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestInDecapsulates(t *testing.T) {
	p, u := &fakePort{}, &fakeUnderlay{}
	f := frame(ownMAC, peerTwo.MAC, "10.5.2.9", "10.5.1.5", 100, nil)
	u.datagrams = []Datagram{{Data: encapsulated(f), From: peerTwo.VTEP}}
	stats := run(t, p, u, nil)
	if len(p.written) != 1 || !bytes.Equal(p.written[0], f) {
		t.Errorf("wrote %x, want %x", p.written, f)
	}
	if got, want := stats.Peers[0].PeerTraffic, (PeerTraffic{InFrames: 1, InBytes: 142}); got != want {
		t.Errorf("traffic %+v, want %+v", got, want)
	}
}

// Datagrams that the kernel joined are taken apart again, and counted one by
// one, the bad among them too.
func TestInTakesJoinedDatagramsApart(t *testing.T) {
	p, u := &fakePort{}, &fakeUnderlay{}
	good := encapsulated(frame(ownMAC, peerTwo.MAC, "10.5.2.9", "10.5.1.5", 100, nil))
	bad := encapsulated(frame(ownMAC, peerTwo.MAC, "10.5.2.9", "10.5.1.5", 100, nil))
	bad[6]++ // the VNI
	tail := encapsulated(frame(ownMAC, peerTwo.MAC, "10.5.2.9", "10.5.1.5", 30, nil))
	u.datagrams = []Datagram{{Data: slices.Concat(good, bad, good, tail), From: peerTwo.VTEP, GSOSize: len(good)}}
	stats := run(t, p, u, nil)
	if stats.In.Received != 4 || stats.In.Delivered != 3 || stats.In.Drops[OtherVNI] != 1 {
		t.Errorf("received %d, delivered %d, drops %v", stats.In.Received, stats.In.Delivered, drops(stats.In))
	}
	if len(p.written) != 3 || !bytes.Equal(p.written[2], tail[8:]) {
		t.Errorf("wrote %d frames", len(p.written))
	}
}

func TestInDrops(t *testing.T) {
	in := func(edit func([]byte)) []byte {
		return encapsulated(frame(ownMAC, peerTwo.MAC, "10.5.2.9", "10.5.1.5", 100, edit))
	}
	spoilt := func(edit func([]byte)) []byte { b := in(nil); edit(b); return b }
	tests := []struct {
		name   string
		data   []byte
		from   netip.Addr // peerTwo's VTEP if not set
		tos    uint8
		refuse error
		want   Reason
	}{
		{name: "an empty datagram", data: nil, want: ShortDatagram},
		{name: "seven bytes", data: in(nil)[:7], want: ShortDatagram},
		{name: "no Ethernet header", data: in(nil)[:21], want: ShortDatagram},
		{name: "no I flag", data: spoilt(func(b []byte) { b[0] = 0 }), want: NoVNIFlag},
		{name: "a peer's zeros", data: spoilt(func(b []byte) { clear(b[:8]) }), want: Probe},
		{name: "the zeros of a host that we have not heard of yet", data: spoilt(func(b []byte) { clear(b[:8]) }), from: netip.MustParseAddr("192.168.0.99"), want: Probe},
		{name: "a flag that RFC 7348 reserves", data: spoilt(func(b []byte) { b[0] |= 0x40 }), want: ReservedBits},
		{name: "a policy identifier", data: spoilt(func(b []byte) { b[0] |= 0x80; b[3] = 7 }), want: ReservedBits},
		{name: "the last reserved byte", data: spoilt(func(b []byte) { b[7] = 1 }), want: ReservedBits},
		{name: "another VNI", data: spoilt(func(b []byte) { b[6]++ }), want: OtherVNI},
		{name: "a stranger", data: in(nil), from: netip.MustParseAddr("192.168.0.99"), want: NotAPeer},
		{name: "an IP packet cut short", data: in(nil)[:60], want: Malformed},
		{name: "another station's frame", data: in(func(b []byte) { b[5]++ }), want: WrongMAC},
		{name: "a broadcast", data: in(func(b []byte) { copy(b, "\xff\xff\xff\xff\xff\xff") }), want: WrongMAC},
		{name: "a multicast source", data: in(func(b []byte) { b[6] |= 1 }), want: BadSourceMAC},
		{name: "a source of zeros", data: in(func(b []byte) { clear(b[6:12]) }), want: BadSourceMAC},
		{name: "our own source: a loop", data: in(func(b []byte) { copy(b[6:], ownMAC[:]) }), want: BadSourceMAC},
		{name: "a VLAN tag", data: in(func(b []byte) { b[12], b[13], b[16], b[17] = 0x81, 0, 0x08, 0x06 }), want: VLANTagged},
		{name: "IPv6", data: encapsulated(ipv6Frame(ownMAC, peerTwo.MAC)), want: IPv6},
		{name: "ARP", data: in(func(b []byte) { b[13] = 0x06 }), want: NotIP},
		{name: "a source in another peer's subnet", data: encapsulated(frame(ownMAC, peerTwo.MAC, "10.5.3.9", "10.5.1.5", 1, nil)), want: ForeignSource},
		{name: "a source in our own subnet", data: encapsulated(frame(ownMAC, peerTwo.MAC, "10.5.1.9", "10.5.1.5", 1, nil)), want: ForeignSource},
		{name: "a destination at another peer", data: encapsulated(frame(ownMAC, peerTwo.MAC, "10.5.2.9", "10.5.3.5", 1, nil)), want: Transit},
		{name: "congestion that cannot be told", data: in(nil), tos: 3, want: Congestion},
		{name: "larger than the MTU", data: encapsulated(frame(ownMAC, peerTwo.MAC, "10.5.2.9", "10.5.1.5", testMTU-28+1, nil)), want: TooBig},
		{name: "a TAP that is full", data: in(nil), refuse: ErrFull, want: TAPFull},
		{name: "a TAP that is down", data: in(nil), refuse: ErrFrame, want: TAPError},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			from := tt.from
			if !from.IsValid() {
				from = peerTwo.VTEP
			}
			p, u := &fakePort{refuse: tt.refuse}, &fakeUnderlay{}
			u.datagrams = []Datagram{{Data: tt.data, From: from, TOS: tt.tos}}
			stats := run(t, p, u, nil)
			if diff := cmp.Diff(map[string]uint64{tt.want.String(): 1}, drops(stats.In)); diff != "" {
				t.Errorf("drops (-want +got):\n%s", diff)
			}
			if len(p.written) != 0 {
				t.Errorf("wrote %d frames", len(p.written))
			}
		})
	}
}

// RFC 6040, figure 4, row by row.
func TestInCombinesECN(t *testing.T) {
	const notECT, ect1, ect0, ce, dropped = 0, 1, 2, 3, 99
	want := [4][4]uint8{ // by inner, then outer field: Not-ECT, ECT(1), ECT(0), CE
		notECT: {notECT, notECT, notECT, dropped},
		ect1:   {ect1, ect1, ect1, ce},
		ect0:   {ect0, ect1, ect0, ce},
		ce:     {ce, ce, ce, ce},
	}
	for inner := range uint8(4) {
		for outer := range uint8(4) {
			p, u := &fakePort{}, &fakeUnderlay{}
			u.datagrams = []Datagram{{
				Data: encapsulated(frame(ownMAC, peerTwo.MAC, "10.5.2.9", "10.5.1.5", 100, withTOS(inner))),
				From: peerTwo.VTEP, TOS: outer,
			}}
			run(t, p, u, nil)
			if want[inner][outer] == dropped {
				if len(p.written) != 0 {
					t.Errorf("inner %d, outer %d: delivered, want dropped", inner, outer)
				}
				continue
			}
			w := frame(ownMAC, peerTwo.MAC, "10.5.2.9", "10.5.1.5", 100, withTOS(want[inner][outer]))
			if len(p.written) != 1 || !bytes.Equal(p.written[0], w) {
				t.Errorf("inner %d, outer %d: wrote %x, want %x", inner, outer, p.written, w)
			}
		}
	}
}

func TestGBPBitsPassWhereConfigured(t *testing.T) {
	p, u := &fakePort{}, &fakeUnderlay{}
	b := encapsulated(frame(ownMAC, peerTwo.MAC, "10.5.2.9", "10.5.1.5", 1, nil))
	b[0], b[1], b[2], b[3] = 0x88, 0x48, 0x12, 0x34
	u.datagrams = []Datagram{{Data: b, From: peerTwo.VTEP}}
	if stats := run(t, p, u, func(c *Config) { c.GBP = true }); stats.In.Delivered != 1 {
		t.Errorf("delivered %d, want 1: drops %v", stats.In.Delivered, drops(stats.In))
	}
}

func TestChecks(t *testing.T) {
	stranger := Datagram{Data: encapsulated(frame(ownMAC, peerTwo.MAC, "10.5.2.9", "10.5.1.5", 1, nil)), From: netip.MustParseAddr("192.168.0.99")}
	tests := []struct {
		name      string
		checks    Checks
		delivered uint64
		flagged   map[Reason]uint64
	}{
		{"strict", Checks{}, 0, nil},
		{"log both", Checks{Source: Log, InnerSource: Log}, 1, map[Reason]uint64{NotAPeer: 1, ForeignSource: 1}},
		{"log one, strict the other", Checks{Source: Log}, 0, map[Reason]uint64{NotAPeer: 1}},
		{"off", Checks{Source: Off, InnerSource: Off}, 1, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, u := &fakePort{}, &fakeUnderlay{datagrams: []Datagram{stranger}}
			stats := run(t, p, u, func(c *Config) { c.Checks = tt.checks })
			if stats.In.Delivered != tt.delivered {
				t.Errorf("delivered %d, want %d", stats.In.Delivered, tt.delivered)
			}
			for r := range NumReasons {
				if got := stats.In.Flagged[r]; got != tt.flagged[r] {
					t.Errorf("flagged %s %d, want %d", r, got, tt.flagged[r])
				}
			}
		})
	}
}
