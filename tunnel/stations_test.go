// SPDX-License-Identifier: Apache-2.0

package tunnel

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"vxtap/encap/ether"
)

// A host whose kernel knows each peer addresses its frames to the peer's VTEP.
func TestFramesToPeerMACs(t *testing.T) {
	stranger := ether.MAC{2, 9, 9, 9, 9, 9}
	tests := []struct {
		name    string
		dst     ether.MAC
		to      string
		setting bool
		want    Peer   // the zero Peer: it is dropped
		drop    Reason // for this
	}{
		{name: "the peer's own MAC", dst: peerTwo.MAC, to: "10.5.2.9", setting: true, want: peerTwo},
		{name: "the router's MAC as before", dst: routerMAC, to: "10.5.2.9", setting: true, want: peerTwo},
		{name: "a neighbour entry that is another peer's: the lease decides", dst: peerThree.MAC, to: "10.5.2.9", setting: true, want: peerTwo},
		{name: "somebody's route by way of a peer", dst: peerThree.MAC, to: "198.51.100.7", setting: true, want: peerThree},
		{name: "a MAC that is nobody's", dst: stranger, to: "10.5.2.9", setting: true, drop: UnknownMAC},
		{name: "our own subnet by way of a peer", dst: peerTwo.MAC, to: "10.5.1.9", setting: true, drop: OwnSubnet},
		{name: "the router's MAC and nobody's subnet", dst: routerMAC, to: "10.5.4.1", setting: true, drop: NoPeer},
		{name: "broadcast", dst: ether.MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, to: "10.5.2.9", setting: true, drop: Broadcast},
		{name: "a peer's MAC where the kernel has one route for all", dst: peerTwo.MAC, to: "10.5.2.9", drop: UnknownMAC},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, u := &fakePort{reads: [][]byte{frame(tt.dst, ownMAC, "10.5.1.5", tt.to, 30, nil)}}, &fakeUnderlay{}
			stats := run(t, p, u, func(c *Config) { c.PeerMACs = tt.setting })
			var want []sentDatagram
			dropped := map[string]uint64{}
			if tt.want == (Peer{}) {
				dropped[tt.drop.String()] = 1
			} else {
				want = []sentDatagram{{tt.want.VTEP, 0, encapsulated(frame(tt.want.MAC, ownMAC, "10.5.1.5", tt.to, 30, nil))}}
			}
			if diff := cmp.Diff(want, u.sent, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
				t.Errorf("sent (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(dropped, drops(stats.Out)); diff != "" {
				t.Errorf("drops (-want +got):\n%s", diff)
			}
		})
	}
}

// One peer that copies another's MAC takes nothing away from it.
func TestStationsWithOneMAC(t *testing.T) {
	at := func(vtep string, mac byte) *peer {
		return &peer{Peer: Peer{VTEP: netip.MustParseAddr(vtep), MAC: ether.MAC{2, 0, 0, 0, 0, mac}}}
	}
	one, alike, two, thief, late := at("192.0.2.1", 1), at("192.0.2.1", 1), at("192.0.2.2", 2), at("192.0.2.3", 2), at("192.0.2.2", 2)
	s := newStations([]*peer{one, two, alike, thief, late})
	if got := s[one.MAC]; got != alike {
		t.Errorf("two subnets of one host: got %v, want the later", got)
	}
	if got := s[two.MAC]; got != nil {
		t.Errorf("two hosts with one MAC: got %v, want nobody", got)
	}
	for _, p := range []*peer{one, two} {
		if !s.has(p.MAC) {
			t.Errorf("%s is not known any more", p.MAC)
		}
	}
	if s.has(ether.MAC{2, 0, 0, 0, 0, 3}) || stations(nil).has(one.MAC) {
		t.Error("a MAC that is nobody's is known")
	}
}
