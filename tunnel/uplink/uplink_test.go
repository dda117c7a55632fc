// SPDX-License-Identifier: Apache-2.0

package uplink

import (
	"bytes"
	"context"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"golang.org/x/time/rate"

	"vxtap/encap/checksum"
	"vxtap/encap/ether"
	"vxtap/encap/vxlan"
	"vxtap/tunnel"
)

var (
	local = netip.MustParseAddrPort("192.0.2.1:8472")
	peers = []tunnel.Peer{
		{VTEP: netip.MustParseAddr("192.0.2.2")}, {VTEP: netip.MustParseAddr("192.0.2.3")}, {VTEP: netip.MustParseAddr("192.0.2.4")},
	}
)

func testDevice(log *bytes.Buffer) *Device {
	return &Device{
		Config: Config{Name: "up0", Local: local, MTU: 1450, Log: slog.New(slog.NewTextHandler(log, nil))},
		say:    rate.NewLimiter(rate.Every(time.Hour), 5),
		again:  make(chan struct{}, 1),
	}
}

// answers returns a prove that gives each peer its answer.
func answers(asked *[]netip.Addr, by map[string]verdict) func(netip.Addr) (verdict, string) {
	return func(peer netip.Addr) (verdict, string) {
		*asked = append(*asked, peer)
		v := by[peer.String()]
		if v == blocked {
			return v, "a rule"
		}
		return v, ""
	}
}

func TestLook(t *testing.T) {
	tests := []struct {
		name   string
		before bool
		by     map[string]verdict
		want   bool
		asked  int
	}{
		{"one that passes opens it", false, map[string]verdict{"192.0.2.2": passes}, true, 3},
		{"a peer that is down is passed over", false, map[string]verdict{"192.0.2.3": passes}, true, 3},
		{"a rule for one peer closes it for all", true, map[string]verdict{"192.0.2.2": passes, "192.0.2.3": blocked, "192.0.2.4": passes}, false, 2},
		{"a rule closes the way", true, map[string]verdict{"192.0.2.2": blocked}, false, 1},
		{"all peers down: open stays open", true, nil, true, 3},
		{"all peers down: closed stays closed", false, nil, false, 3},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var log bytes.Buffer
			var asked []netip.Addr
			d := testDevice(&log)
			d.SetPeers(peers)
			d.ready.Store(tt.before)
			if d.look(answers(&asked, tt.by)); d.Ready() != tt.want || len(asked) != tt.asked {
				t.Errorf("open %v after asking %v, want %v after %d", d.Ready(), asked, tt.want, tt.asked)
			}
		})
	}
}

// Of many peers each has its turn: each may be behind a rule of its own. The one
// that the way is closed for is asked before them.
func TestLookGoesRound(t *testing.T) {
	var log bytes.Buffer
	var asked []netip.Addr
	var many []tunnel.Peer
	by := map[string]verdict{}
	for i := range 20 {
		addr := netip.AddrFrom4([4]byte{192, 0, 2, byte(2 + i)})
		many = append(many, tunnel.Peer{VTEP: addr})
		by[addr.String()] = passes
	}
	d := testDevice(&log)
	d.SetPeers(many)
	for range 3 {
		d.look(answers(&asked, by))
	}
	seen := map[netip.Addr]bool{}
	for _, a := range asked {
		seen[a] = true
	}
	if len(seen) != 20 {
		t.Errorf("asked %d peers of 20", len(seen))
	}
	stuck := many[13].VTEP
	by[stuck.String()] = blocked
	for d.look(answers(&asked, by)) != blocked {
	}
	for range 3 {
		asked = nil
		if d.look(answers(&asked, by)); asked[0] != stuck || len(asked) != 1 || d.Ready() {
			t.Errorf("asked %v, open %v, want %s alone, and closed", asked, d.Ready(), stuck)
		}
	}
	by[stuck.String()] = passes
	if d.look(answers(&asked, by)); !d.Ready() {
		t.Error("closed after the rule has gone")
	}
}

func TestStateIsSaidOnce(t *testing.T) {
	var log bytes.Buffer
	d := testDevice(&log)
	d.set(false, noPeer, netip.Addr{})
	for range 3 {
		d.set(false, "a rule", netip.Addr{})
	}
	if open, reason := d.State(); open || reason != "a rule" {
		t.Errorf("state %v, %q", open, reason)
	}
	for range 3 {
		d.set(true, "", netip.Addr{})
	}
	if open, reason := d.State(); !open || reason != "" {
		t.Errorf("state %v, %q", open, reason)
	}
	said := strings.Count(log.String(), "\n")
	for range 100 { // a way that opens and closes all the time
		d.set(false, "a rule", netip.Addr{})
		d.set(true, "", netip.Addr{})
	}
	if all := strings.Count(log.String(), "\n"); all != 5 {
		t.Errorf("%d lines of a way that opens and closes all the time, want 5", all)
	}
	if said != 2 || !strings.Contains(log.String(), `reason="a rule"`) {
		t.Errorf("log:\n%s", log.String())
	}
}

// Run ends with its context, and an idle way is left alone for long.
func TestRunEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		d := testDevice(&log)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- d.Run(ctx) }() // without a peer it asks nobody
		time.Sleep(time.Minute)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if _, reason := d.State(); reason != noPeer {
			t.Errorf("reason %q", reason)
		}
	})
}

// Run looks when it is asked to, but not more often than ten times a second.
func TestRunLooksAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := testDevice(new(bytes.Buffer))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- d.Run(ctx) }()
		time.Sleep(settle + atLeast + time.Millisecond)
		looks := 0
		for range 500 { // five seconds of a host that changes all the time
			d.mu.Lock()
			if d.reason == noPeer {
				looks++
				d.reason = "not looked since"
			}
			d.mu.Unlock()
			d.Again()
			time.Sleep(10 * time.Millisecond)
		}
		if looks < 30 || looks > 51 {
			t.Errorf("%d looks in five seconds", looks)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestPause(t *testing.T) {
	tests := []struct {
		name string
		used bool
		v    verdict
		want time.Duration
	}{
		{"open and in use", true, passes, whileUsed},
		{"open and idle", false, passes, whileIdle},
		{"closed", true, blocked, whileClosed},
		{"no answer", false, unknown, whileUsed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := testDevice(new(bytes.Buffer))
			d.used.Store(tt.used)
			if got := d.pause(tt.v); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
			if d.used.Load() {
				t.Error("still counts as in use")
			}
		})
	}
}

// gopacket, which knows nothing of how it was made, reads a probe.
func TestProbeFrame(t *testing.T) {
	tests := []struct {
		name      string
		mtu, want int // payload of both segments
	}{
		{"full segments", 1450, 2 * 1410},
		{"as large as an IPv4 packet may be", 64950, 1<<16 - 1 - 36 - 54 - 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { checkProbe(t, tt.mtu, tt.want) })
	}
}

func checkProbe(t *testing.T, mtu, want int) {
	t.Helper()
	e := vxlan.Endpoint{MAC: ether.MAC{2, 0, 0, 0, 0, 7}, Local: local}
	b, err := probeFrame(e, netip.MustParseAddr("192.0.2.2"), mtu, 40000, testMark)
	if err != nil {
		t.Fatal(err)
	}
	p := gopacket.NewPacket(b[24:], layers.LayerTypeEthernet, gopacket.Default)
	ip, ok := p.Layer(layers.LayerTypeIPv4).(*layers.IPv4)
	if !ok || ip.DstIP.String() != "192.0.2.2" || int(ip.Length) != len(b)-24-14 {
		t.Fatalf("outer IPv4 %+v", ip)
	}
	udp, ok := p.Layer(layers.LayerTypeUDP).(*layers.UDP)
	if !ok || udp.SrcPort != 40000 || udp.DstPort != 8472 {
		t.Fatalf("outer UDP %+v", udp)
	}
	if !bytes.Equal(udp.Payload[:8], make([]byte, 8)) {
		t.Errorf("VXLAN header %x, want zeros", udp.Payload[:8])
	}
	inner := gopacket.NewPacket(udp.Payload[8:], layers.LayerTypeEthernet, gopacket.Default)
	tcp, ok := inner.Layer(layers.LayerTypeTCP).(*layers.TCP)
	if !ok || len(tcp.Payload) != want {
		t.Fatalf("inner packet %s", inner)
	}
	iip := udp.Payload[8+14:]
	if checksum.Sum(iip[:20], 0) != 0xffff {
		t.Error("the inner IPv4 header has a wrong checksum")
	}
	if sum := checksum.Fold(checksum.Pseudo(iip[12:20], 6, 20+want)); tcp.Checksum != sum {
		t.Errorf("TCP checksum %#x, want the pseudo header's %#x", tcp.Checksum, sum)
	}
}

var testMark = mark{2, 0, 0, 0x77}

// packet is the head of an IPv4 UDP packet with n bytes of payload and our mark.
func packet(from string, fragment uint16, n int) []byte {
	a := netip.MustParseAddrPort(from)
	b := make([]byte, 28+controlLen)
	copy(b[28+8+6:], testMark.with(40000))
	b[0] = 0x45
	b[6], b[7] = byte(fragment>>8), byte(fragment)
	s := a.Addr().As4()
	copy(b[12:], s[:])
	b[20], b[21] = byte(a.Port()>>8), byte(a.Port())
	b[24], b[25] = byte((n+8)>>8), byte(n+8)
	return b
}

// foreign takes our mark away.
func foreign(b []byte) []byte {
	clear(b[28+8+6:])
	return b
}

func TestJudge(t *testing.T) {
	const from, want = "192.0.2.1:40000", 2874 // the port that packet says was written
	tests := []struct {
		name string
		seen [][]byte
		want verdict
		say  string
	}{
		{"nothing", nil, unknown, ""},
		{"the control only", [][]byte{packet(from, 0, controlLen)}, blocked, "FORWARD"},
		{"one packet", [][]byte{packet(from, 0, controlLen), packet(from, 0, want+8)}, passes, ""},
		{"in two segments", [][]byte{packet(from, 0, 1472), packet(from, 0, 1472)}, passes, ""},
		{"one of two segments", [][]byte{packet(from, 0, controlLen), packet(from, 0, 1472)}, blocked, "FORWARD"},
		{"from another port", [][]byte{packet("192.0.2.1:1024", 0, want+8)}, blocked, "masquerading"},
		{"from another address", [][]byte{packet("198.51.100.1:40000", 0, want+8)}, blocked, "masquerading"},
		{"fragments", [][]byte{packet(from, 0x2000, 1472)}, blocked, "fragments"},
		{"somebody else's zeros", [][]byte{foreign(packet("203.0.113.9:4000", 0, 1472)), packet(from, 0, controlLen), packet(from, 0, want+8)}, passes, ""},
		{"rubbish", [][]byte{nil, make([]byte, 28), {0x4f, 1, 2}, append([]byte{0x4f}, make([]byte, 30)...)}, unknown, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var s sighting
			for _, p := range tt.seen {
				s.see(p, netip.MustParseAddr("192.0.2.1"), testMark)
			}
			if v, reason := s.judge(want); v != tt.want || !strings.Contains(reason, tt.say) {
				t.Errorf("got %d, %q, want %d, %q", v, reason, tt.want, tt.say)
			}
		})
	}
}

func FuzzSee(f *testing.F) {
	f.Add(packet("192.0.2.1:1", 0, 22))
	f.Fuzz(func(t *testing.T, b []byte) {
		var s sighting
		s.see(b, local.Addr(), testMark)
		if s.bytes < -8 || s.bytes > 1<<16 {
			t.Errorf("%d bytes", s.bytes)
		}
	})
}

// Each probe has a port of its own, and so has each that is masqueraded. The
// reason must not tell them apart: a line would be logged for every probe.
func TestReasonIsTheSameForEveryProbe(t *testing.T) {
	var reasons []string
	for _, p := range [][2]string{{"", "192.0.2.1:1024"}, {"", "192.0.2.1:1025"}} {
		var s sighting
		s.see(packet(p[1], 0, 2882), netip.MustParseAddr("192.0.2.1"), testMark)
		_, reason := s.judge(1)
		reasons = append(reasons, reason)
	}
	if reasons[0] == "" || reasons[0] != reasons[1] {
		t.Errorf("got %q, want the same twice", reasons)
	}
}
