// SPDX-License-Identifier: Apache-2.0

package tunnel

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"

	"vxtap/encap/ether"
	"vxtap/encap/virtio"
	"vxtap/encap/vxlan"
)

// fakeUplink keeps what is written to it, and how much the underlay had been
// given before. It is the gate of each peer as well.
type fakeUplink struct {
	closed  bool
	asked   int
	refuse  error
	before  func() int
	written [][]byte
	after   []int
}

func (u *fakeUplink) Open() bool {
	u.asked++
	return !u.closed
}

func (u *fakeUplink) Gates(vteps []netip.Addr) []Gate {
	return slices.Repeat([]Gate{u}, len(vteps))
}

func (u *fakeUplink) Endpoint() vxlan.Endpoint {
	return vxlan.Endpoint{MAC: ether.MAC{2, 0, 0, 0, 0, 0x10}, Local: netip.MustParseAddrPort("192.168.0.1:8472")}
}

func (u *fakeUplink) WriteFrame(b []byte) error {
	if u.refuse != nil {
		return u.refuse
	}
	u.written = append(u.written, bytes.Clone(b))
	if u.before != nil {
		u.after = append(u.after, u.before())
	}
	return nil
}

const outerBytes = virtio.TunnelHeaderLen + vxlan.OuterLen

// A super-frame leaves as it is, with its new MACs, behind the outer headers
// and a virtio header that counts from the outer frame's start.
func TestOutWhole(t *testing.T) {
	super := tcpFrame(routerMAC, ownMAC, "10.5.1.5", "10.5.2.9", 46*1398, 7, true)
	withTOS(2)(super)
	p, u := &fakePort{reads: [][]byte{slices.Clone(super)}, headers: []virtio.Header{superHeader(1398)}}, &fakeUnderlay{}
	up := &fakeUplink{}
	stats := run(t, p, u, func(c *Config) { c.Uplink = up })
	if len(up.written) != 1 || len(u.sent) != 0 {
		t.Fatalf("%d whole, %d cut", len(up.written), len(u.sent))
	}
	if d := stats.Out; d.Whole != 1 || d.Delivered != 1 || d.DeliveredBytes != uint64(len(super)) || stats.Peers[0].OutFrames != 1 {
		t.Errorf("counters %+v, peer %+v", d, stats.Peers[0])
	}
	got := up.written[0]
	copy(super, peerTwo.MAC[:])
	copy(super[6:], ownMAC[:])
	if !bytes.Equal(got[outerBytes:], super) {
		t.Error("the inner frame is not the one that was read")
	}
	var h virtio.Header
	h.Decode(got)
	want := virtio.Header{Flags: virtio.NeedsCsum | 8, GSOType: virtio.GSOTCPv4 | 0x20, HdrLen: 104, GSOSize: 1398, CsumStart: 84, CsumOffset: 16}
	if h != want || binary.LittleEndian.Uint16(got[20:]) != 34 || binary.LittleEndian.Uint16(got[22:]) != 64 {
		t.Errorf("virtio header %+v, offsets %d and %d, want %+v, 34 and 64", h, got[20], got[22], want)
	}
	outer := got[virtio.TunnelHeaderLen:]
	if outer[15] != 2 || !bytes.Equal(outer[30:34], peerTwo.VTEP.AsSlice()) || binary.BigEndian.Uint16(outer[34:]) != 50000 {
		t.Errorf("outer headers %x", outer[:vxlan.OuterLen])
	}
	if header := outer[42:50]; !bytes.Equal(header, []byte{0x08, 0, 0, 0, 0, 0, testVNI, 0}) {
		t.Errorf("VXLAN header %x", header)
	}
}

// What cannot leave whole is cut, and nothing is lost or sent twice.
func TestOutCutAfterAll(t *testing.T) {
	const mss = 1398
	padded := append(tcpFrame(routerMAC, ownMAC, "10.5.1.5", "10.5.2.9", 3*mss, 0, true), 0, 0)
	tests := []struct {
		name   string
		uplink *fakeUplink
		frame  []byte
		size   int
		want   int // datagrams
		asked  int // how often for the gate
	}{
		{"the way is closed", &fakeUplink{closed: true}, tcpFrame(routerMAC, ownMAC, "10.5.1.5", "10.5.2.9", 3*mss, 0, true), mss, 3, 1},
		{"the kernel refuses", &fakeUplink{refuse: ErrRefused}, tcpFrame(routerMAC, ownMAC, "10.5.1.5", "10.5.2.9", 3*mss, 0, true), mss, 3, 1},
		{"no room for the outer headers", &fakeUplink{}, tcpFrame(routerMAC, ownMAC, "10.5.1.5", "10.5.2.9", maxWhole-54+1, 0, true), mss, 47, 0},
		{"bytes behind the packet", &fakeUplink{}, padded, mss, 3, 0},
		{"a single segment, which the kernel would not finish", &fakeUplink{}, tcpFrame(routerMAC, ownMAC, "10.5.1.5", "10.5.2.9", mss, 0, true), mss, 1, 0},
		{"no payload", &fakeUplink{}, tcpFrame(routerMAC, ownMAC, "10.5.1.5", "10.5.2.9", 0, 0, true), mss, 1, 0},
		{"segments that the host would fragment", &fakeUplink{}, tcpFrame(routerMAC, ownMAC, "10.5.1.5", "10.5.2.9", 3000, 0, true), testMTU, 3, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, u := &fakePort{reads: [][]byte{tt.frame}, headers: []virtio.Header{superHeader(tt.size)}}, &fakeUnderlay{}
			stats := run(t, p, u, func(c *Config) { c.Uplink = tt.uplink })
			if len(tt.uplink.written) != 0 || len(u.sent) != tt.want || stats.Out.Delivered != 1 || stats.Out.Whole != 0 {
				t.Errorf("%d whole, %d datagrams, want 0 and %d; counters %+v", len(tt.uplink.written), len(u.sent), tt.want, stats.Out)
			}
			if tt.uplink.asked != tt.asked { // a gate opens for those who ask
				t.Errorf("asked %d times for the gate, want %d", tt.uplink.asked, tt.asked)
			}
		})
	}
}

// A frame of thousands of segments is refused, whichever way is open: it would
// keep the kernel busy within one write.
func TestOutTooManySegments(t *testing.T) {
	for _, uplink := range []Uplink{nil, &fakeUplink{}} {
		p := &fakePort{
			reads:   [][]byte{tcpFrame(routerMAC, ownMAC, "10.5.1.5", "10.5.2.9", 20000, 0, true)},
			headers: []virtio.Header{superHeader(1)},
		}
		u := &fakeUnderlay{}
		stats := run(t, p, u, func(c *Config) { c.Uplink = uplink })
		if stats.Out.Drops[BadOffload] != 1 || stats.Out.Whole != 0 || len(u.sent) != 0 {
			t.Errorf("uplink %v: drops %v, %d whole, %d sent", uplink != nil, drops(stats.Out), stats.Out.Whole, len(u.sent))
		}
	}
}

// What just fits leaves whole.
func TestOutLargestWhole(t *testing.T) {
	up := &fakeUplink{}
	p := &fakePort{
		reads:   [][]byte{tcpFrame(routerMAC, ownMAC, "10.5.1.5", "10.5.2.9", maxWhole-54, 0, true)},
		headers: []virtio.Header{superHeader(testMTU - 40)},
	}
	if run(t, p, &fakeUnderlay{}, func(c *Config) { c.Uplink = up }); len(up.written) != 1 {
		t.Fatal("cut")
	}
	if total := binary.BigEndian.Uint16(up.written[0][virtio.TunnelHeaderLen+16:]); total != 65535 {
		t.Errorf("outer IP length %d, want 65535", total)
	}
}

// A super-frame with a header that contradicts it is refused on this way too.
func TestOutWholeChecksTheHeader(t *testing.T) {
	bad := superHeader(1398)
	bad.CsumStart = 20
	up := &fakeUplink{}
	p := &fakePort{reads: [][]byte{tcpFrame(routerMAC, ownMAC, "10.5.1.5", "10.5.2.9", 3000, 0, true)}, headers: []virtio.Header{bad}}
	stats := run(t, p, &fakeUnderlay{}, func(c *Config) { c.Uplink = up })
	if stats.Out.Drops[BadOffload] != 1 || len(up.written) != 0 {
		t.Errorf("drops %v, %d whole", drops(stats.Out), len(up.written))
	}
}

// Two ways out must not change the order of a flow: what was read before a
// super-frame leaves before it, also where it waits in a batch.
func TestOutKeepsTheOrderOfBothWays(t *testing.T) {
	small := frame(routerMAC, ownMAC, "10.5.1.5", "10.5.2.9", 100, nil)
	super := tcpFrame(routerMAC, ownMAC, "10.5.1.5", "10.5.2.9", 3000, 0, true)
	p, u := &fakePort{}, &fakeUnderlay{}
	for range 3 {
		p.reads = append(p.reads, slices.Clone(small), slices.Clone(small), slices.Clone(super))
		p.headers = append(p.headers, virtio.Header{}, virtio.Header{}, superHeader(1398))
	}
	p.reads = append(p.reads, slices.Clone(small))
	up := &fakeUplink{before: func() int { return len(u.sent) }}
	stats := run(t, p, u, func(c *Config) { c.Uplink = up })
	if want := []int{2, 4, 6}; !slices.Equal(up.after, want) || len(u.sent) != 7 || stats.Out.Delivered != 10 {
		t.Errorf("super-frames left after %v small ones, want %v; %d small ones, %d delivered", up.after, want, len(u.sent), stats.Out.Delivered)
	}
}

// The IPv4 IDs of what leaves whole count on by segments: a fragment of one
// datagram must never be taken for one of another.
func TestOutWholeNumbersSegments(t *testing.T) {
	up := &fakeUplink{}
	p := &fakePort{}
	for range 3 {
		p.reads = append(p.reads, tcpFrame(routerMAC, ownMAC, "10.5.1.5", "10.5.2.9", 3*1398+1, 0, true))
		p.headers = append(p.headers, superHeader(1398))
	}
	run(t, p, &fakeUnderlay{}, func(c *Config) { c.Uplink = up })
	var ids []uint16
	for _, b := range up.written {
		ids = append(ids, binary.BigEndian.Uint16(b[virtio.TunnelHeaderLen+18:]))
	}
	if len(ids) != 3 || ids[1]-ids[0] < 4 || ids[2]-ids[1] < 4 {
		t.Errorf("IDs %v of three super-frames with four segments each", ids)
	}
}
