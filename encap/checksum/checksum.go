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
)

// Sum adds b to initial, as 16-bit big-endian words, an odd last byte being
// the high half of a word. The result is at most 0xffff, so sums of pieces may
// be added with +. Where a piece starts at an odd offset of the whole, its own
// sum goes through Swap first.
func Sum(b []byte, initial uint32) uint32 {
	// Words of 8 bytes in any byte order do: the sum comes out with its bytes
	// swapped (RFC 1071, section 2 B). Little endian costs nothing on the
	// machines that we care for. Two chains of additions, since one alone
	// would wait for its own carry at every word; the carries out of both are
	// counted in carries, and added like any word. An index rather than a
	// shrinking slice: the compiler would compute a new capacity each time
	// round, a fifth of the whole time.
	var s0, s1, carries, c uint64
	i := 0
	for ; i <= len(b)-64; i += 64 {
		p := (*[64]byte)(b[i : i+64])
		s0, c = bits.Add64(s0, binary.LittleEndian.Uint64(p[0:]), 0)
		s0, c = bits.Add64(s0, binary.LittleEndian.Uint64(p[8:]), c)
		s0, c = bits.Add64(s0, binary.LittleEndian.Uint64(p[16:]), c)
		s0, c = bits.Add64(s0, binary.LittleEndian.Uint64(p[24:]), c)
		carries, _ = bits.Add64(carries, 0, c)
		s1, c = bits.Add64(s1, binary.LittleEndian.Uint64(p[32:]), 0)
		s1, c = bits.Add64(s1, binary.LittleEndian.Uint64(p[40:]), c)
		s1, c = bits.Add64(s1, binary.LittleEndian.Uint64(p[48:]), c)
		s1, c = bits.Add64(s1, binary.LittleEndian.Uint64(p[56:]), c)
		carries, _ = bits.Add64(carries, 0, c)
	}
	b = b[i:] // less than 64 bytes
	for len(b) >= 16 {
		s1, c = bits.Add64(s1, binary.LittleEndian.Uint64(b[0:]), 0)
		s1, c = bits.Add64(s1, binary.LittleEndian.Uint64(b[8:]), c)
		carries, _ = bits.Add64(carries, 0, c)
		b = b[16:]
	}
	if len(b) >= 8 {
		s0, c = bits.Add64(s0, binary.LittleEndian.Uint64(b), 0)
		carries, _ = bits.Add64(carries, 0, c)
		b = b[8:]
	}
	var rest uint64 // what is left, padded with zeros
	if len(b) >= 4 {
		rest, b = uint64(binary.LittleEndian.Uint32(b)), b[4:]
	}
	for j, x := range b {
		rest += uint64(x) << (8 * j)
	}
	s0, c = bits.Add64(s0, rest, 0)
	carries, _ = bits.Add64(carries, 0, c)
	s0, c = bits.Add64(s0, s1, 0)
	carries += c
	s0, c = bits.Add64(s0, carries, 0)
	s0, c = bits.Add64(s0, 0, c)
	s0 += c
	return uint32(Fold(uint32(bits.ReverseBytes16(fold64(s0))) + uint32(Fold(initial))))
}

// fold64 is Fold for a sum of 64-bit words.
func fold64(sum uint64) uint16 {
	sum = sum>>32 + sum&0xffffffff
	sum = sum>>32 + sum&0xffffffff
	return Fold(uint32(sum))
}

// Fold brings a sum down to 16 bits by adding the carries back in. It does not
// complement.
func Fold(sum uint32) uint16 {
	sum = sum>>16 + sum&0xffff
	sum = sum>>16 + sum&0xffff
	return uint16(sum)
}

// Swap turns the sum of a piece into what that piece contributes when it
// starts at an odd offset of the whole.
func Swap(sum uint32) uint32 { return uint32(bits.ReverseBytes16(Fold(sum))) }

// Pseudo returns the sum of the pseudo header of TCP and UDP (RFC 9293,
// section 3.1; RFC 8200, section 8.1). addrs is the source and the destination
// address as they stand next to each other in the IP header, 8 or 32 bytes;
// length is that of the transport header and all its data.
func Pseudo(addrs []byte, proto uint8, length int) uint32 {
	return Sum(addrs, uint32(length)>>16+uint32(length)&0xffff+uint32(proto))
}

// Update16 returns the checksum field check after one aligned 16-bit word of
// the data it covers changed from before to after (RFC 1624, equation 3).
func Update16(check, before, after uint16) uint16 {
	return ^Fold(uint32(^check) + uint32(^before) + uint32(after))
}
