// SPDX-License-Identifier: Apache-2.0

// Package gso does in user space what the kernel leaves to us when a TAP
// hands out super-frames: one TCP or UDP packet of up to 64 KB that stands for
// many on the wire.
//
//	Split      cuts a super-frame into segments, for the way out
//	Complete   fills in the checksum of an ordinary frame, for the way out
//	IsBatch    tells several datagrams joined by UDP_GRO from one large one
//	Describe   says what one frame from the underlay is, for the way in
//	Coalescer  joins consecutive segments into super-frames, for the way in
//
// Payloads are never copied: segments and super-frames are headers of their
// own, followed by slices of the frame they came from.
package gso

import (
	"vxtap/encap/packet"
	"vxtap/encap/virtio"
)

// Fault says why a frame could not be cut, completed or described.
type Fault uint8

// The faults; None is the zero value. BadType, BadSize and BadCsumStart mean
// that the virtio header contradicts the frame.
const (
	None         Fault = iota
	BadType            // no super-frame, or of a type that contradicts the headers
	BadSize            // a segment size of zero
	BadCsumStart       // no NEEDS_CSUM, or its offsets are not those of the frame
	NoRoom             // the arena is full
	BadChecksum        // the transport checksum is wrong
	TooBig             // larger than the MTU, and nothing that can be segmented
)

var faultNames = [...]string{
	None:         "none",
	BadType:      "bad GSO type",
	BadSize:      "bad segment size",
	BadCsumStart: "bad checksum offsets",
	NoRoom:       "no room for headers",
	BadChecksum:  "bad checksum",
	TooBig:       "too big",
}

// String returns a few words for people.
func (f Fault) String() string {
	if int(f) < len(faultNames) {
		return faultNames[f]
	}
	return "unknown"
}

// superType returns the kind of super-frame that v can be, or GSONone.
func superType(v *packet.View) virtio.GSOType {
	if v.Fragment {
		return virtio.GSONone
	}
	switch {
	case v.Version == 4 && v.Proto == packet.ProtoTCP:
		return virtio.GSOTCPv4
	case v.Version == 6 && v.Proto == packet.ProtoTCP:
		return virtio.GSOTCPv6
	case v.Version != 0 && v.Proto == packet.ProtoUDP:
		return virtio.GSOUDP
	}
	return virtio.GSONone
}
