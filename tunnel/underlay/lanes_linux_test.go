// SPDX-License-Identifier: Apache-2.0

package underlay

import (
	"errors"
	"net/netip"
	"testing"

	"vxtap/tunnel"
)

// Lanes share the port: a flow of the underlay always reaches the same one, and
// many flows reach all.
func TestLanesShareThePort(t *testing.T) {
	var a, b *Conn
	for port := uint16(20100); b == nil && port < 20200; port++ {
		c, err := Open(Config{Local: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.2"), port), Lanes: 4, Segment: true, GRO: true})
		if errors.Is(err, errPortTaken) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		b = c
		if a, err = Open(Config{Local: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port), Lanes: 4, Segment: true}); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { a.Close() })
	}
	if b == nil || len(b.Lanes()) != 4 {
		t.Fatal("no four lanes")
	}
	// Nobody else gets a part of what is sent here, whatever it asks for.
	again, err := Open(Config{Local: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.2"), uint16(localPort(t, b.Lanes()[0].Descriptor()))), Lanes: 4})
	if err == nil {
		again.Close()
	}
	if !errors.Is(err, errPortTaken) {
		t.Errorf("the same port again: %v, want %v", err, errPortTaken)
	}
	segs, _ := segments(100, 100)
	const flows, each = 64, 3
	for i := range flows * each {
		m := []tunnel.Message{{To: netip.MustParseAddr("127.0.0.2"), Segments: segs, Size: 100, Flow: uint32(i%flows) << 26}}
		if a.Lanes()[i%4].Send(m); m[0].Err != nil {
			t.Fatal(m[0].Err)
		}
	}
	busy, sum := 0, 0
	for _, l := range b.Lanes() {
		got := 0
		for d := make([]tunnel.Datagram, 8); ; {
			n, err := l.Receive(d, false)
			if errors.Is(err, tunnel.ErrEmpty) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			for i := range n {
				got += max(1, len(d[i].Data)/100)
			}
		}
		if got > 0 {
			busy++
		}
		sum += got
	}
	// 32 source ports on four lanes: one without any is a matter of 1 in 10^4.
	if sum != flows*each || busy < 3 {
		t.Errorf("%d datagrams on %d lanes, want %d on all", sum, busy, flows*each)
	}
}
