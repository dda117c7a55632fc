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
	// machines that we care for.
	var sum, carry uint64
	for len(b) >= 64 {
		p := (*[64]byte)(b)
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(p[0:]), carry)
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(p[8:]), carry)
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(p[16:]), carry)
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(p[24:]), carry)
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(p[32:]), carry)
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(p[40:]), carry)
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(p[48:]), carry)
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(p[56:]), carry)
		b = b[64:]
	}
	for len(b) >= 8 {
		sum, carry = bits.Add64(sum, binary.LittleEndian.Uint64(b), carry)
		b = b[8:]
	}
	var rest uint64
	for i, x := range b {
		rest |= uint64(x) << (8 * i)
	}
	sum, carry = bits.Add64(sum, rest, carry)
	sum, carry = bits.Add64(sum, 0, carry)
	sum += carry

	sum = sum>>32 + sum&0xffffffff
	sum = sum>>32 + sum&0xffffffff
	return uint32(Fold(uint32(bits.ReverseBytes16(Fold(uint32(sum)))) + uint32(Fold(initial))))
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
