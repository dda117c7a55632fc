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
		m.Lost, m.Err = 0, u.refuse
		if m.Err != nil {
			m.Lost = ^uint64(0)
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

func (u *fakeUnderlay) SourcePort(uint32) uint16 { return 50000 }
func (u *fakeUnderlay) MaxSegments() int         { return u.maxSegments }
func (u *fakeUnderlay) Interrupt()               { u.once.Do(func() { close(u.stop) }) }

// run moves all that the two ends have through a switch and returns its Stats.
func run(t *testing.T, p *fakePort, u *fakeUnderlay, edit func(*Config)) Stats {
	t.Helper()
	return runWith(t, p, u, edit, peerTwo, peerThree)
}

// runWith is run with other peers.
func runWith(t *testing.T, p *fakePort, u *fakeUnderlay, edit func(*Config), peers ...Peer) Stats {
	t.Helper()
	var stats Stats
	synctest.Test(t, func(t *testing.T) {
		p.stop, u.stop = make(chan struct{}), make(chan struct{})
		if u.maxSegments == 0 {
			u.maxSegments = 63
		}
		c := Config{VNI: testVNI, MAC: ownMAC, RouterMAC: routerMAC, Subnet: ownSubnet, MTU: testMTU, Lanes: []Lane{{Port: p, Underlay: u}}, Coalesce: true}
		if edit != nil {
			edit(&c)
		}
		s, err := New(c)
		if err != nil {
			t.Fatal(err)
		}
		s.SetPeers(peers)
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

// ipv6Frame is a frame with an empty IPv6 packet.
func ipv6Frame(dstMAC, srcMAC ether.MAC) []byte {
	b := make([]byte, 14+40)
	copy(b, dstMAC[:])
	copy(b[6:], srcMAC[:])
	binary.BigEndian.PutUint16(b[12:], uint16(ether.TypeIPv6))
	b[14], b[20] = 0x60, 59 // version 6, no next header
	return b
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
		{"no lane", func(c *Config) { c.Lanes = nil }},
		{"no port", func(c *Config) { c.Lanes[0].Port = nil }},
		{"no underlay", func(c *Config) { c.Lanes[0].Underlay = nil }},
		{"no VTEP MAC", func(c *Config) { c.MAC = ether.MAC{} }},
		{"a multicast router MAC", func(c *Config) { c.RouterMAC[0] = 1 }},
		{"no subnet", func(c *Config) { c.Subnet = netip.Prefix{} }},
		{"an IPv4 subnet in IPv6", func(c *Config) { c.Subnet = netip.MustParsePrefix("::ffff:10.5.1.0/120") }},
		{"an MTU that no IPv6 host may have", func(c *Config) { c.Subnet, c.MTU = netip.MustParsePrefix("fd00::/64"), 1279 }},
		{"an uplink with IPv6", func(c *Config) { c.Subnet, c.Uplink = netip.MustParsePrefix("fd00::/64"), swallow{} }},
		{"an MTU that no IPv4 host may have", func(c *Config) { c.MTU = 67 }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := Config{VNI: 1, MAC: ownMAC, RouterMAC: routerMAC, Subnet: ownSubnet, MTU: testMTU, Lanes: []Lane{{Port: &fakePort{}, Underlay: &fakeUnderlay{}}}}
			tt.edit(&c)
			if _, err := New(c); err == nil {
				t.Error("got no error")
			}
		})
	}
}

// A peer that stays keeps its counts, whatever else of it changes.
func TestTrafficOutlivesTheTable(t *testing.T) {
	s, err := New(Config{VNI: 1, MAC: ownMAC, RouterMAC: routerMAC, Subnet: ownSubnet, MTU: testMTU, Lanes: []Lane{{Port: &fakePort{}, Underlay: &fakeUnderlay{}}}})
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
