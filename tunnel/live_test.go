// SPDX-License-Identifier: Apache-2.0

package tunnel

import "testing"

// A host's peers go on sending while it is started again. What comes before the
// first list of them must not look like a forgery.
func TestFramesBeforeTheFirstList(t *testing.T) {
	out := frame(routerMAC, ownMAC, "10.5.1.5", "10.5.2.9", 100, nil)
	in := encapsulated(frame(ownMAC, peerTwo.MAC, "10.5.2.9", "10.5.1.5", 100, nil))
	for _, tt := range []struct {
		name      string
		checks    Checks
		told      bool
		in, out   Reason
		delivered uint64
	}{
		{name: "no list yet", in: NoPeersYet, out: NoPeersYet},
		{name: "no list yet, and only the inner source is looked at", checks: Checks{Source: Off}, in: NoPeersYet, out: NoPeersYet},
		{name: "an empty list", told: true, in: NotAPeer, out: NoPeer},
		{name: "no list yet, and nothing is looked at", checks: Checks{Source: Off, InnerSource: Off}, in: keep, out: NoPeersYet, delivered: 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, u, s := newLoops(t, tt.checks)
			if tt.told {
				s.SetPeers(nil)
			}
			p.reads, u.datagrams = [][]byte{out}, []Datagram{{Data: in, From: peerTwo.VTEP}}
			oneBatch(t, newOutLoop(s, 0).batch, newInLoop(s, 0).batch)
			stats := s.Stats()
			if tt.in != keep && stats.In.Drops[tt.in] != 1 || stats.In.Delivered != tt.delivered {
				t.Errorf("in: delivered %d, drops %v, want %s", stats.In.Delivered, drops(stats.In), tt.in)
			}
			if stats.Out.Drops[tt.out] != 1 {
				t.Errorf("out: drops %v, want %s", drops(stats.Out), tt.out)
			}
		})
	}
}

// A network whose MTU changes has hosts with either value for a while: what fits
// the larger one is taken from peers, and sent no more.
func TestMTUChangesWhileRunning(t *testing.T) {
	big := func(dst string) []byte { return frame(routerMAC, ownMAC, "10.5.1.5", dst, 1400-28, nil) }
	p, u, s := newLoops(t, Checks{})
	s.SetPeers([]Peer{peerTwo})
	out, in := newOutLoop(s, 0), newInLoop(s, 0)
	send := func() {
		t.Helper()
		p.reads = [][]byte{big("10.5.2.9")}
		u.datagrams = []Datagram{{Data: encapsulated(frame(ownMAC, peerTwo.MAC, "10.5.2.9", "10.5.1.5", 1400-28, nil)), From: peerTwo.VTEP}}
		oneBatch(t, out.batch, in.batch)
	}
	want := func(what string, sent, taken, refusedOut, refusedIn uint64) {
		t.Helper()
		st := s.Stats()
		if st.Out.Delivered != sent || st.In.Delivered != taken || st.Out.Drops[TooBig] != refusedOut || st.In.Drops[TooBig] != refusedIn {
			t.Errorf("%s: got %d sent, %d taken, drops %v and %v; want %d, %d, %d and %d too big",
				what, st.Out.Delivered, st.In.Delivered, drops(st.Out), drops(st.In), sent, taken, refusedOut, refusedIn)
		}
	}
	send()
	want("1450", 1, 1, 0, 0)
	if err := s.SetMTU(1300); err != nil {
		t.Fatal(err)
	}
	send()
	want("1300 after 1450", 1, 2, 1, 0)
	if err := s.SetMTU(1450); err != nil {
		t.Fatal(err)
	}
	send()
	want("1450 again", 2, 3, 1, 0)
	for _, mtu := range []int{0, 67, 65536, -1} {
		if s.SetMTU(mtu) == nil {
			t.Errorf("an MTU of %d was taken", mtu)
		}
	}
	send()
	want("after what was refused", 3, 4, 1, 0)
}

// newLoops returns a switch that nobody has told of any peers, and its ends.
func newLoops(t *testing.T, checks Checks) (*fakePort, *fakeUnderlay, *Switch) {
	t.Helper()
	p, u := &fakePort{}, &fakeUnderlay{maxSegments: 63}
	s, err := New(Config{VNI: testVNI, MAC: ownMAC, RouterMAC: routerMAC, Subnet: ownSubnet, MTU: testMTU, Lanes: []Lane{{Port: p, Underlay: u}}, Checks: checks})
	if err != nil {
		t.Fatal(err)
	}
	return p, u, s
}

func oneBatch(t *testing.T, loops ...func(bool) (bool, error)) {
	t.Helper()
	for _, batch := range loops {
		if _, err := batch(false); err != nil {
			t.Fatal(err)
		}
	}
}
