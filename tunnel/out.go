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
	// headroom is kept free before each frame for the VXLAN header, and keeps
	// the frame's own start on a cache line.
	headroom = 64
	// maxFrame is the largest frame a TAP hands over, a 64 KiB packet behind
	// an Ethernet header with a VLAN tag, rounded up to where the next frame's
	// headroom may start.
	maxFrame = (1<<16 + ether.HeaderLen + 4 + headroom - 1) &^ (headroom - 1)
	// maxPayload is the largest payload of a UDP datagram over IPv4, and of
	// one UDP_SEGMENT send, whatever the number of segments (Linux 6.18).
	maxPayload = 65507
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
	table *table
	count Direction

	frames   *buffer.Buffer // the batch's frames, each behind its headroom
	heads    *gso.Arena     // the batch's rewritten segment headers
	segments []gso.Segment
	messages []Message
	pending  []sentFrame
	view     packet.View
	offload  virtio.Header // of the frame read last; a field, for a local one would be allocated
}

// sentFrame is a frame that is on its way, as messages[first:end].
type sentFrame struct {
	peer       *peer
	bytes      int
	first, end int
}

func newOutLoop(s *Switch) *outLoop {
	return &outLoop{
		Switch:   s,
		frames:   s.buffers.Get(),
		heads:    gso.NewArena(arenaBytes),
		segments: make([]gso.Segment, 0, batchSegments),
		messages: make([]Message, 0, batchSegments),
		pending:  make([]sentFrame, 0, batchFrames),
	}
}

// batch waits for a frame, takes all that is queued behind it, as far as the
// batch has room, and sends it.
func (l *outLoop) batch() error {
	err := l.fill()
	l.send()
	l.out.publish(&l.count)
	return err
}

// fill waits for a frame and takes all that is queued behind it, as far as the
// batch has room.
func (l *outLoop) fill() error {
	_ = l.frames.Clear()
	l.table = nil
	for wait := true; len(l.pending) < batchFrames && len(l.frames.Room()) >= headroom+maxFrame; wait = false {
		n, err := l.Port.ReadFrame(l.frames.Room()[headroom:headroom+maxFrame], &l.offload, wait)
		if errors.Is(err, ErrEmpty) {
			return nil
		}
		if err != nil {
			return err
		}
		if l.table == nil {
			l.table = l.Switch.table.Load()
		}
		b, err := l.frames.AppendBytes(headroom + (n+headroom-1)&^(headroom-1))
		if err != nil {
			return err // not reached: the loop's condition has left room
		}
		l.take(b[:headroom+n], l.offload)
	}
	return nil
}

// take counts the frame behind b's headroom, and its drop, if so it ends.
func (l *outLoop) take(b []byte, h virtio.Header) {
	l.count.Received++
	l.count.ReceivedBytes += uint64(len(b) - headroom)
	if r := l.route(b, h); r != keep {
		l.count.Drops[r]++
	}
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
	p := l.table.lookup(dst)
	switch {
	case p != nil:
	case l.Subnet.Contains(dst):
		return OwnSubnet
	default:
		return NoPeer
	}
	if !h.IsGSO() && v.End-v.L3 > l.MTU {
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
	case v.EtherType == ether.TypeIPv6:
		return IPv6
	case v.EtherType != ether.TypeIPv4:
		return NotIP
	case dst == l.RouterMAC:
		return keep
	case dst.IsMulticast():
		return Broadcast
	}
	return UnknownMAC
}

// queue appends the messages that carry the frame.
func (l *outLoop) queue(p *peer, b []byte, h virtio.Header) Reason {
	var segments []gso.Segment
	if h.IsGSO() {
		if segments = l.split(h); segments == nil {
			return BadOffload
		}
	} else {
		if gso.Complete(b[headroom:], h) != gso.None {
			return BadOffload
		}
		start := headroom - vxlan.HeaderLen
		copy(b[start:], l.header[:])
		l.segments = append(l.segments, gso.Segment{Header: b[start:]})
		segments = l.segments[len(l.segments)-1:]
	}
	sent := sentFrame{peer: p, bytes: len(b) - headroom, first: len(l.messages)}
	l.messages = appendMessages(l.messages, Message{
		To:       p.VTEP,
		Segments: segments,
		TOS:      l.view.ECN(), // RFC 6040, section 4.1: the outer header starts with the inner ECN
		Flow:     l.view.FlowHash(),
	}, l.Underlay.MaxSegments())
	sent.end = len(l.messages)
	l.pending = append(l.pending, sent)
	return keep
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

// send sends the batch and counts what became of each frame.
func (l *outLoop) send() {
	if len(l.messages) > 0 {
		l.Underlay.Send(l.messages)
	}
	var run peerRun
	for _, f := range l.pending {
		if r := outcome(l.messages[f.first:f.end]); r != keep {
			l.count.Drops[r]++
			continue
		}
		l.count.Delivered++
		l.count.DeliveredBytes += uint64(f.bytes)
		if f.peer != run.peer {
			run.addOut()
			run = peerRun{peer: f.peer}
		}
		run.frames++
		run.bytes += uint64(f.bytes)
	}
	run.addOut()
	l.heads.Reset()
	l.segments = l.segments[:0]
	l.messages = l.messages[:0]
	l.pending = l.pending[:0]
}

// outcome returns the reason for which a frame is lost: a frame with one piece
// missing is.
func outcome(messages []Message) Reason {
	for i := range messages {
		switch err := messages[i].Err; {
		case err == nil:
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
