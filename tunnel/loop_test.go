// SPDX-License-Identifier: Apache-2.0

package tunnel

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"
	"testing"

	"vxtap/encap/virtio"
	"vxtap/encap/vxlan"
)

// replay is a Port and an Underlay that hand out one frame, or one datagram,
// again and again, a batch at a time, and swallow what they are given.
type replay struct {
	frame    []byte
	header   virtio.Header
	datagram Datagram
	clone    bool
	takes    *Offloads // nil: all
	uplink   Uplink
	peerMACs bool
	v6       bool // of the IPv6 network
	// strangers is set where all frames are to be refused.
	strangers bool
	left      int
	taken     int
}

func (r *replay) ReadFrame(b []byte, h *virtio.Header, _ bool) (int, error) {
	if r.left == 0 {
		return 0, ErrEmpty
	}
	r.left--
	*h = r.header
	return copy(b, r.frame), nil
}

func (r *replay) WriteFrame(virtio.Header, []byte, [][]byte) error { r.taken++; return nil }
func (r *replay) Takes() Offloads {
	if r.takes != nil {
		return *r.takes
	}
	return Offloads{Csum: true, TCP4: true, TCP6: true, UDP: true}
}
func (r *replay) Interrupt()               {}
func (r *replay) SourcePort(uint32) uint16 { return 50000 }
func (r *replay) MaxSegments() int         { return 63 }

func (r *replay) Receive(d []Datagram, _ bool) (int, error) {
	if r.left == 0 {
		return 0, ErrInterrupted
	}
	n := min(r.left, len(d))
	r.left -= n
	for i := range n {
		d[i] = r.datagram
	}
	if r.clone { // a loop may write to what it receives; a fuzzer's input it may not
		for i := range n {
			d[i].Data = slices.Clone(d[i].Data)
		}
	}
	return n, nil
}

func (r *replay) Send(messages []Message) {
	for i := range messages {
		messages[i].Lost, messages[i].Err = 0, nil
		r.taken += len(messages[i].Segments)
	}
}

// tcpFrame builds a TCP frame with n bytes of payload and, for a super-frame,
// the checksum partial as the kernel leaves it.
func tcpFrame(dst, src [6]byte, from, to string, n int, seq uint32, partial bool) []byte {
	b := make([]byte, 14+20+20+n)
	copy(b, dst[:])
	copy(b[6:], src[:])
	b[12] = 0x08
	ip := b[14:]
	ip[0], ip[6], ip[8], ip[9] = 0x45, 0x40, 64, 6
	binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
	s, d := netip.MustParseAddr(from).As4(), netip.MustParseAddr(to).As4()
	copy(ip[12:], s[:])
	copy(ip[16:], d[:])
	binary.BigEndian.PutUint16(ip[10:], ^fold(sum16(ip[:20])))
	tcp := ip[20:]
	binary.BigEndian.PutUint16(tcp, 1000)
	binary.BigEndian.PutUint16(tcp[2:], 2000)
	binary.BigEndian.PutUint32(tcp[4:], seq)
	tcp[12], tcp[13] = 5<<4, 0x10 // ACK
	pseudo := sum16(ip[12:20]) + 6 + uint32(len(tcp))
	if partial {
		binary.BigEndian.PutUint16(tcp[16:], fold(pseudo))
	} else {
		binary.BigEndian.PutUint16(tcp[16:], ^fold(pseudo+sum16(tcp)))
	}
	return b
}

func superHeader(mss int) virtio.Header {
	return virtio.Header{Flags: virtio.NeedsCsum, GSOType: virtio.GSOTCPv4, HdrLen: 54, GSOSize: uint16(mss), CsumStart: 34, CsumOffset: 16}
}

// joined is n consecutive segments of one TCP flow as UDP_GRO hands them over.
func joined(n, mss int) Datagram {
	var data []byte
	for i := range n {
		data = append(data, encapsulated(tcpFrame(ownMAC, peerTwo.MAC, "10.5.2.9", "10.5.1.5", mss, uint32(i*mss), false))...)
	}
	return Datagram{Data: data, From: peerTwo.VTEP, GSOSize: len(data) / n}
}

// joinedUDP is n datagrams of one UDP flow as UDP_GRO hands them over.
func joinedUDP(n, size int) Datagram {
	var data []byte
	for range n {
		data = append(data, encapsulated(frame(ownMAC, peerTwo.MAC, "10.5.2.9", "10.5.1.5", size, func(b []byte) {
			b[20] = 0x40 // DF, as Linux's UDP sets it: the IDs mean nothing then
			withTOS(0)(b)
		}))...)
	}
	return Datagram{Data: data, From: peerTwo.VTEP, GSOSize: len(data) / n}
}

// swallow is an Uplink that takes everything.
type swallow struct{}

func (swallow) Open() bool              { return true }
func (swallow) WriteFrame([]byte) error { return nil }
func (swallow) Endpoint() vxlan.Endpoint {
	return (&fakeUplink{}).Endpoint()
}
func (s swallow) Gates(vteps []netip.Addr) []Gate {
	return slices.Repeat([]Gate{s}, len(vteps))
}

func replaySwitch(tb testing.TB, r *replay) *Switch {
	tb.Helper()
	c := Config{VNI: testVNI, MAC: ownMAC, RouterMAC: routerMAC, Subnet: ownSubnet, MTU: testMTU, Lanes: []Lane{{Port: r, Underlay: r}}, Coalesce: true, Uplink: r.uplink, PeerMACs: r.peerMACs}
	peers := []Peer{peerTwo, peerThree}
	if r.v6 {
		asIPv6(&c)
		peers = []Peer{peerTwo6, peerThree6}
	}
	s, err := New(c)
	if err != nil {
		tb.Fatal(err)
	}
	s.SetPeers(peers)
	return s
}

// outBatch runs one batch of the out loop as run does.
func outBatch(tb testing.TB, l *outLoop, r *replay, frames int) {
	tb.Helper()
	r.left = frames
	if _, err := l.batch(true); err != nil {
		tb.Fatal(err)
	}
}

func inBatch(tb testing.TB, l *inLoop, r *replay, datagrams int) {
	tb.Helper()
	r.left = datagrams
	if _, err := l.batch(true); err != nil {
		tb.Fatal(err)
	}
}

// The work of both loops, for the test that they allocate nothing and for the
// benchmark of the same name.
var loopWork = []struct {
	name   string
	out    bool
	replay replay
	batch  int
	frames int // in each read or receive
}{
	{"out, 64 small frames", true, replay{frame: frame(routerMAC, ownMAC, "10.5.1.5", "10.5.2.9", 22, nil)}, 64, 1},
	{"out, 64 small frames to a peer's MAC", true, replay{frame: frame(peerTwo.MAC, ownMAC, "10.5.1.5", "10.5.2.9", 22, nil), peerMACs: true}, 64, 1},
	{"out, 64 small frames by way of a peer", true, replay{frame: frame(peerTwo.MAC, ownMAC, "10.5.1.5", "10.6.0.9", 22, nil), peerMACs: true}, 64, 1},
	{"out, 4 full super-frames", true, replay{
		frame:  tcpFrame(routerMAC, ownMAC, "10.5.1.5", "10.5.2.9", 46*1398, 0, true),
		header: superHeader(1398),
	}, 4, 1},
	{"out, 4 full super-frames, whole", true, replay{
		frame:  tcpFrame(routerMAC, ownMAC, "10.5.1.5", "10.5.2.9", 46*1398, 0, true),
		header: superHeader(1398),
		uplink: swallow{},
	}, 4, 1},
	{"in, 4 joined datagrams of 60 small ones", false, replay{datagram: joinedUDP(60, 64)}, 4, 60},
	{"in, 8 small datagrams", false, replay{datagram: Datagram{
		Data: encapsulated(frame(ownMAC, peerTwo.MAC, "10.5.2.9", "10.5.1.5", 22, nil)), From: peerTwo.VTEP,
	}}, 8, 1},
	{"in, 4 joined datagrams of 44", false, replay{datagram: joined(44, 1398)}, 4, 44},
	{"out, 64 small frames of IPv6", true, replay{v6: true, frame: frame6(routerMAC, ownMAC, own6, two6, 22, nil)}, 64, 1},
	{"out, 4 full super-frames of IPv6", true, replay{
		v6:     true,
		frame:  tcpFrame6(routerMAC, ownMAC, own6, two6, 46*1358, 0, true),
		header: superHeader6(1358),
	}, 4, 1},
	{"in, 8 small datagrams of IPv6", false, replay{v6: true, datagram: Datagram{
		Data: encapsulated(frame6(ownMAC, peerTwo.MAC, two6, own6, 22, nil)), From: peerTwo6.VTEP,
	}}, 8, 1},
	{"in, 4 joined datagrams of 44 of IPv6", false, replay{v6: true, datagram: joined6(44, 1358)}, 4, 44},
	{"in, 8 strangers of IPv6", false, replay{v6: true, strangers: true, datagram: Datagram{
		Data: encapsulated(frame6(ownMAC, peerTwo.MAC, two6, own6, 22, nil)), From: netip.MustParseAddr("fd00::99"),
	}}, 8, 1},
}

func TestLoopsDoNotAllocate(t *testing.T) {
	for _, w := range loopWork {
		t.Run(w.name, func(t *testing.T) {
			r := w.replay
			s := replaySwitch(t, &r)
			var got float64
			if w.out {
				l := newOutLoop(s, 0)
				got = testing.AllocsPerRun(20, func() { outBatch(t, l, &r, w.batch) })
			} else {
				l := newInLoop(s, 0)
				got = testing.AllocsPerRun(20, func() { inBatch(t, l, &r, w.batch) })
			}
			if got != 0 {
				t.Errorf("%v allocations a batch, want 0", got)
			}
			st := s.Stats()
			d := st.In
			if w.out {
				d = st.Out
			}
			want, delivered := uint64(21*w.batch*w.frames), d.Delivered
			if w.replay.strangers {
				delivered = d.Drops[NotAPeer]
			}
			if d.Received != want || delivered != want {
				t.Errorf("received %d and delivered %d, want %d: drops %v", d.Received, delivered, want, drops(d))
			}
		})
	}
}

func BenchmarkLoops(b *testing.B) {
	for _, w := range loopWork {
		b.Run(w.name, func(b *testing.B) {
			r := w.replay
			s := replaySwitch(b, &r)
			b.ReportAllocs()
			per := w.batch * w.frames
			out, in := newOutLoop(s, 0), newInLoop(s, 0)
			for b.Loop() {
				if w.out {
					outBatch(b, out, &r, w.batch)
				} else {
					inBatch(b, in, &r, w.batch)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*per), "ns/frame")
		})
	}
}

// A full super-frame is cut, and goes out as two messages of equal halves; with
// no segmentation offload as single datagrams of the same bytes.
func TestOutSuperFrame(t *testing.T) {
	const mss, count = 1398, 46
	super := tcpFrame(routerMAC, ownMAC, "10.5.1.5", "10.5.2.9", count*mss, 7, true)
	var sent [2][]sentDatagram
	for i, most := range []int{63, 1} {
		p, u := &fakePort{reads: [][]byte{slices.Clone(super)}, headers: []virtio.Header{superHeader(mss)}}, &fakeUnderlay{maxSegments: most}
		stats := run(t, p, u, nil)
		if stats.Out.Received != 1 || stats.Out.Delivered != 1 || stats.Peers[0].OutFrames != 1 {
			t.Errorf("counters %+v", stats.Out)
		}
		sent[i] = u.sent
	}
	if len(sent[0]) != count || !slices.EqualFunc(sent[0], sent[1], func(a, b sentDatagram) bool { return slices.Equal(a.Data, b.Data) }) {
		t.Errorf("%d datagrams with segmentation offload, %d without, or their bytes differ", len(sent[0]), len(sent[1]))
	}
	want := encapsulated(tcpFrame(peerTwo.MAC, ownMAC, "10.5.1.5", "10.5.2.9", mss, 7, false))
	if !slices.Equal(sent[0][0].Data, want) {
		t.Errorf("first datagram %x\nwant %x", sent[0][0].Data[:70], want[:70])
	}
}

func TestMessagesAreEven(t *testing.T) {
	const mss = 1398
	tests := []struct {
		name           string
		segments, most int
		want           []int
	}{
		{"a full super-frame", 46, 63, []int{23, 23}},
		{"what just fits", 44, 63, []int{44}},
		{"an odd number", 45, 63, []int{23, 22}},
		{"no offload", 3, 1, []int{1, 1, 1}},
		{"one", 1, 63, []int{1}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := &replay{frame: tcpFrame(routerMAC, ownMAC, "10.5.1.5", "10.5.2.9", tt.segments*mss, 0, true), header: superHeader(mss), left: 1}
			l := newOutLoop(replaySwitch(t, r), 0)
			if err := l.fill(true); err != nil {
				t.Fatal(err)
			}
			var parts []int
			for _, m := range appendMessages(nil, Message{Segments: l.segments}, tt.most) {
				parts = append(parts, len(m.Segments))
			}
			if !slices.Equal(parts, tt.want) {
				t.Errorf("messages of %v segments, want %v", parts, tt.want)
			}
		})
	}
}

// A super-frame with the smallest segments fills the batch by itself; what was
// queued before it is sent first, and nothing is lost.
func TestOutManySmallSegments(t *testing.T) {
	small := tcpFrame(routerMAC, ownMAC, "10.5.1.5", "10.5.2.9", 65000, 0, true)
	p, u := &fakePort{}, &fakeUnderlay{}
	for range 5 {
		p.reads = append(p.reads, slices.Clone(small))
		p.headers = append(p.headers, superHeader(48))
	}
	stats := run(t, p, u, nil)
	if stats.Out.Delivered != 5 || len(u.sent) != 5*1355 {
		t.Errorf("delivered %d in %d datagrams: drops %v", stats.Out.Delivered, len(u.sent), drops(stats.Out))
	}
}

// What the TAP does not take whole is written in segments, whether it never
// did or refuses it now.
func TestInSuperFrameThatTheTAPDoesNotTake(t *testing.T) {
	const mss = testMTU - 40
	super := encapsulated(tcpFrame(ownMAC, peerTwo.MAC, "10.5.2.9", "10.5.1.5", 10*mss, 0, true))
	tests := []struct {
		name string
		port *fakePort
		want int
	}{
		{"taken whole", &fakePort{takes: Offloads{Csum: true, TCP4: true}}, 1},
		{"never taken", &fakePort{}, 10},
		{"refused now", &fakePort{takes: Offloads{Csum: true, TCP4: true}, refuse: ErrRefused}, 10},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, u := tt.port, &fakeUnderlay{datagrams: []Datagram{{Data: slices.Clone(super), From: peerTwo.VTEP}}}
			stats := run(t, p, u, nil)
			if stats.In.Received != 1 || stats.In.Delivered != 1 || len(p.written) != tt.want {
				t.Fatalf("received %d, delivered %d in %d writes, want %d: drops %v", stats.In.Received, stats.In.Delivered, len(p.written), tt.want, drops(stats.In))
			}
			first := tcpFrame(ownMAC, peerTwo.MAC, "10.5.2.9", "10.5.1.5", mss, 0, false)
			if tt.want > 1 && !slices.Equal(p.written[0], first) {
				t.Errorf("first segment %x\nwant %x", p.written[0][:60], first[:60])
			}
		})
	}
}

// The containers' bridge takes less than the TAP: a super-frame that comes whole
// must be cut, here or by the kernel, so that it gets through.
func TestInSuperFrameForASmallerBridge(t *testing.T) {
	const mss = testMTU - 20 - 40
	super := encapsulated(tcpFrame(ownMAC, peerTwo.MAC, "10.5.2.9", "10.5.1.5", 10*mss, 0, true))
	for _, takes := range []Offloads{{Csum: true, TCP4: true}, {}} {
		p, u := &fakePort{takes: takes}, &fakeUnderlay{datagrams: []Datagram{{Data: slices.Clone(super), From: peerTwo.VTEP}}}
		stats := run(t, p, u, func(c *Config) { c.BridgeLess = 20 })
		if stats.In.Delivered != 1 || len(p.written) == 0 {
			t.Fatalf("delivered %d in %d writes: drops %v", stats.In.Delivered, len(p.written), drops(stats.In))
		}
		if takes.TCP4 && (len(p.written) != 1 || p.writtenAs[0].GSOSize != mss) {
			t.Errorf("got %d writes, the first in segments of %d, want one, of %d", len(p.written), p.writtenAs[0].GSOSize, mss)
		}
		if !takes.TCP4 && (len(p.written) != 10 || len(p.written[0]) != 14+40+mss) {
			t.Errorf("got %d writes, the first of %d bytes, want ten of %d", len(p.written), len(p.written[0]), 14+40+mss)
		}
	}
}

// Partial checksums, as kernel VXLAN leaves them over veth, are completed for a
// TAP that wants whole frames and passed on to one that does not.
func TestInPartialChecksum(t *testing.T) {
	partial := tcpFrame(ownMAC, peerTwo.MAC, "10.5.2.9", "10.5.1.5", 0, 5, true)
	whole := tcpFrame(ownMAC, peerTwo.MAC, "10.5.2.9", "10.5.1.5", 0, 5, false)
	for _, takes := range []bool{true, false} {
		p, u := &fakePort{takes: Offloads{Csum: takes}}, &fakeUnderlay{datagrams: []Datagram{{Data: encapsulated(partial), From: peerTwo.VTEP}}}
		run(t, p, u, nil)
		want, header := whole, virtio.Header{}
		if takes {
			want, header = partial, virtio.Header{Flags: virtio.NeedsCsum, HdrLen: 54, CsumStart: 34, CsumOffset: 16}
		}
		if len(p.written) != 1 || !slices.Equal(p.written[0], want) || p.writtenAs[0] != header {
			t.Errorf("takes partial: %v: wrote %x with %+v\nwant %x with %+v", takes, p.written, p.writtenAs, want, header)
		}
	}
}

// A peer's super-frame with a checksum that is neither partial nor right must
// not be given a right one on the way.
func TestInBadChecksum(t *testing.T) {
	super := tcpFrame(ownMAC, peerTwo.MAC, "10.5.2.9", "10.5.1.5", 10*1398, 0, true)
	super[50] ^= 0x55
	p, u := &fakePort{takes: Offloads{Csum: true, TCP4: true}}, &fakeUnderlay{datagrams: []Datagram{{Data: encapsulated(super), From: peerTwo.VTEP}}}
	if stats := run(t, p, u, nil); stats.In.Drops[BadChecksum] != 1 {
		t.Errorf("drops %v, want %s", drops(stats.In), BadChecksum)
	}
}

// The end of the TAP or the socket is the end of Run.
func TestRunReturnsFatalErrors(t *testing.T) {
	gone := errors.New("device gone")
	s, err := New(Config{VNI: 1, MAC: ownMAC, RouterMAC: routerMAC, Subnet: ownSubnet, MTU: testMTU, Lanes: []Lane{{Port: &failingPort{err: gone}, Underlay: &fakeUnderlay{stop: make(chan struct{})}}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Run(t.Context()); !errors.Is(err, gone) {
		t.Errorf("got %v, want %v", err, gone)
	}
}

type failingPort struct {
	replay
	err error
}

func (p *failingPort) ReadFrame([]byte, *virtio.Header, bool) (int, error) { return 0, p.err }

// Frames of two peers that come in one batch, interleaved and joined, count
// for the peer that sent them.
func TestInCountsJoinedFramesForTheirPeers(t *testing.T) {
	three := joined(2, 100)
	three.Data = nil
	for i := range 2 {
		three.Data = append(three.Data, encapsulated(tcpFrame(ownMAC, peerThree.MAC, "10.5.3.9", "10.5.1.5", 100, uint32(i*100), false))...)
	}
	three.From = peerThree.VTEP
	later := joined(5, 100)
	later.Data = later.Data[3*later.GSOSize:] // segments 3 and 4 of the flow
	p, u := &fakePort{takes: Offloads{Csum: true, TCP4: true}}, &fakeUnderlay{datagrams: []Datagram{joined(3, 100), three, later}}
	stats := run(t, p, u, nil)
	got := []uint64{stats.Peers[0].InFrames, stats.Peers[1].InFrames}
	if want := []uint64{5, 2}; !slices.Equal(got, want) || stats.In.Delivered != 7 || len(p.written) != 2 {
		t.Errorf("frames by peer %v, want %v; delivered %d in %d writes, want 7 in 2", got, want, stats.In.Delivered, len(p.written))
	}
}
