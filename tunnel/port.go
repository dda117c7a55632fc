// SPDX-License-Identifier: Apache-2.0

package tunnel

import (
	"errors"
	"net/netip"

	"vxtap/encap/gso"
	"vxtap/encap/virtio"
	"vxtap/encap/vxlan"
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

// Port is the switch's end of one queue of a TAP. One goroutine reads and one
// other, or the same, writes; Interrupt may be called by anyone.
type Port interface {
	// ReadFrame reads one Ethernet frame into b, which should hold 64 KiB,
	// and what the device says about it into h. With wait it blocks until
	// there is a frame; without, it returns ErrEmpty when none is queued.
	ReadFrame(b []byte, h *virtio.Header, wait bool) (int, error)
	// WriteFrame writes head and payloads as one frame. It never blocks:
	// ErrFull means that the frame was not taken.
	WriteFrame(h virtio.Header, head []byte, payloads [][]byte) error
	// Takes says what may be given to WriteFrame. It may become less while
	// running, when the kernel refuses what it granted, and never more.
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

	// Set by Send. Lost has a bit for each segment that the kernel did not
	// take, the first segment's lowest, and Err says why; nil when it took all.
	Lost uint64
	Err  error
}

// MaxRun is how many segments a Message may have at the most, whatever the
// kernel takes: Lost has a bit for each.
const MaxRun = 64

// Underlay is one lane's end of the UDP sockets. One goroutine receives and one
// other, or the same, sends; Interrupt may be called by anyone.
type Underlay interface {
	// Receive fills datagrams from the front and returns how many it filled.
	// With wait it blocks until there is at least one; without, it returns
	// ErrEmpty when none is queued.
	Receive(datagrams []Datagram, wait bool) (int, error)
	// Send sends all messages, keeping the order within a flow, and sets each
	// one's Lost and Err. It does not wait for room: what finds none is lost.
	Send(messages []Message)
	// SourcePort returns the UDP port that messages with this Flow leave from.
	SourcePort(flow uint32) uint16
	// MaxSegments is how many segments one Message may have, 1 without
	// segmentation offload, MaxRun at the most. It may fall while running,
	// never rise.
	MaxSegments() int
	// Interrupt makes a Receive that waits, and every one after it, return
	// ErrInterrupted.
	Interrupt()
}

// Uplink is the way for super-frames that need not be cut: with its outer
// headers before it, a whole one is handed to the host's own stack, which sends
// it on as it sends a kernel VXLAN device's.
type Uplink interface {
	// Endpoint is what the outer headers are made of. When it changes, somebody
	// calls Switch.SetPeers, which makes them anew.
	Endpoint() vxlan.Endpoint
	// Gates replaces the peers that the uplink knows by those at vteps, and
	// returns the gate of each, in the same order. A peer keeps its gate from
	// one call to the next, and has one however often it is named. The gate of
	// one that is gone is closed for good. One goroutine at a time calls it.
	Gates(vteps []netip.Addr) []Gate
}

// Gate is the uplink's way to one peer. Every lane uses it at the same time.
type Gate interface {
	// Open reports whether the way is open, for a super-frame that would take
	// it. It changes while running: what the host lets through is the host's
	// to say. Who is told that it is closed has asked for it to be opened.
	Open() bool
	// WriteFrame writes one outer frame to the peer behind its virtio header
	// of virtio.TunnelHeaderLen bytes. It never blocks. After an error the
	// frame was not taken.
	WriteFrame(b []byte) error
}
