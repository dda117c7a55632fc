// SPDX-License-Identifier: Apache-2.0

package tunnel

import (
	"testing"

	"vxtap/encap/virtio"
)

// Whatever the underlay brings, joined or not, ends as delivered frames and
// counted drops that add up, and in no panic.
func FuzzIn(f *testing.F) {
	good := encapsulated(frame(ownMAC, peerTwo.MAC, "10.5.2.9", "10.5.1.5", 100, nil))
	f.Add(good, 0, uint8(0), true)
	f.Add(joined(3, 100).Data, joined(3, 100).GSOSize, uint8(3), true)
	f.Add(encapsulated(tcpFrame(ownMAC, peerTwo.MAC, "10.5.2.9", "10.5.1.5", 5000, 0, true)), 0, uint8(1), false)
	f.Add(good[:9], 1, uint8(2), false)
	f.Fuzz(func(t *testing.T, data []byte, gsoSize int, tos uint8, offloads bool) {
		if len(data) > 1<<16-1 || gsoSize < 0 || gsoSize > 1<<16-1 {
			return // no socket returns more
		}
		r := &replay{clone: true, datagram: Datagram{Data: data, From: peerTwo.VTEP, GSOSize: gsoSize, TOS: tos}}
		s := replaySwitch(t, r)
		l := newInLoop(s, 0)
		if !offloads {
			r.takes = &Offloads{}
		}
		inBatch(t, l, r, 2)
		if d := s.Stats().In; !d.Balanced() || d.Received < 2 {
			t.Errorf("received %d, delivered %d, dropped %d", d.Received, d.Delivered, d.Dropped())
		}
	})
}

// Whatever a TAP hands out, with whatever header, ends as datagrams to a peer
// or one counted drop.
func FuzzOut(f *testing.F) {
	f.Add(frame(routerMAC, ownMAC, "10.5.1.5", "10.5.2.9", 100, nil), uint8(0), uint8(0), uint16(0), uint16(0), uint16(0))
	f.Add(tcpFrame(routerMAC, ownMAC, "10.5.1.5", "10.5.2.9", 5000, 0, true), uint8(1), uint8(1), uint16(1398), uint16(34), uint16(16))
	f.Add(ipv6Frame(routerMAC, ownMAC), uint8(1), uint8(4), uint16(1), uint16(1), uint16(1))
	f.Fuzz(func(t *testing.T, data []byte, flags, gsoType uint8, gsoSize, csumStart, csumOffset uint16) {
		r := &replay{frame: data, header: virtio.Header{
			Flags: virtio.Flags(flags), GSOType: virtio.GSOType(gsoType), GSOSize: gsoSize, CsumStart: csumStart, CsumOffset: csumOffset,
		}}
		s := replaySwitch(t, r)
		outBatch(t, newOutLoop(s, 0), r, 3)
		if d := s.Stats().Out; !d.Balanced() || d.Received != 3 {
			t.Errorf("received %d, delivered %d, dropped %d", d.Received, d.Delivered, d.Dropped())
		}
	})
}
