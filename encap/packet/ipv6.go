// SPDX-License-Identifier: Apache-2.0

package packet

import "encoding/binary"

// The IPv6 extension headers that Parse walks over (RFC 8200, section 4).
const (
	extHopByHop    = 0
	extRouting     = 43
	extFragment    = 44
	extDestination = 60
)

// maxExtensions bounds the walk. RFC 8200, section 4.1, names an order with
// seven headers, destination options twice; more is somebody's game.
const maxExtensions = 8

func (v *View) parseIPv6(l3 int) Fault {
	ip := v.Frame[l3:]
	if len(ip) < 40 {
		return TooShort
	}
	if ip[0]>>4 != 6 {
		return BadIPHeader
	}
	total := 40 + int(binary.BigEndian.Uint16(ip[4:]))
	if total > len(ip) {
		return BadLength
	}
	if !isExtension(ip[6]) {
		return v.finish(6, l3, l3+40, l3+total, ip[6], false)
	}
	proto, off, fragment, fault := walkExtensions(ip[:total], ip[6])
	if fault != None {
		return fault
	}
	return v.finish(6, l3, l3+off, l3+total, proto, fragment)
}

func isExtension(proto uint8) bool {
	return proto == extHopByHop || proto == extRouting || proto == extFragment || proto == extDestination
}

// walkExtensions goes over the extension headers of ip, which ends where the
// packet ends. It stops behind a fragment header, for what follows need not be
// a header at all; and before a routing header with segments left, for the
// destination in the fixed header is then not the one that the transport
// checksum covers.
func walkExtensions(ip []byte, next uint8) (proto uint8, off int, fragment bool, fault Fault) {
	off = 40
	for range maxExtensions {
		if !isExtension(next) {
			return next, off, false, None
		}
		if off+8 > len(ip) {
			return 0, 0, false, BadLength
		}
		ext := ip[off:]
		if next == extFragment {
			return ext[0], off + 8, true, None
		}
		if next == extRouting && ext[3] != 0 {
			return next, off, false, None
		}
		next, off = ext[0], off+(int(ext[1])+1)*8
		if off > len(ip) {
			return 0, 0, false, BadLength
		}
	}
	if isExtension(next) {
		return 0, 0, false, BadIPHeader
	}
	return next, off, false, None
}
