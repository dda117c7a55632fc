// SPDX-License-Identifier: Apache-2.0

package tunnel

import (
	"encoding/binary"
	"errors"

	"vxtap/encap/ether"
	"vxtap/encap/gso"
	"vxtap/encap/packet"
	"vxtap/encap/virtio"
	"vxtap/encap/vxlan"
)

// receiveBatch is how many receives make one batch.
const receiveBatch = 8

// inLoop carries frames from the underlay to the TAP. Everything in it belongs
// to its goroutine.
type inLoop struct {
	*Switch
	Lane
	ledger *ledger
	table  *table
	mtu    int
	cut    int // see mtus
	count  Direction

	datagrams [receiveBatch]Datagram
	known     bool // the sender of the datagram at hand is a peer
	// senders has the peer of each frame given to joiner, in order; nil when
	// the inner source is nobody's and the check is not strict.
	senders []*peer
	joiner  *gso.Coalescer
	takes   Offloads
	view    packet.View

	// For super-frames that the TAP does not take.
	whole    []byte
	heads    *gso.Arena
	segments []gso.Segment
	piece    [1][]byte
}

// newInLoop returns the loop of s's lane i.
func newInLoop(s *Switch, i int) *inLoop {
	return &inLoop{
		Switch:   s,
		Lane:     s.Lanes[i],
		ledger:   &s.lanes[i].in,
		joiner:   gso.NewCoalescer(gso.CoalescerOptions{}),
		senders:  make([]*peer, 0, receiveBatch*64),
		whole:    make([]byte, 0, maxFrame),
		heads:    gso.NewArena(arenaBytes),
		segments: make([]gso.Segment, 0, batchSegments),
	}
}

// batch takes all datagrams that are queued, as far as the batch has room, and
// delivers them. It reports whether there were any; with wait it sleeps until
// there are.
func (l *inLoop) batch(wait bool) (bool, error) {
	n, err := l.Underlay.Receive(l.datagrams[:], wait)
	if errors.Is(err, ErrEmpty) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	mtu := l.Switch.mtu.Load()
	l.table, l.mtu, l.cut = l.Switch.table.Load(), mtu.in, mtu.cut
	l.adapt()
	for i := range n {
		l.datagram(&l.datagrams[i], i > 0 && l.datagrams[i].From == l.datagrams[i-1].From)
	}
	l.deliver()
	l.ledger.publish(&l.count)
	return true, nil
}

// adapt looks what the TAP takes now.
func (l *inLoop) adapt() {
	takes := l.Port.Takes()
	if takes == l.takes {
		return
	}
	l.takes = takes
	if l.Coalesce {
		l.joiner = gso.NewCoalescer(gso.CoalescerOptions{TCP4: takes.TCP4, TCP6: takes.TCP6, UDP: takes.UDP})
	}
}

// datagram takes one receive apart: several datagrams that the kernel joined,
// or a single one, whose frame may yet be a super-frame of a peer on this
// machine (see gso.IsBatch). again says that it came from where the one before
// it in the batch came from.
func (l *inLoop) datagram(d *Datagram, again bool) {
	if !again {
		l.known = l.table.isVTEP(d.From)
	}
	if !gso.IsBatch(d.Data, d.GSOSize) {
		l.take(d, d.Data, d.GSOSize)
		return
	}
	for rest := d.Data; len(rest) > 0; {
		n := min(d.GSOSize, len(rest))
		l.take(d, rest[:n], 0)
		rest = rest[n:]
	}
}

// take counts one encapsulated frame, and its drop, if so it ends.
func (l *inLoop) take(d *Datagram, b []byte, gsoSize int) {
	l.count.Received++
	l.count.ReceivedBytes += uint64(max(0, len(b)-vxlan.HeaderLen))
	if r := l.accept(d, b, gsoSize); r != keep {
		l.count.Drops[r]++
	}
}

// accept checks the encapsulation and the frame inside, and gives the frame to
// the joiner.
func (l *inLoop) accept(d *Datagram, b []byte, gsoSize int) Reason {
	if r := l.checkOuter(d, b); r != keep {
		return r
	}
	v := &l.view
	if v.Parse(b[vxlan.HeaderLen:]) != packet.None {
		return Malformed
	}
	if r := l.checkFrame(v); r != keep {
		return r
	}
	if l.family.scoped {
		if r := scope(v.Src(), v.Dst()); r != keep {
			return r
		}
	}
	src := l.table.lookup(v.Src())
	if (src == nil || src.VTEP != d.From) && l.Checks.InnerSource != Off {
		if why := l.unlessTold(ForeignSource); l.Checks.InnerSource.refuses(why, &l.count) {
			return why
		}
	}
	// What is for another peer would go straight back into the tunnel, and
	// round in circles when two hosts disagree about a lease.
	if dst := v.Dst(); !l.Subnet.Contains(dst) && l.table.lookup(dst) != nil {
		return Transit
	}
	if r := decapECN(v, d.TOS); r != keep {
		return r
	}
	h, fault := gso.Describe(v, gsoSize, l.mtu)
	switch fault {
	case gso.None:
	case gso.TooBig:
		return TooBig
	case gso.BadChecksum:
		return BadChecksum
	default:
		return Malformed
	}
	if room := l.cut - (v.Payload - v.L3); h.IsGSO() && v.Proto == packet.ProtoTCP && room > 0 {
		h.GSOSize = min(h.GSOSize, uint16(room))
	}
	l.senders = append(l.senders, src)
	l.joiner.Add(v, h)
	return keep
}

// checkOuter checks all that is not the frame itself.
func (l *inLoop) checkOuter(d *Datagram, b []byte) Reason {
	vni, fault := vxlan.Parse(b, l.GBP)
	switch {
	case fault == vxlan.Short || len(b) < vxlan.HeaderLen+ether.HeaderLen:
		return ShortDatagram
	case fault == vxlan.NoVNIFlag && binary.NativeEndian.Uint64(b) == 0:
		// From strangers too: a host that has just got a lease, or another
		// address, probes before we have heard of it. Nothing is in it to take.
		return Probe
	case fault == vxlan.NoVNIFlag:
		return NoVNIFlag
	case fault == vxlan.ReservedBits:
		return ReservedBits
	case vni != l.VNI:
		return OtherVNI
	case l.Checks.Source == Off || l.known:
		return keep
	}
	why := l.unlessTold(NotAPeer)
	if why == NotAPeer {
		l.stranger.note(d.From)
	}
	if l.Checks.Source.refuses(why, &l.count) {
		return why
	}
	return keep
}

// unlessTold returns r, which says that a sender is not who it should be, or
// that nobody has told the switch yet who that is: peers go on sending while a
// host is started again, and each start must not look like a forgery.
func (l *inLoop) unlessTold(r Reason) Reason {
	if l.table.told {
		return r
	}
	return NoPeersYet
}

// checkFrame checks the Ethernet header, as a station and as a router would.
func (l *inLoop) checkFrame(v *packet.View) Reason {
	switch src := v.SrcMAC(); {
	case v.DstMAC() != l.MAC:
		return WrongMAC
	case src.IsZero() || src.IsMulticast() || src == l.MAC:
		return BadSourceMAC
	case v.Tagged:
		return VLANTagged
	case v.EtherType != l.family.carries:
		return l.family.refuses(v.EtherType)
	}
	return keep
}

// decapECN combines the outer ECN field with the inner one (RFC 6040, figure
// 4): congestion that a router on the way marked must reach the inner receiver.
func decapECN(v *packet.View, tos uint8) Reason {
	switch outer, inner := tos&3, v.ECN(); {
	case outer == packet.CE && inner == packet.NotECT:
		// The inner flow cannot be told, so that losing the frame is the
		// only signal left.
		return Congestion
	case outer == packet.CE && inner != packet.CE:
		v.SetECN(packet.CE)
	case outer == packet.ECT1 && inner == packet.ECT0:
		v.SetECN(packet.ECT1)
	}
	return keep
}

// deliver writes the batch to the TAP and counts what became of each frame.
func (l *inLoop) deliver() {
	var run peerRun
	supers := l.joiner.Supers()
	for i := range supers {
		s := &supers[i]
		if r := l.write(s); r != keep {
			l.count.Drops[r] += uint64(s.Frames)
			continue
		}
		l.count.Delivered += uint64(s.Frames)
		l.count.DeliveredBytes += uint64(s.Bytes)
		if p := l.senders[s.First]; p != run.peer {
			run.addIn()
			run = peerRun{peer: p}
		}
		run.frames += uint64(s.Frames)
		run.bytes += uint64(s.Bytes)
	}
	run.addIn()
	l.joiner.Reset()
	l.senders = l.senders[:0]
}

// write gives one frame to the TAP, in the form that the TAP takes.
func (l *inLoop) write(s *gso.Super) Reason {
	h := s.Virtio
	switch {
	case h.IsGSO() && !l.takes.gso(h.GSOType):
		return l.writeSegments(s)
	case h.Flags&virtio.NeedsCsum != 0 && !l.takes.Csum:
		if gso.Complete(s.Head, h) != gso.None {
			return BadOffload
		}
		h = virtio.Header{}
	}
	err := l.Port.WriteFrame(h, s.Head, s.Payloads)
	if errors.Is(err, ErrRefused) {
		return l.writeSegments(s)
	}
	return writeOutcome(err)
}

// gso reports whether the port takes super-frames of type t.
func (o Offloads) gso(t virtio.GSOType) bool {
	switch t &^ virtio.GSOECN {
	case virtio.GSOTCPv4:
		return o.TCP4
	case virtio.GSOTCPv6:
		return o.TCP6
	case virtio.GSOUDP:
		return o.UDP
	}
	return false
}

// writeSegments writes a super-frame as the segments it stands for.
func (l *inLoop) writeSegments(s *gso.Super) Reason {
	l.whole = append(l.whole[:0], s.Head...)
	for _, p := range s.Payloads {
		l.whole = append(l.whole, p...)
	}
	var v packet.View
	if v.Parse(l.whole) != packet.None {
		return Malformed
	}
	l.heads.Reset()
	segments, fault := gso.Split(l.segments[:0], l.heads, nil, &v, s.Virtio)
	if fault != gso.None {
		return BadOffload
	}
	lost := keep
	for _, seg := range segments {
		l.piece[0] = seg.Payload
		if r := writeOutcome(l.Port.WriteFrame(virtio.Header{}, seg.Header, l.piece[:])); r != keep {
			lost = r
		}
	}
	return lost
}

func writeOutcome(err error) Reason {
	switch {
	case err == nil:
		return keep
	case errors.Is(err, ErrFull):
		return TAPFull
	}
	return TAPError
}
