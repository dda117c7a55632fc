// SPDX-License-Identifier: Apache-2.0

// Package checksum computes the Internet checksum (RFC 1071), fast enough to
// be run over every byte that the switch segments or joins.
//
// Sums are ones'-complement sums that are not complemented yet, in a uint32
// that holds up to 65536 of them added together with a plain +. A checksum
// field is ^Fold(sum). Data whose checksum field is right sums up to 0xffff.
//
// A sum is zero only if all that went into it was zero, so a sum that covers a
// pseudo header never is: both 0 and 0xffff stand for zero in ones' complement,
// and this package keeps to 0xffff as the kernel does.
package checksum

import (
	"encoding/binary"
	"math/bits"
	"slices"
)

// Sum adds b to initial, as 16-bit big-endian words, an odd last byte being
// the high half of a word. The result is at most 0xffff, so sums of pieces may
// be added with +. Where a piece starts at an odd offset of the whole, its own
// sum goes through Swap first.
func Sum(b []byte, initial uint32) uint32 {
	// Words of 8 bytes in any byte order do: the sum comes out with its bytes
	// swapped (RFC 1071, section 2 B). Little endian costs nothing on the
	// machines that we care for. Each round of 64 bytes is a chain of
	// additions of its own, so that a processor works on several rounds at a
	// time; from round to round only two additions wait for each other. All
	// that lives through the loop just fits the registers of amd64: the
	// capacity of b, forgotten in the next line, or more words a round would
	// go to memory and back.
	le := binary.LittleEndian
	b = slices.Clip(b)
	sum := uint64(bits.ReverseBytes16(Fold(initial)))
	var carries, c, t uint64
	i := 0
	for ; i <= len(b)-64; i += 64 {
		p := (*[64]byte)(b[i:])
		t, c = bits.Add64(le.Uint64(p[0:]), le.Uint64(p[8:]), 0)
		t, c = bits.Add64(t, le.Uint64(p[16:]), c)
		t, c = bits.Add64(t, le.Uint64(p[24:]), c)
		t, c = bits.Add64(t, le.Uint64(p[32:]), c)
		t, c = bits.Add64(t, le.Uint64(p[40:]), c)
		t, c = bits.Add64(t, le.Uint64(p[48:]), c)
		t, c = bits.Add64(t, le.Uint64(p[56:]), c)
		sum, c = bits.Add64(sum, t, c)
		carries, _ = bits.Add64(carries, 0, c)
	}
	return sumTail(b, i, sum, carries)
}

// Sum20 is Sum for an IPv4 header without options, which every frame has that
// is joined.
func Sum20(b *[20]byte) uint32 {
	le := binary.LittleEndian
	sum, c := bits.Add64(le.Uint64(b[0:]), le.Uint64(b[8:]), 0)
	sum, c = bits.Add64(sum, uint64(le.Uint32(b[16:])), c)
	return uint32(bits.ReverseBytes16(fold64(sum + c)))
}

// sumTail adds the bytes of b from i on, less than 64, to a sum of 64-bit words
// whose carries were counted apart, and brings it down to 16 bits.
func sumTail(b []byte, i int, sum, carries uint64) uint32 {
	le := binary.LittleEndian
	var t, c uint64
	n := len(b) - i
	if n >= 32 {
		p := (*[32]byte)(b[i:])
		t, c = bits.Add64(le.Uint64(p[0:]), le.Uint64(p[8:]), 0)
		t, c = bits.Add64(t, le.Uint64(p[16:]), c)
		t, c = bits.Add64(t, le.Uint64(p[24:]), c)
		sum, c = bits.Add64(sum, t, c)
		carries += c
		i, n = i+32, n-32
	}
	if n >= 16 {
		p := (*[16]byte)(b[i:])
		t, c = bits.Add64(le.Uint64(p[0:]), le.Uint64(p[8:]), 0)
		sum, c = bits.Add64(sum, t, c)
		carries += c
		i, n = i+16, n-16
	}
	if n >= 8 {
		sum, c = bits.Add64(sum, le.Uint64(b[i:]), 0)
		carries += c
		i, n = i+8, n-8
	}
	if n > 0 {
		t = 0 // what is left, padded with zeros
		if len(b) >= 8 {
			// The last word of b, without the bytes that are in the sum.
			t = le.Uint64(b[len(b)-8:]) >> (64 - 8*uint(n)&63)
		} else {
			for j, x := range b[i:] {
				t |= uint64(x) << (8 * j & 63)
			}
		}
		sum, c = bits.Add64(sum, t, 0)
		carries += c
	}
	sum, c = bits.Add64(sum, carries, 0)
	return uint32(bits.ReverseBytes16(fold64(sum + c)))
}

// fold64 is Fold for a sum of 64-bit words.
func fold64(sum uint64) uint16 {
	sum += bits.RotateLeft64(sum, 32)
	return Fold(uint32(sum >> 32))
}

// Fold brings a sum down to 16 bits by adding the carries back in. It does not
// complement.
func Fold(sum uint32) uint16 {
	// In the upper half meet both halves and the carry out of the lower one.
	sum += bits.RotateLeft32(sum, 16)
	return uint16(sum >> 16)
}

// Swap turns the sum of a piece into what that piece contributes when it
// starts at an odd offset of the whole.
func Swap(sum uint32) uint32 { return uint32(bits.ReverseBytes16(Fold(sum))) }

// Pseudo returns the sum of the pseudo header of TCP and UDP (RFC 9293,
// section 3.1; RFC 8200, section 8.1). addrs is the source and the destination
// address as they stand next to each other in the IP header, 8 or 32 bytes;
// length is that of the transport header and all its data.
func Pseudo(addrs []byte, proto uint8, length int) uint32 {
	sum := uint64(uint32(length)) + uint64(proto)
	for len(addrs) >= 8 {
		w := binary.BigEndian.Uint64(addrs)
		sum += w>>32 + w&0xffffffff
		addrs = addrs[8:]
	}
	return uint32(fold64(sum))
}

// Update16 returns the checksum field check after one aligned 16-bit word of
// the data it covers changed from before to after (RFC 1624, equation 3).
func Update16(check, before, after uint16) uint16 {
	return ^Fold(uint32(^check) + uint32(^before) + uint32(after))
}
