// SPDX-License-Identifier: Apache-2.0

package tunnel

import (
	"errors"
	"net/netip"

	"vxtap/encap/gso"
	"vxtap/encap/virtio"
)

// What a Port or an Underlay can say about one frame. They are plain values,
// so that reporting one costs nothing; anything else they return ends the loop.
var (
	// ErrEmpty means that nothing is queued; only a call that does not wait
	// returns it.
	ErrEmpty = errors.New("nothing queued")
	// ErrInterrupted means that Interrupt was called.
	ErrInterrupted = errors.New("interrupted")
	// ErrFull means that the kernel's queue had no room for the frame.
	ErrFull = errors.New("queue full")
	// ErrMTU means that the underlay cannot carry a datagram of that size.
	ErrMTU = errors.New("larger than the underlay's MTU")
	// ErrUnreachable means that the underlay has no way to the peer.
	ErrUnreachable = errors.New("peer unreachable")
	// ErrRefused means that the kernel would not take a super-frame: the
	// offload is not to be had, and the frame must go out in segments.
	ErrRefused = errors.New("super-frame refused")
	// ErrFrame means that the kernel would not take this one frame, for
	// whatever other reason.
	ErrFrame = errors.New("frame refused")
)

// Offloads says which kinds of unfinished frame a Port takes and hands out.
type Offloads struct {
	Csum bool // transport checksums may be left partial
	TCP4 bool // TCP over IPv4 super-frames
	TCP6 bool // TCP over IPv6 super-frames
	UDP  bool // UDP super-frames, both families
}

// Port is the switch's end of a TAP. One goroutine reads and one other writes;
// Interrupt may be called by anyone.
type Port interface {
	// ReadFrame reads one Ethernet frame into b, which should hold 64 KiB,
	// and what the device says about it into h. With wait it blocks until
	// there is a frame; without, it returns ErrEmpty when none is queued.
	ReadFrame(b []byte, h *virtio.Header, wait bool) (int, error)
	// WriteFrame writes head and payloads as one frame. It never blocks:
	// ErrFull means that the frame was not taken.
	WriteFrame(h virtio.Header, head []byte, payloads [][]byte) error
	// Takes says what may be given to WriteFrame. It does not change.
	Takes() Offloads
	// Interrupt makes a ReadFrame that waits, and every one after it, return
	// ErrInterrupted.
	Interrupt()
}

// Datagram is one receive: a UDP payload, or several of one size that the
// kernel joined (UDP_GRO).
type Datagram struct {
	Data []byte // the Underlay's memory, valid until its next Receive
	From netip.Addr
	// GSOSize is the segment size that came with the receive, 0 for none. It
	// is the size of the joined datagrams, or, when one inner UDP super-frame
	// arrived whole, the size of its inner segments: see gso.IsBatch.
	GSOSize int
	TOS     uint8 // of the outer IP header
}

// Message is one send: one UDP payload, or several of one size that the kernel
// cuts (UDP_SEGMENT).
type Message struct {
	To netip.Addr
	// Segments are the payloads, each in two pieces. All have the same total
	// length, Size; only the last may be shorter.
	Segments []gso.Segment
	Size     int
	TOS      uint8  // for the outer IP header
	Flow     uint32 // hash of the inner flow: picks the source port (RFC 7348, section 5)
	Err      error  // set by Send: nil when the kernel took all of it
}

// Underlay is the switch's end of the UDP sockets. One goroutine receives and
// one other sends; Interrupt and Overflows may be called by anyone.
type Underlay interface {
	// Receive fills datagrams from the front and returns how many it filled.
	// With wait it blocks until there is at least one; without, it returns
	// ErrEmpty when none is queued.
	Receive(datagrams []Datagram, wait bool) (int, error)
	// Send sends all messages, keeping the order within a flow, and sets each
	// one's Err. It waits only briefly for room.
	Send(messages []Message)
	// MaxSegments is how many segments one Message may have, 1 without
	// segmentation offload. It may fall while running, never rise.
	MaxSegments() int
	// Overflows is how many datagrams found the receive buffer full.
	Overflows() uint64
	// Interrupt makes a Receive that waits, and every one after it, return
	// ErrInterrupted.
	Interrupt()
}
