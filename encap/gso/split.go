// SPDX-License-Identifier: Apache-2.0

package gso

import (
	"encoding/binary"

	"vxtap/encap/checksum"
	"vxtap/encap/packet"
	"vxtap/encap/virtio"
)

// Segment is one wire frame in two pieces, to be sent one after the other.
type Segment struct {
	// Header is the caller's prefix and the segment's own Ethernet, IP and
	// transport headers. It lies in the Arena and is valid until Arena.Reset.
	Header []byte
	// Payload is a piece of the super-frame's memory.
	Payload []byte
}

// Len returns the length of the whole segment, prefix included.
func (s Segment) Len() int { return len(s.Header) + len(s.Payload) }

// Split cuts the super-frame v into segments of h.GSOSize bytes of payload,
// the last one with what is left, appends them to dst and returns it. prefix,
// the VXLAN header or nothing, is put before each.
//
// Every segment is a complete frame: IPv4 and TCP or UDP checksums are right
// whatever the super-frame had there, the IPv4 ID counts up from the
// super-frame's (and wraps), TCP's sequence number advances, FIN and PSH are
// only on the last segment, CWR only on the first (RFC 3168, section 6.1.2),
// lengths are the segment's own. h.HdrLen is not used: Linux puts there what
// it likes.
//
// A frame that is no super-frame is BadType, as is one whose type contradicts
// its headers. After a fault dst is returned as it was and nothing of the
// arena is used up; NoRoom may be tried again after Arena.Reset.
//
// Split allocates nothing as long as dst has capacity.
func Split(dst []Segment, a *Arena, prefix []byte, v *packet.View, h virtio.Header) ([]Segment, Fault) {
	if fault := CheckSuper(v, h); fault != None {
		return dst, fault
	}
	payload, size := v.Frame[v.Payload:v.L4+v.L4Len()], int(h.GSOSize)
	n := max(1, (len(payload)+size-1)/size)
	stride := len(prefix) + v.Payload
	mem := a.take(n, stride)
	if mem == nil {
		return dst, NoRoom
	}
	copy(mem, prefix)
	copy(mem[len(prefix):stride], v.Frame)
	c := newCutter(mem[:stride], len(prefix), v)
	for i := range n {
		head := mem[i*stride : (i+1)*stride : (i+1)*stride]
		if i > 0 {
			copy(head, mem[:stride])
		}
		piece := payload[:min(size, len(payload))]
		payload = payload[len(piece):]
		c.patch(head, piece, i, i == n-1)
		dst = append(dst, Segment{Header: head, Payload: piece})
	}
	return dst, None
}

// CheckSuper compares what the virtio header says with the frame, and returns
// BadType, BadSize or BadCsumStart for one that is no sound super-frame. NEEDS_CSUM
// is demanded with every super-frame by virtio 1.2, section 5.1.6.2; one
// without would have a checksum that nobody has verified.
func CheckSuper(v *packet.View, h virtio.Header) Fault {
	typ := superType(v)
	if typ == virtio.GSONone || (h.GSOType != typ && h.GSOType != typ|virtio.GSOECN) {
		return BadType
	}
	if typ == virtio.GSOUDP && (h.GSOType != typ || v.L4+v.L4Len() != v.End) {
		return BadType
	}
	if h.GSOSize == 0 {
		return BadSize
	}
	if h.Flags&virtio.NeedsCsum == 0 || int(h.CsumStart) != v.L4 || int(h.CsumOffset) != v.CsumOffset() {
		return BadCsumStart
	}
	return None
}

// cutter has what all segments of one super-frame have in common: where their
// headers are, and the sums over all header words that do not change.
type cutter struct {
	l3, l4  int // offsets in Segment.Header, prefix included
	version uint8
	tcp     bool

	id      uint16 // IPv4 ID of the first segment
	ipSum   uint32 // IPv4 header without length, ID and checksum
	seq     uint32 // sequence number of the first segment
	flags   uint8
	l4Sum   uint32 // pseudo header and transport header without lengths, sequence, flags and checksum
	advance uint32 // payload bytes in the segments so far
}

// newCutter clears all words in head that patch will write, and sums up the
// rest.
func newCutter(head []byte, prefix int, v *packet.View) cutter {
	c := cutter{
		l3: prefix + v.L3, l4: prefix + v.L4,
		version: v.Version,
		tcp:     v.Proto == packet.ProtoTCP,
	}
	if c.version == 4 {
		ip := head[c.l3:c.l4]
		c.id = binary.BigEndian.Uint16(ip[4:])
		binary.BigEndian.PutUint32(ip[2:], 0)
		binary.BigEndian.PutUint16(ip[10:], 0)
		c.ipSum = checksum.Sum(ip, 0)
	}
	l4 := head[c.l4:]
	if c.tcp {
		c.seq, c.flags = binary.BigEndian.Uint32(l4[4:]), l4[13]
		binary.BigEndian.PutUint32(l4[4:], 0)
		l4[13] = 0
		binary.BigEndian.PutUint16(l4[16:], 0)
	} else {
		binary.BigEndian.PutUint32(l4[4:], 0)
	}
	c.l4Sum = checksum.Sum(l4, checksum.Pseudo(v.AddrBytes(), v.Proto, 0))
	return c
}

// patch makes head the headers of segment i. It assigns every word that
// newCutter cleared, so head may be a copy of any other segment's.
func (c *cutter) patch(head, payload []byte, i int, last bool) {
	l3, l4 := head[c.l3:c.l4], head[c.l4:]
	c.patchIP(l3, len(l4)+len(payload), i)

	length := uint32(len(l4) + len(payload)) // of the pseudo header
	sum := checksum.Sum(payload, c.l4Sum) + length
	if !c.tcp {
		binary.BigEndian.PutUint16(l4[4:], uint16(length))
		check := ^checksum.Fold(sum + length)
		if check == 0 {
			check = 0xffff // RFC 768: zero would say that there is none
		}
		binary.BigEndian.PutUint16(l4[6:], check)
		return
	}
	flags := c.flags
	if i > 0 {
		flags &^= packet.CWR
	}
	if !last {
		flags &^= packet.FIN | packet.PSH
	}
	seq := c.seq + c.advance
	c.advance += uint32(len(payload))
	binary.BigEndian.PutUint32(l4[4:], seq)
	l4[13] = flags
	sum += seq>>16 + seq&0xffff + uint32(flags)
	binary.BigEndian.PutUint16(l4[16:], ^checksum.Fold(sum))
}

// patchIP writes the lengths, and for IPv4 the ID and the header checksum.
func (c *cutter) patchIP(ip []byte, l4Len, i int) {
	if c.version == 6 {
		binary.BigEndian.PutUint16(ip[4:], uint16(len(ip)-40+l4Len))
		return
	}
	total, id := uint16(len(ip)+l4Len), c.id+uint16(i)
	binary.BigEndian.PutUint16(ip[2:], total)
	binary.BigEndian.PutUint16(ip[4:], id)
	binary.BigEndian.PutUint16(ip[10:], ^checksum.Fold(c.ipSum+uint32(total)+uint32(id)))
}

// Complete fills in, in place, the transport checksum of a frame that says
// NEEDS_CSUM, for any protocol: the field holds the pseudo header's sum, and
// everything from csum_start to the end of the frame is added. Frames that do
// not ask for it are left alone.
//
// Zero is written as 0xffff, as Linux does (CSUM_MANGLED_0): for UDP zero would
// say that there is no checksum, and for the others the two mean the same.
//
// A super-frame is BadType: its checksums are Split's business.
func Complete(frame []byte, h virtio.Header) Fault {
	if h.IsGSO() {
		return BadType
	}
	if h.Flags&virtio.NeedsCsum == 0 {
		return None
	}
	start, field := int(h.CsumStart), int(h.CsumStart)+int(h.CsumOffset)
	if start < minCsumStart || field+2 > len(frame) {
		return BadCsumStart
	}
	check := ^checksum.Fold(checksum.Sum(frame[start:], 0))
	if check == 0 {
		check = 0xffff
	}
	binary.BigEndian.PutUint16(frame[field:], check)
	return None
}

// minCsumStart is the smallest csum_start that a frame can have: an Ethernet
// header comes before everything.
const minCsumStart = 14
