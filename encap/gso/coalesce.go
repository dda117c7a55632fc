// SPDX-License-Identifier: Apache-2.0

package gso

import (
	"math/bits"

	"vxtap/encap/packet"
	"vxtap/encap/virtio"
)

// Super is one frame to be written to a TAP: Virtio, then Head, then Payloads.
type Super struct {
	Virtio virtio.Header
	// Head is a whole frame, verbatim, when nothing was joined to it; then
	// Payloads is empty. Else it is the headers of the super-frame.
	Head     []byte
	Payloads [][]byte
	// Frames is how many frames were joined, 1 for a frame that passed alone;
	// Bytes is the sum of their lengths as they were added.
	Frames, Bytes int
	// First says which Add since Reset, counted from 0, the super-frame began
	// with, so that the caller knows whose frame it is.
	First int
}

// CoalescerOptions says what the TAP takes as super-frames. The zero value
// joins nothing.
type CoalescerOptions struct {
	TCP4, TCP6 bool // TUN_F_TSO4, TUN_F_TSO6
	UDP        bool // TUN_F_USO4 and TUN_F_USO6
}

const (
	// maxFrames is how many frames a super-frame may be made of. 64 is what
	// every kernel with UDP_L4 takes (UDP_MAX_SEGMENTS before Linux 6.9).
	maxFrames = 64
	// maxSuper is how long a super-frame may be. At 65536, Ethernet header
	// included, Linux would segment it in software wherever it is forwarded
	// (GSO_LEGACY_MAX_SIZE); the rest is room for tags and tunnels on its way.
	maxSuper = 65536 - 136
	// maxOpen is how many flows may be joined at the same time. The kernel
	// joins only datagrams of one outer source port, so a batch has few flows.
	maxOpen = 16
	// headBlock is how much memory for headers is got at a time: 256 headers
	// of the longest kind that is joined (18 + 40 + 60).
	headBlock = 256 * 128
)

// Coalescer joins consecutive segments of a TCP flow, and datagrams of equal
// size of a UDP flow, into super-frames, so that the kernel runs its receive
// path once for 64 KB. The rules are those of Linux's GRO (net/ipv4/af_inet.c,
// tcp_offload.c and udp_offload.c as of 6.18), minus what would need a timer:
// a batch is what came in together, and nothing is ever held back.
//
// Whatever is not joined comes out as it went in. Frames of a flow are never
// reordered. A Coalescer is not safe for concurrent use.
//
// It allocates only while batches get larger than any before.
type Coalescer struct {
	opts  CoalescerOptions
	out   []Super
	added int // since Reset

	// open has the flows that may still grow; live is a bit for each one in
	// use, last the one that grew last.
	open [maxOpen]flow
	live uint16
	last int

	// Memory that is kept from batch to batch: payload lists of joined frames,
	// and their headers.
	lists     [][][]byte
	listsUsed int
	heads     []byte
	headsUsed int
}

// NewCoalescer returns an empty coalescer.
func NewCoalescer(o CoalescerOptions) *Coalescer {
	return &Coalescer{opts: o, heads: make([]byte, headBlock)}
}

// Add takes one frame, with the header that Describe returned for it. The
// frame's memory is borrowed until Reset; v itself is not kept. Super-frames
// and frames with NEEDS_CSUM pass alone.
func (c *Coalescer) Add(v *packet.View, h virtio.Header) {
	c.added++
	if !c.candidate(v, h) {
		if c.live != 0 {
			c.sealFlowsOf(v)
		}
		c.alone(v, h)
		return
	}
	var k key
	k.set(v)
	if i := c.find(&k); i >= 0 {
		f := &c.open[i]
		if f.follows(v) && f.verified() && verifyFrame(v) {
			c.join(i, v)
			return
		}
		c.seal(i)
	}
	index := c.alone(v, h)
	if v.Proto == packet.ProtoTCP && v.TCPFlags()&packet.PSH != 0 {
		return // nothing may follow
	}
	i := c.vacant()
	c.open[i].start(&k, v, index)
	c.live |= 1 << i
	c.last = i
}

// Supers returns all that was added since Reset, in the order in which the
// first frame of each came. It and all it points to are valid until the next
// Add or Reset.
func (c *Coalescer) Supers() []Super {
	for c.live != 0 {
		c.seal(bits.TrailingZeros16(c.live))
	}
	return c.out
}

// Reset forgets all frames, for the next batch.
func (c *Coalescer) Reset() {
	c.out, c.live, c.added = c.out[:0], 0, 0
	c.listsUsed, c.headsUsed = 0, 0
}

// alone puts a frame out by itself and returns its index.
func (c *Coalescer) alone(v *packet.View, h virtio.Header) int {
	c.out = append(c.out, Super{Virtio: h, Head: v.Frame, Frames: 1, Bytes: len(v.Frame), First: c.added - 1})
	return len(c.out) - 1
}

// join appends v to open flow i.
func (c *Coalescer) join(i int, v *packet.View) {
	f := &c.open[i]
	s := &c.out[f.index]
	if f.count == 1 {
		s.Payloads = append(c.list(), f.first.Frame[f.first.Payload:])
	}
	s.Payloads = append(s.Payloads, v.Frame[v.Payload:])
	s.Frames++
	s.Bytes += len(v.Frame)
	c.last = i
	if f.grow(v) {
		c.seal(i)
	}
}

// list returns an empty payload list with room for maxFrames.
func (c *Coalescer) list() [][]byte {
	if c.listsUsed == len(c.lists) {
		c.lists = append(c.lists, make([][]byte, 0, maxFrames))
	}
	c.listsUsed++
	return c.lists[c.listsUsed-1]
}

// head returns memory for n bytes of headers. A full block is left to those
// who still point into it, and replaced by a larger one.
func (c *Coalescer) head(n int) []byte {
	if n > len(c.heads)-c.headsUsed {
		c.heads = make([]byte, 2*len(c.heads))
		c.headsUsed = 0
	}
	b := c.heads[c.headsUsed : c.headsUsed+n : c.headsUsed+n]
	c.headsUsed += n
	return b
}

// find returns the open flow with key k, or -1.
func (c *Coalescer) find(k *key) int {
	if c.live&(1<<c.last) != 0 && c.open[c.last].key.is(k) {
		return c.last
	}
	for m := c.live; m != 0; m &= m - 1 {
		if i := bits.TrailingZeros16(m); c.open[i].key.is(k) {
			return i
		}
	}
	return -1
}

// vacant returns a slot for a new flow. When all are taken, the flow whose
// super-frame comes out first has to close: it has had the most time to grow.
func (c *Coalescer) vacant() int {
	if c.live != 1<<maxOpen-1 {
		return bits.TrailingZeros16(^c.live)
	}
	oldest := 0
	for i := range c.open {
		if c.open[i].index < c.open[oldest].index {
			oldest = i
		}
	}
	c.seal(oldest)
	return oldest
}

// seal closes open flow i: its super-frame gets its headers, and the next
// frame of the flow begins another one.
func (c *Coalescer) seal(i int) {
	c.live &^= 1 << i
	f := &c.open[i]
	if f.count == 1 {
		return
	}
	s := &c.out[f.index]
	s.Head = c.head(f.first.Payload)
	s.Virtio = f.finish(s.Head)
}

// sealFlowsOf closes the open flow that v, which passes alone, belongs to, so
// that nothing behind v can come out before it. A fragment has no ports, and
// closes all that it may belong to; other protocols belong to none.
func (c *Coalescer) sealFlowsOf(v *packet.View) {
	if !v.HasPorts() && !v.Fragment {
		return
	}
	var k key
	k.set(v)
	for m := c.live; m != 0; m &= m - 1 {
		i := bits.TrailingZeros16(m)
		if c.open[i].key.is(&k) || v.Fragment && c.open[i].key.addrs == k.addrs {
			c.seal(i)
		}
	}
}
