// SPDX-License-Identifier: Apache-2.0

package tunnel

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"net/netip"
	"os"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"vxtap/encap/ether"
	"vxtap/encap/virtio"
)

// The network of these tests: we hold 10.5.1.0/24, two peers the next two.
var (
	ownMAC    = ether.MAC{2, 0, 0, 0, 0, 1}
	routerMAC = ether.MAC{2, 0, 0, 0, 0, 0xfe}
	ownSubnet = netip.MustParsePrefix("10.5.1.0/24")
	peerTwo   = Peer{Subnet: netip.MustParsePrefix("10.5.2.0/24"), VTEP: netip.MustParseAddr("192.168.0.2"), MAC: ether.MAC{2, 0, 0, 0, 0, 2}}
	peerThree = Peer{Subnet: netip.MustParsePrefix("10.5.3.0/24"), VTEP: netip.MustParseAddr("192.168.0.3"), MAC: ether.MAC{2, 0, 0, 0, 0, 3}}
)

const (
	testVNI = 1
	testMTU = 1450
)

// frame builds an Ethernet frame with an IPv4 UDP packet; edit may spoil it.
func frame(dstMAC, srcMAC ether.MAC, src, dst string, payload int, edit func([]byte)) []byte {
	b := make([]byte, 14+20+8+payload)
	copy(b, dstMAC[:])
	copy(b[6:], srcMAC[:])
	binary.BigEndian.PutUint16(b[12:], uint16(ether.TypeIPv4))
	ip := b[14:]
	ip[0] = 0x45
	binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
	ip[8], ip[9] = 64, 17
	s, d := netip.MustParseAddr(src).As4(), netip.MustParseAddr(dst).As4()
	copy(ip[12:], s[:])
	copy(ip[16:], d[:])
	binary.BigEndian.PutUint16(ip[10:], ^fold(sum16(ip[:20])))
	udp := ip[20:]
	binary.BigEndian.PutUint16(udp, 1000)
	binary.BigEndian.PutUint16(udp[2:], 2000)
	binary.BigEndian.PutUint16(udp[4:], uint16(len(udp)))
	pseudo := sum16(ip[12:20]) + 17 + uint32(len(udp))
	binary.BigEndian.PutUint16(udp[6:], ^fold(pseudo+sum16(udp)))
	if edit != nil {
		edit(b)
	}
	return b
}

// sum16 and fold are RFC 1071 at its plainest, to check the fast one against.
func sum16(b []byte) (sum uint32) {
	for i := range b {
		if i%2 == 0 {
			sum += uint32(b[i]) << 8
		} else {
			sum += uint32(b[i])
		}
	}
	return sum
}

func fold(sum uint32) uint16 {
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return uint16(sum)
}

// encapsulated puts a VXLAN header before f.
func encapsulated(f []byte) []byte {
	return append([]byte{0x08, 0, 0, 0, 0, 0, testVNI, 0}, f...)
}

// fakePort and fakeUnderlay are the two ends of a switch under test. An end
// with nothing left to say interrupts itself, so that Run comes to an end.
type fakePort struct {
	reads     [][]byte
	headers   []virtio.Header // for reads; missing ones are zero
	takes     Offloads
	refuse    error // what WriteFrame says
	written   [][]byte
	writtenAs []virtio.Header
	stop      chan struct{}
	once      sync.Once
}

func (p *fakePort) ReadFrame(b []byte, h *virtio.Header, wait bool) (int, error) {
	if len(p.reads) == 0 {
		if !wait {
			return 0, ErrEmpty
		}
		<-p.stop
		return 0, ErrInterrupted
	}
	*h = virtio.Header{}
	if len(p.headers) > 0 {
		*h, p.headers = p.headers[0], p.headers[1:]
	}
	n := copy(b, p.reads[0])
	p.reads = p.reads[1:]
	return n, nil
}

func (p *fakePort) WriteFrame(h virtio.Header, head []byte, payloads [][]byte) error {
	if p.refuse != nil && (h.IsGSO() || !errors.Is(p.refuse, ErrRefused)) {
		return p.refuse
	}
	p.written = append(p.written, slices.Concat(append([][]byte{head}, payloads...)...))
	p.writtenAs = append(p.writtenAs, h)
	return nil
}

func (p *fakePort) Takes() Offloads { return p.takes }
func (p *fakePort) Interrupt()      { p.once.Do(func() { close(p.stop) }) }

type fakeUnderlay struct {
	datagrams   []Datagram
	maxSegments int
	refuse      error // what Send says of every message
	sent        []sentDatagram
	stop        chan struct{}
	once        sync.Once
}

type sentDatagram struct {
	To   netip.Addr
	TOS  uint8
	Data []byte
}

func (u *fakeUnderlay) Receive(d []Datagram, _ bool) (int, error) {
	if len(u.datagrams) == 0 {
		<-u.stop
		return 0, ErrInterrupted
	}
	n := copy(d, u.datagrams)
	u.datagrams = u.datagrams[n:]
	return n, nil
}

func (u *fakeUnderlay) Send(messages []Message) {
	for i := range messages {
		m := &messages[i]
		m.Err = u.refuse
		if m.Err != nil {
			continue
		}
		for j, s := range m.Segments {
			data := slices.Concat(s.Header, s.Payload)
			if len(data) > m.Size || j < len(m.Segments)-1 && len(data) != m.Size {
				m.Err = errors.New("segments of unequal size")
			}
			u.sent = append(u.sent, sentDatagram{m.To, m.TOS, data})
		}
	}
}

func (u *fakeUnderlay) MaxSegments() int  { return u.maxSegments }
func (u *fakeUnderlay) Overflows() uint64 { return 7 }
func (u *fakeUnderlay) Interrupt()        { u.once.Do(func() { close(u.stop) }) }

// run moves all that the two ends have through a switch and returns its Stats.
func run(t *testing.T, p *fakePort, u *fakeUnderlay, edit func(*Config)) Stats {
	t.Helper()
	var stats Stats
	synctest.Test(t, func(t *testing.T) {
		p.stop, u.stop = make(chan struct{}), make(chan struct{})
		if u.maxSegments == 0 {
			u.maxSegments = 63
		}
		c := Config{VNI: testVNI, MAC: ownMAC, RouterMAC: routerMAC, Subnet: ownSubnet, MTU: testMTU, Port: p, Underlay: u}
		if edit != nil {
			edit(&c)
		}
		s, err := New(c)
		if err != nil {
			t.Fatal(err)
		}
		s.SetPeers([]Peer{peerTwo, peerThree})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- s.Run(ctx) }()
		synctest.Wait() // until both loops wait for more
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		stats = s.Stats()
	})
	for name, d := range map[string]*Direction{"out": &stats.Out, "in": &stats.In} {
		if !d.Balanced() {
			t.Errorf("%s: received %d, delivered %d, dropped %d", name, d.Received, d.Delivered, d.Dropped())
		}
	}
	return stats
}

// drops returns what d dropped, by name.
func drops(d Direction) map[string]uint64 {
	m := map[string]uint64{}
	for r := range NumReasons {
		if d.Drops[r] != 0 {
			m[r.String()] = d.Drops[r]
		}
	}
	return m
}

// withTOS sets the TOS of an IPv4 frame and mends the header checksum.
func withTOS(tos uint8) func([]byte) {
	return func(b []byte) {
		b[15] = tos
		b[24], b[25] = 0, 0
		binary.BigEndian.PutUint16(b[24:], ^fold(sum16(b[14:34])))
	}
}

func TestOutRewritesAndEncapsulates(t *testing.T) {
	p, u := &fakePort{}, &fakeUnderlay{}
	p.reads = [][]byte{
		frame(routerMAC, ownMAC, "10.5.1.5", "10.5.2.9", 100, nil),
		frame(routerMAC, ownMAC, "10.5.1.5", "10.5.3.9", 7, withTOS(2)),
	}
	stats := run(t, p, u, nil)
	want := []sentDatagram{
		{peerTwo.VTEP, 0, encapsulated(frame(peerTwo.MAC, ownMAC, "10.5.1.5", "10.5.2.9", 100, nil))},
		// The outer header takes over ECT(0) from the inner one.
		{peerThree.VTEP, 2, encapsulated(frame(peerThree.MAC, ownMAC, "10.5.1.5", "10.5.3.9", 7, withTOS(2)))},
	}
	if diff := cmp.Diff(want, u.sent, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Errorf("sent (-want +got):\n%s", diff)
	}
	traffic := []PeerTraffic{stats.Peers[0].PeerTraffic, stats.Peers[1].PeerTraffic}
	if want := []PeerTraffic{{OutFrames: 1, OutBytes: 142}, {OutFrames: 1, OutBytes: 49}}; !slices.Equal(traffic, want) {
		t.Errorf("traffic %+v, want %+v", traffic, want)
	}
	if d := stats.Out; d.Received != 2 || d.Delivered != 2 || d.DeliveredBytes != 191 {
		t.Errorf("counters %+v", d)
	}
}

func TestOutDrops(t *testing.T) {
	out := func(dst string, edit func([]byte)) []byte {
		return frame(routerMAC, ownMAC, "10.5.1.5", dst, 100, edit)
	}
	tests := []struct {
		name   string
		frame  []byte
		header virtio.Header
		refuse error
		want   Reason
	}{
		{name: "a frame shorter than its headers", frame: out("10.5.2.9", nil)[:20], want: Malformed},
		{name: "a VLAN tag", frame: out("10.5.2.9", func(b []byte) { b[12], b[13], b[16], b[17] = 0x81, 0, 0x08, 0x06 }), want: VLANTagged},
		{name: "an IPv6 packet", frame: ipv6Frame(routerMAC, ownMAC), want: IPv6},
		{name: "an ARP request", frame: out("10.5.2.9", func(b []byte) { b[13] = 0x06 }), want: NotIP},
		{name: "a checksum to be put outside the frame", frame: out("10.5.2.9", nil), header: virtio.Header{Flags: virtio.NeedsCsum, CsumStart: 140, CsumOffset: 6}, want: BadOffload},
		{name: "a super-frame of another protocol", frame: out("10.5.2.9", nil), header: virtio.Header{Flags: virtio.NeedsCsum, GSOType: virtio.GSOTCPv4, GSOSize: 50, CsumStart: 34, CsumOffset: 16}, want: BadOffload},
		{name: "larger than the MTU", frame: frame(routerMAC, ownMAC, "10.5.1.5", "10.5.2.9", testMTU-28+1, nil), want: TooBig},
		{name: "broadcast", frame: out("10.5.2.9", func(b []byte) { copy(b, "\xff\xff\xff\xff\xff\xff") }), want: Broadcast},
		{name: "multicast", frame: out("10.5.2.9", func(b []byte) { b[0] = 1 }), want: Broadcast},
		{name: "another station", frame: out("10.5.2.9", func(b []byte) { b[5]++ }), want: UnknownMAC},
		{name: "our own subnet", frame: out("10.5.1.9", nil), want: OwnSubnet},
		{name: "a subnet that nobody leases", frame: out("10.5.4.1", nil), want: NoPeer},
		{name: "a peer out of reach", frame: out("10.5.2.9", nil), refuse: ErrUnreachable, want: UnderlayUnreachable},
		{name: "an underlay too narrow", frame: out("10.5.2.9", nil), refuse: ErrMTU, want: UnderlayMTU},
		{name: "a socket that stays full", frame: out("10.5.2.9", nil), refuse: ErrFull, want: UnderlayFull},
		{name: "any other refusal", frame: out("10.5.2.9", nil), refuse: ErrFrame, want: UnderlayError},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, u := &fakePort{reads: [][]byte{tt.frame}, headers: []virtio.Header{tt.header}}, &fakeUnderlay{refuse: tt.refuse}
			stats := run(t, p, u, nil)
			if diff := cmp.Diff(map[string]uint64{tt.want.String(): 1}, drops(stats.Out)); diff != "" {
				t.Errorf("drops (-want +got):\n%s", diff)
			}
			if len(u.sent) != 0 {
				t.Errorf("sent %d datagrams", len(u.sent))
			}
		})
	}
}

// ipv6Frame is a frame with an empty IPv6 packet.
func ipv6Frame(dstMAC, srcMAC ether.MAC) []byte {
	b := make([]byte, 14+40)
	copy(b, dstMAC[:])
	copy(b[6:], srcMAC[:])
	binary.BigEndian.PutUint16(b[12:], uint16(ether.TypeIPv6))
	b[14], b[20] = 0x60, 59 // version 6, no next header
	return b
}

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
	if stats.SocketOverflows != 7 {
		t.Errorf("socket overflows %d, want 7", stats.SocketOverflows)
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

func TestEveryReasonHasAName(t *testing.T) {
	seen := map[string]Reason{}
	for r := range NumReasons {
		name := r.String()
		if prev, ok := seen[name]; ok || name == "" || name == "unknown" {
			t.Errorf("reason %d is called %q, as is reason %d", r, name, prev)
		}
		seen[name] = r
	}
}

func TestNewRefuses(t *testing.T) {
	tests := []struct {
		name string
		edit func(*Config)
	}{
		{"a VNI of 25 bits", func(c *Config) { c.VNI = 1 << 24 }},
		{"no port", func(c *Config) { c.Port = nil }},
		{"no underlay", func(c *Config) { c.Underlay = nil }},
		{"no VTEP MAC", func(c *Config) { c.MAC = ether.MAC{} }},
		{"a multicast router MAC", func(c *Config) { c.RouterMAC[0] = 1 }},
		{"an IPv6 subnet", func(c *Config) { c.Subnet = netip.MustParsePrefix("fd00::/64") }},
		{"an MTU that no IPv4 host may have", func(c *Config) { c.MTU = 67 }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := Config{VNI: 1, MAC: ownMAC, RouterMAC: routerMAC, Subnet: ownSubnet, MTU: testMTU, Port: &fakePort{}, Underlay: &fakeUnderlay{}}
			tt.edit(&c)
			if _, err := New(c); err == nil {
				t.Error("got no error")
			}
		})
	}
}

// A peer that stays keeps its counts, whatever else of it changes.
func TestTrafficOutlivesTheTable(t *testing.T) {
	s, err := New(Config{VNI: 1, MAC: ownMAC, RouterMAC: routerMAC, Subnet: ownSubnet, MTU: testMTU, Port: &fakePort{}, Underlay: &fakeUnderlay{}})
	if err != nil {
		t.Fatal(err)
	}
	s.SetPeers([]Peer{peerTwo, peerThree})
	s.table.Load().peers[1].traffic.outFrames.Add(5)
	moved := peerThree
	moved.VTEP = netip.MustParseAddr("192.168.0.33")
	s.SetPeers([]Peer{moved})
	if got := s.Stats().Peers; len(got) != 1 || got[0].OutFrames != 5 || got[0].VTEP != moved.VTEP {
		t.Errorf("peers %+v", got)
	}
}

// People look the reasons up; each must be there to be found.
func TestEveryReasonIsDocumented(t *testing.T) {
	text, err := os.ReadFile("../docs/drops.md")
	if err != nil {
		t.Fatal(err)
	}
	for r := range NumReasons {
		if !bytes.Contains(text, []byte("| `"+r.String()+"` |")) {
			t.Errorf("docs/drops.md has no row for %s", r)
		}
	}
}
