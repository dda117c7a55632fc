// SPDX-License-Identifier: Apache-2.0

package uplink

import (
	"net/netip"
	"strings"
	"testing"
)

var (
	testMark = mark{2, 0, 0, 0x77}
	peerAddr = netip.MustParseAddr("192.0.2.2")
)

func testSightings(want int) *sightings {
	d := &Device{Config: Config{Local: local}, mark: testMark}
	s := newSightings(d, []question{{vtep: peerAddr}})
	s.peers[peerAddr].want[40000] = want
	return s
}

// packet is the head of an IPv4 UDP packet with n bytes of payload and our mark.
func packet(from string, fragment uint16, n int) []byte {
	a := netip.MustParseAddrPort(from)
	b := make([]byte, 28+controlLen)
	port := uint16(40000)
	if n == controlLen {
		port = 0
	}
	copy(b[28+8+6:], testMark.with(port))
	b[0] = 0x45
	b[6], b[7] = byte(fragment>>8), byte(fragment)
	s := a.Addr().As4()
	copy(b[12:], s[:])
	copy(b[16:], peerAddr.AsSlice())
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
		{"one of two segments, and no control", [][]byte{packet(from, 0, 1472)}, unknown, ""},
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
			s := testSightings(want)
			for _, p := range tt.seen {
				s.see(p, 1)
			}
			if a := s.judge(peerAddr); a.verdict != tt.want || !strings.Contains(a.reason, tt.say) || (a.reason == "") != (tt.say == "") {
				t.Errorf("got %v, want %d for %q", a, tt.want, tt.say)
			}
			if got, want := s.settled(peerAddr), tt.want == passes || tt.want == blocked && tt.say != "FORWARD"; got != want {
				t.Errorf("settled %v, want %v", got, want)
			}
		})
	}
}

// A datagram may leave by a bond, and then by whichever of its ports: the probe
// by another one than the control. Halves of different interfaces are no whole.
func TestJudgeSeveralInterfaces(t *testing.T) {
	const from, want = "192.0.2.1:40000", 2874
	s := testSightings(want)
	s.see(packet(from, 0, controlLen), 1)
	s.see(packet(from, 0, controlLen), 2)
	s.see(packet(from, 0, 1472), 1)
	s.see(packet(from, 0, 1472), 3)
	if a := s.judge(peerAddr); a.verdict != blocked {
		t.Errorf("got %v of two halves", a)
	}
	s.see(packet(from, 0, 1472), 1)
	if a := s.judge(peerAddr); a.verdict != passes {
		t.Errorf("got %v, want that it passes", a)
	}
}

// Each port has to pass, and what one has too much of does not make up for another.
func TestJudgeSeveralPorts(t *testing.T) {
	s := testSightings(2874)
	s.peers[peerAddr].want[40001] = 182
	other := packet("192.0.2.1:40001", 0, 190)
	copy(other[28+8+6:], testMark.with(40001))
	s.see(packet("192.0.2.1:40000", 0, controlLen), 1)
	s.see(packet("192.0.2.1:40000", 0, 9000), 1)
	if a := s.judge(peerAddr); a.verdict != blocked || !strings.Contains(a.reason, "by size or by source port") || s.settled(peerAddr) {
		t.Errorf("got %v with one port of two", a)
	}
	s.see(other, 1)
	if a := s.judge(peerAddr); a.verdict != passes || !s.settled(peerAddr) {
		t.Errorf("got %v with both ports", a)
	}
	stranger := packet("192.0.2.1:40002", 0, 190)
	copy(stranger[28+8+6:], testMark.with(40002))
	if s.see(stranger, 1); len(s.peers[peerAddr].seen) != 3 {
		t.Errorf("sightings %v: of a port that nobody sent from", s.peers[peerAddr].seen)
	}
}

// What goes to others says nothing about a peer.
func TestSeeOtherPeers(t *testing.T) {
	s := testSightings(10)
	p := packet("192.0.2.1:40000", 0, 1472)
	copy(p[16:], []byte{192, 0, 2, 99})
	s.see(p, 1)
	if a := s.judge(peerAddr); a.verdict != unknown || len(s.peers) != 1 {
		t.Errorf("got %v, peers %v", a, s.peers)
	}
}

func FuzzSee(f *testing.F) {
	f.Add(packet("192.0.2.1:1", 0, 22))
	f.Fuzz(func(t *testing.T, b []byte) {
		s := testSightings(1)
		s.see(b, 1)
		for _, seen := range s.peers[peerAddr].seen {
			if seen.bytes < -8 || seen.bytes > 1<<16 {
				t.Errorf("%d bytes", seen.bytes)
			}
		}
	})
}
