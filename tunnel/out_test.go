// SPDX-License-Identifier: Apache-2.0

package tunnel

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"vxtap/encap/virtio"
)

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
