// SPDX-License-Identifier: Apache-2.0

package tunnel

import (
	"errors"

	"vxtap/encap/buffer"
	"vxtap/encap/ether"
	"vxtap/encap/gso"
	"vxtap/encap/packet"
	"vxtap/encap/virtio"
	"vxtap/encap/vxlan"
)

const (
	// batchFrames and batchBytes bound one batch: enough to share the cost of
	// a system call, little enough to stay in the cache and to keep the first
	// frame from waiting for the last.
	batchFrames = 64
	batchBytes  = 512 << 10
	// headroom is kept free before each frame for its headers outside, of
	// which the Uplink's are the longest, and keeps the frame's own start on a
	// cache line.
	headroom = 128
	// maxFrame is the largest frame a TAP hands over, a 64 KiB packet behind
	// an Ethernet header with a VLAN tag, rounded up to where the next frame's
	// headroom may start.
	maxFrame = (1<<16 + ether.HeaderLen + 4 + headroom - 1) &^ (headroom - 1)
	// maxPayload is the largest payload of a UDP datagram over IPv4 (IPv6 takes
	// 20 bytes more), and of
	// one UDP_SEGMENT send, whatever the number of segments (Linux 6.18).
	maxPayload = 65507
	// maxWhole is the largest frame that fits an IPv4 packet with what is
	// before it: IPv4, UDP and VXLAN headers.
	maxWhole = 1<<16 - 1 - (vxlan.OuterLen - ether.HeaderLen)
	// batchSegments is room for the segments of a batch: a 64 KiB frame has
	// 46 at MTU 1500, and 1400 at the smallest sensible segment size.
	batchSegments = 2048
	// arenaBytes is room for the headers of one super-frame with the smallest
	// segments that Linux makes, and of any batch of ordinary ones.
	arenaBytes = 320 << 10
)

// keep is what the steps of a loop return for a frame that goes on.
const keep = NumReasons

// outLoop carries frames from the TAP to the underlay. Everything in it
// belongs to its goroutine.
type outLoop struct {
	*Switch
	Lane
	ledger *ledger
	table  *table
	mtu    int
	count  Direction
	run    peerRun
	id     uint16 // IPv4 ID of the next datagram that leaves by the Uplink

	frames   *buffer.Buffer // the batch's frames, each behind its headroom
	heads    *gso.Arena     // the batch's rewritten segment headers
	segments []gso.Segment
	messages []Message
	pending  []sentFrame
	view     packet.View
	offload  virtio.Header // of the frame read last; a field, for a local one would be allocated
}

// sentFrame is a frame that is on its way: as messages[first:end], or, where
// several frames share one message, as segment number at of messages[first].
type sentFrame struct {
	peer       *peer
	bytes      int
	first, end int
	at         int // -1: all of the messages
}

// newOutLoop returns the loop of s's lane i.
func newOutLoop(s *Switch, i int) *outLoop {
	return &outLoop{
		Switch:   s,
		Lane:     s.Lanes[i],
		ledger:   &s.lanes[i].out,
		id:       uint16(i << 16 / len(s.Lanes)), // far from the other lanes'
		frames:   s.buffers.Get(),
		heads:    gso.NewArena(arenaBytes),
		segments: make([]gso.Segment, 0, batchSegments),
		messages: make([]Message, 0, batchSegments),
		pending:  make([]sentFrame, 0, batchFrames),
	}
}

// batch takes all frames that are queued, as far as the batch has room, and
// sends them. It reports whether there were any; with wait it sleeps until
// there are.
func (l *outLoop) batch(wait bool) (bool, error) {
	err := l.fill(wait)
	if l.count.Received == 0 {
		return false, err
	}
	l.send()
	l.run.addOut()
	l.run = peerRun{}
	l.ledger.publish(&l.count)
	return true, err
}

func (l *outLoop) fill(wait bool) error {
	_ = l.frames.Clear()
	l.table, l.mtu = l.Switch.table.Load(), l.Switch.mtu.Load().out
	for frames, bytes := 0, 0; frames < batchFrames && bytes < batchBytes && len(l.frames.Room()) >= headroom+maxFrame; wait = false {
		room := l.frames.Room()
		n, err := l.Port.ReadFrame(room[headroom:headroom+maxFrame], &l.offload, wait)
		if errors.Is(err, ErrEmpty) {
			return nil
		}
		if err != nil {
			return err
		}
		if wait {
			l.table, l.mtu = l.Switch.table.Load(), l.Switch.mtu.Load().out // it may have been a long sleep
		}
		frames, bytes = frames+1, bytes+n
		if !l.take(room[:headroom+n], l.offload) {
			continue // done with, and the memory is warm: the next frame may have it
		}
		if _, err := l.frames.AppendBytes(headroom + (n+headroom-1)&^(headroom-1)); err != nil {
			return err // not reached: the loop's condition has left room
		}
	}
	return nil
}

// take counts the frame behind b's headroom, and its end, if it ends here. It
// reports whether the frame is still on its way, and b with it.
func (l *outLoop) take(b []byte, h virtio.Header) bool {
	l.count.Received++
	l.count.ReceivedBytes += uint64(len(b) - headroom)
	if r := l.route(b, h); r != keep {
		l.count.Drops[r]++
		return false
	}
	return len(l.pending) > 0
}

// route finds the frame's peer and queues the frame.
func (l *outLoop) route(b []byte, h virtio.Header) Reason {
	v := &l.view
	if v.Parse(b[headroom:]) != packet.None {
		return Malformed
	}
	if r := l.classify(v); r != keep {
		return r
	}
	dst := v.Dst()
	if l.family.scoped {
		if r := scope(v.Src(), dst); r != keep {
			return r
		}
	}
	p := l.table.lookup(dst)
	switch {
	case p != nil:
	case l.Subnet.Contains(dst):
		return OwnSubnet
	case !l.table.told:
		return NoPeersYet
	default:
		// Somebody's own route by way of a peer, as a kernel device would take it.
		if p = l.table.stations[v.DstMAC()]; p == nil {
			return NoPeer
		}
	}
	if !h.IsGSO() && v.End-v.L3 > l.mtu {
		return TooBig
	}
	// A router's hop: the frame leaves with our address for the peer's. A
	// kernel VXLAN peer drops what is not addressed to its VTEP MAC.
	frame := b[headroom:]
	copy(frame, p.MAC[:])
	copy(frame[6:], l.MAC[:])
	return l.queue(p, b, h)
}

// classify sorts out the frames that a routed segment does not carry.
func (l *outLoop) classify(v *packet.View) Reason {
	switch dst := v.DstMAC(); {
	case v.Tagged:
		return VLANTagged
	case v.EtherType != l.family.carries:
		return l.family.refuses(v.EtherType)
	case dst == l.RouterMAC:
		return keep
	case dst.IsMulticast():
		return Broadcast
	case l.table.stations.has(dst):
		return keep
	}
	return UnknownMAC
}

// queue puts the frame on its way: whole, in segments, or as one datagram.
func (l *outLoop) queue(p *peer, b []byte, h virtio.Header) Reason {
	m := Message{
		To:   p.VTEP,
		TOS:  l.view.ECN(), // RFC 6040, section 4.1: the outer header starts with the inner ECN
		Flow: l.view.FlowHash(),
	}
	if !h.IsGSO() {
		if gso.Complete(b[headroom:], h) != gso.None {
			return BadOffload
		}
		l.single(p, b, m)
		return keep
	}
	if gso.CheckSuper(&l.view, h) != gso.None {
		return BadOffload
	}
	if l.whole(p, b, h, m) {
		return keep
	}
	if m.Segments = l.split(h); m.Segments == nil {
		return BadOffload
	}
	sent := sentFrame{peer: p, bytes: len(b) - headroom, first: len(l.messages), at: -1}
	l.messages = appendMessages(l.messages, m, l.Underlay.MaxSegments())
	sent.end = len(l.messages)
	l.pending = append(l.pending, sent)
	return keep
}

// single queues a complete frame: in one message with those before it, if all
// are of one flow and one length, else as a message of its own. A run costs the
// kernel on both sides little more than one datagram.
func (l *outLoop) single(p *peer, b []byte, m Message) {
	start := headroom - vxlan.HeaderLen
	copy(b[start:], l.header[:])
	l.segments = append(l.segments, gso.Segment{Header: b[start:]})
	end := len(l.segments)
	if i := len(l.messages) - 1; i >= 0 && l.extends(&l.messages[i], &m, len(b)-start) {
		run := &l.messages[i]
		run.Segments = l.segments[end-1-len(run.Segments) : end : end]
		l.pending = append(l.pending, sentFrame{peer: p, bytes: len(b) - headroom, first: i, end: i + 1, at: len(run.Segments) - 1})
		return
	}
	m.Segments, m.Size = l.segments[end-1:end:end], len(b)-start
	l.messages = append(l.messages, m)
	l.pending = append(l.pending, sentFrame{peer: p, bytes: len(b) - headroom, first: len(l.messages) - 1, end: len(l.messages), at: 0})
}

// extends reports whether a datagram of size bytes like m may go on the end of
// run, which must be the message queued last. After a shorter one nothing may.
func (l *outLoop) extends(run, m *Message, size int) bool {
	n := len(run.Segments)
	return l.pending[len(l.pending)-1].at == n-1 && // and no super-frame
		run.Flow == m.Flow && run.To == m.To && run.TOS == m.TOS &&
		size <= run.Size && run.Segments[n-1].Len() == run.Size &&
		n < l.Underlay.MaxSegments() && (n+1)*run.Size <= maxPayload
}

// whole sends a super-frame by the Uplink and reports whether it is gone. If
// not, it must be cut: there is no such way to the peer, or it is closed, or the
// frame is not for it.
func (l *outLoop) whole(p *peer, b []byte, h virtio.Header, m Message) bool {
	v, n := &l.view, len(b)-headroom
	if p.gate == nil || !l.staysWhole(n, h) || !p.gate.Open() {
		return false
	}
	if len(l.pending) > 0 {
		l.send() // what came before goes before
	}
	b = b[headroom-vxlan.OuterLen-virtio.TunnelHeaderLen:]
	p.outer.Put(b[virtio.TunnelHeaderLen:], n, m.TOS, l.id, l.Underlay.SourcePort(m.Flow))
	h.HdrLen = uint16(vxlan.OuterLen + v.Payload)
	h.CsumStart += vxlan.OuterLen
	h.PutTunnel(b, vxlan.OuterUDP, uint16(vxlan.OuterLen+v.L3))
	if p.gate.WriteFrame(b) != nil {
		return false
	}
	// The kernel numbers the datagrams from there on, as it does for its own.
	l.id += uint16((n-v.Payload)/int(h.GSOSize) + 1)
	l.count.Whole++
	l.delivered(p, n)
	return true
}

// split cuts a super-frame and returns its segments, or nil when the frame
// does not fit its header. When the batch has no room left for more segments,
// the batch is sent first.
func (l *outLoop) split(h virtio.Header) []gso.Segment {
	for range 2 {
		first := len(l.segments)
		segments, fault := gso.Split(l.segments, l.heads, l.header[:], &l.view, h)
		switch fault {
		case gso.None:
			l.segments = segments
			return segments[first:]
		case gso.NoRoom:
			l.send()
		default:
			return nil
		}
	}
	return nil
}

// appendMessages appends m as few messages of limit segments at the most, all
// about equally long: a full super-frame at MTU 1500 has 46 segments where one
// send takes 44, and two halves are cheaper for the receiver than 44 and 2.
func appendMessages(dst []Message, m Message, limit int) []Message {
	segments := m.Segments
	m.Size = len(segments[0].Header) + len(segments[0].Payload)
	limit = max(1, min(limit, maxPayload/m.Size))
	parts := (len(segments) + limit - 1) / limit
	per := (len(segments) + parts - 1) / parts
	for len(segments) > 0 {
		n := min(per, len(segments))
		m.Segments = segments[:n:n]
		segments = segments[n:]
		dst = append(dst, m)
	}
	return dst
}

// staysWhole reports whether the frame at hand, n bytes long, may be given to the
// host's stack as it is. With a single segment it is none for the kernel, which
// then leaves the outer checksum unfinished; with very many it would keep the
// kernel busy within our write, and cutting it refuses it.
func (l *outLoop) staysWhole(n int, h virtio.Header) bool {
	v := &l.view
	segments := (n - v.Payload + int(h.GSOSize) - 1) / int(h.GSOSize)
	return v.End == n && n <= maxWhole && segments > 1 && segments <= batchSegments &&
		v.Payload-v.L3+int(h.GSOSize) <= l.mtu
}

// send sends the batch and counts what became of each frame.
func (l *outLoop) send() {
	if len(l.messages) > 0 {
		l.Underlay.Send(l.messages)
	}
	for _, f := range l.pending {
		if r := outcome(l.messages[f.first:f.end], f.at); r != keep {
			l.count.Drops[r]++
			continue
		}
		l.delivered(f.peer, f.bytes)
	}
	l.heads.Reset()
	l.segments = l.segments[:0]
	l.messages = l.messages[:0]
	l.pending = l.pending[:0]
}

// delivered counts a frame of n bytes that the kernel has taken.
func (l *outLoop) delivered(p *peer, n int) {
	l.count.Delivered++
	l.count.DeliveredBytes += uint64(n)
	if p != l.run.peer {
		l.run.addOut()
		l.run = peerRun{peer: p}
	}
	l.run.frames++
	l.run.bytes += uint64(n)
}

// outcome returns the reason for which a frame is lost: a frame of several
// messages when one piece is missing, else when its own segment, at, is.
func outcome(messages []Message, at int) Reason {
	for i := range messages {
		m := &messages[i]
		switch err := m.Err; {
		case err == nil || at >= 0 && m.Lost>>at&1 == 0:
		case errors.Is(err, ErrMTU):
			return UnderlayMTU
		case errors.Is(err, ErrFull):
			return UnderlayFull
		case errors.Is(err, ErrUnreachable):
			return UnderlayUnreachable
		default:
			return UnderlayError
		}
	}
	return keep
}

// peerRun is a run of delivered frames of one peer, so that the peer's shared
// counters are touched once a run.
type peerRun struct {
	peer          *peer
	frames, bytes uint64
}

func (r *peerRun) addOut() {
	if r.peer != nil {
		r.peer.traffic.outFrames.Add(r.frames)
		r.peer.traffic.outBytes.Add(r.bytes)
	}
}

func (r *peerRun) addIn() {
	if r.peer != nil {
		r.peer.traffic.inFrames.Add(r.frames)
		r.peer.traffic.inBytes.Add(r.bytes)
	}
}
