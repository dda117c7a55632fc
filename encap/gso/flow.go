// SPDX-License-Identifier: Apache-2.0

package gso

import (
	"bytes"
	"encoding/binary"

	"vxtap/encap/checksum"
	"vxtap/encap/packet"
	"vxtap/encap/virtio"
)

// key names a flow in full, so that no two flows are ever taken for one.
type key struct {
	addrs [4]uint64 // source and destination; for IPv4 only the first word
	ports uint32
	proto uint8
	v6    bool
}

// set makes k the key of the IP packet v, with ports 0 if it has none.
func (k *key) set(v *packet.View) {
	*k = key{proto: v.Proto, v6: v.Version == 6}
	addrs := v.AddrBytes()
	k.addrs[0] = binary.NativeEndian.Uint64(addrs)
	if k.v6 {
		_ = addrs[31]
		k.addrs[1] = binary.NativeEndian.Uint64(addrs[8:])
		k.addrs[2] = binary.NativeEndian.Uint64(addrs[16:])
		k.addrs[3] = binary.NativeEndian.Uint64(addrs[24:])
	}
	if v.HasPorts() {
		k.ports = binary.NativeEndian.Uint32(v.Frame[v.L4:])
	}
}

// is reports whether k and o name the same flow.
func (k *key) is(o *key) bool {
	return k.addrs[0] == o.addrs[0] && k.ports == o.ports && k.proto == o.proto && k.v6 == o.v6 &&
		(!k.v6 || k.addrs[1] == o.addrs[1] && k.addrs[2] == o.addrs[2] && k.addrs[3] == o.addrs[3])
}

// candidate reports whether v may be joined to others, or others to it, as far
// as it can be told from v alone. What needs the frame's bytes summed up is
// left for when there is something to join.
func (c *Coalescer) candidate(v *packet.View, h virtio.Header) bool {
	if h.IsGSO() || h.Flags&virtio.NeedsCsum != 0 || v.Fragment || v.Payload >= v.End || v.End != len(v.Frame) {
		return false
	}
	switch v.Version {
	case 4:
		// No options; no reserved bit, which is no fragment but odd.
		if v.L4-v.L3 != 20 || v.Frame[v.L3+6]&0x80 != 0 {
			return false
		}
	case 6:
		if v.L4-v.L3 != 40 {
			return false
		}
	default:
		return false
	}
	switch v.Proto {
	case packet.ProtoTCP:
		if v.Version == 4 && !c.opts.TCP4 || v.Version == 6 && !c.opts.TCP6 {
			return false
		}
		return v.TCPFlags()&^packet.PSH == packet.ACK
	case packet.ProtoUDP:
		// A super-frame has a checksum, and a length that covers it all.
		return c.opts.UDP && v.Csum() != 0 && v.L4+v.L4Len() == v.End
	}
	return false
}

// flow is a super-frame that may still grow.
type flow struct {
	key   key
	index int // in Coalescer.out

	first packet.View

	size  int // payload of the first frame, and of all but the last
	total int // payload so far
	count int // frames so far

	nextSeq uint32
	id      uint16 // IPv4 ID of the first frame
	fixedID bool   // all IDs are the same
	push    bool   // the last frame had PSH
}

// start makes f a new flow whose first frame is v, number index of those that
// come out.
func (f *flow) start(k *key, v *packet.View, index int) {
	*f = flow{
		key: *k, index: index,
		first: *v,
		size:  v.End - v.Payload, total: v.End - v.Payload, count: 1,
	}
	if k.proto == packet.ProtoTCP {
		f.nextSeq = binary.BigEndian.Uint32(v.Frame[v.L4+4:]) + uint32(f.size)
	}
	if !k.v6 {
		f.id = binary.BigEndian.Uint16(v.Frame[v.L3+4:])
	}
}

// follows reports whether v, of the same flow, is the next segment and alike
// enough: segments cut from the super-frame again must be the same as those
// that it was made of.
func (f *flow) follows(v *packet.View) bool {
	a, size := &f.first, v.End-v.Payload
	if size > f.size || a.Payload+f.total+size > maxSuper {
		return false
	}
	if a.L3 != v.L3 || a.L4 != v.L4 || a.Payload != v.Payload || !sameEthernet(a.Frame[:a.L3], v.Frame[:v.L3]) {
		return false
	}
	if !f.sameIP(a.Frame[a.L3:a.L4], v.Frame[v.L3:v.L4]) {
		return false
	}
	return f.key.proto == packet.ProtoUDP || f.sameTCP(a.Frame[a.L4:a.Payload], v.Frame[v.L4:v.Payload])
}

// sameEthernet compares two Ethernet headers of the same length, 14 bytes or 18
// with a tag.
func sameEthernet(a, b []byte) bool {
	ne := binary.NativeEndian
	return len(a) >= 14 && len(b) >= 14 &&
		ne.Uint64(a) == ne.Uint64(b) && ne.Uint64(a[6:]) == ne.Uint64(b[6:]) &&
		(len(a) == 14 || bytes.Equal(a[14:], b[14:]))
}

// sameIP compares the IP header b with a, that of the first frame, and its ID
// with the one that is due.
func (f *flow) sameIP(a, b []byte) bool {
	if f.key.v6 {
		// Version, traffic class, flow label; next header, hop limit.
		return len(a) >= 40 && len(b) >= 40 &&
			binary.NativeEndian.Uint32(a) == binary.NativeEndian.Uint32(b) &&
			binary.NativeEndian.Uint16(a[6:]) == binary.NativeEndian.Uint16(b[6:])
	}
	// Version, header length, TOS; flags and offset, TTL, protocol.
	if len(a) < 20 || len(b) < 20 ||
		binary.NativeEndian.Uint16(a) != binary.NativeEndian.Uint16(b) ||
		binary.NativeEndian.Uint32(a[6:]) != binary.NativeEndian.Uint32(b[6:]) {
		return false
	}
	// IDs count up, or, where DF makes them meaningless (RFC 6864), all stay
	// the same; which of the two the second frame decides.
	step := binary.BigEndian.Uint16(b[4:]) - f.id
	if step == 0 && f.count == 1 {
		const dontFragment = 0x40
		return b[6]&dontFragment != 0
	}
	if f.fixedID {
		return step == 0
	}
	return step == uint16(f.count)
}

// sameTCP compares the TCP header b with a, that of the first frame, and its
// sequence number with the one that is due.
func (f *flow) sameTCP(a, b []byte) bool {
	return len(a) >= 20 && len(b) >= 20 &&
		binary.BigEndian.Uint32(b[4:]) == f.nextSeq &&
		binary.NativeEndian.Uint32(a[8:]) == binary.NativeEndian.Uint32(b[8:]) && // acknowledgement
		a[12] == b[12] && // header length, reserved bits; flags are ACK and perhaps PSH
		binary.NativeEndian.Uint16(a[14:]) == binary.NativeEndian.Uint16(b[14:]) && // window
		binary.NativeEndian.Uint16(a[18:]) == binary.NativeEndian.Uint16(b[18:]) && // urgent pointer
		sameOptions(a[20:], b[20:])
}

// sameOptions compares TCP options of the same length, which counts in fours.
// There are mostly 12 bytes of them, fewer than a call of bytes.Equal pays for.
func sameOptions(a, b []byte) bool {
	for len(a) >= 4 && len(b) >= 4 {
		if binary.NativeEndian.Uint32(a) != binary.NativeEndian.Uint32(b) {
			return false
		}
		a, b = a[4:], b[4:]
	}
	return len(a) == len(b)
}

// verified reports whether the checksums of the first frame are right; those
// of all others were when they were joined. It is asked only when there is
// something to join: most frames that stay alone are never summed up.
func (f *flow) verified() bool { return f.count > 1 || verifyFrame(&f.first) }

// verifyFrame reports whether the checksums of v are right. A super-frame gets
// new ones, so a wrong one would be lost, and the damage delivered as good.
func verifyFrame(v *packet.View) bool {
	if v.Version == 4 && checksum.Sum20((*[20]byte)(v.Frame[v.L3:])) != 0xffff {
		return false
	}
	return verify(v)
}

// grow takes note of v, which was joined, and reports whether it is the last
// that can be.
func (f *flow) grow(v *packet.View) (full bool) {
	size := v.End - v.Payload
	if f.count == 1 && !f.key.v6 {
		f.fixedID = binary.BigEndian.Uint16(v.Frame[v.L3+4:]) == f.id
	}
	f.count++
	f.total += size
	f.nextSeq += uint32(size)
	f.push = v.TCPFlags()&packet.PSH != 0
	return f.push || size < f.size || f.count == maxFrames
}

// finish writes the headers of the super-frame to head, which is as long as
// those of the first frame, and returns the header to go before it.
func (f *flow) finish(head []byte) virtio.Header {
	copy(head, f.first.Frame)
	ip, l4 := head[f.first.L3:f.first.L4], head[f.first.L4:]
	n := len(l4) + f.total
	h := virtio.Header{
		Flags:     virtio.NeedsCsum,
		GSOType:   virtio.GSOUDP,
		HdrLen:    uint16(f.first.Payload),
		GSOSize:   uint16(f.size),
		CsumStart: uint16(f.first.L4),
	}
	addrs := ip[12:]
	if f.key.v6 {
		addrs = ip[8:]
		binary.BigEndian.PutUint16(ip[4:], uint16(n))
	} else {
		before, after := binary.BigEndian.Uint16(ip[2:]), uint16(len(ip)+n)
		binary.BigEndian.PutUint16(ip[2:], after)
		binary.BigEndian.PutUint16(ip[10:], checksum.Update16(binary.BigEndian.Uint16(ip[10:]), before, after))
	}
	pseudo := checksum.Fold(checksum.Pseudo(addrs, f.key.proto, n))
	if f.key.proto == packet.ProtoUDP {
		h.CsumOffset = 6
		binary.BigEndian.PutUint16(l4[4:], uint16(n))
		binary.BigEndian.PutUint16(l4[6:], pseudo)
		return h
	}
	h.GSOType, h.CsumOffset = virtio.GSOTCPv4, 16
	if f.key.v6 {
		h.GSOType = virtio.GSOTCPv6
	}
	if f.push {
		l4[13] |= packet.PSH
	}
	binary.BigEndian.PutUint16(l4[16:], pseudo)
	return h
}
