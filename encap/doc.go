// SPDX-License-Identifier: Apache-2.0

// Package encap is the room for bytes: the packages below it know how frames
// and headers look on the wire and nothing else.
//
//	ether     MAC addresses and EtherTypes
//	packet    a checked view of one Ethernet frame down to its TCP or UDP payload
//	checksum  the Internet checksum (RFC 1071), fast
//	vxlan     the VXLAN header (RFC 7348), its template, its overhead
//	virtio    the virtio-net header that a TAP puts before every frame
//	gso       cutting super-frames into segments, joining segments into super-frames
//	buffer    buffers with headroom for headers still to come
//
// Nothing below encap starts a goroutine, opens a socket, reads a clock or
// writes a log. Everything that parses takes hostile input.
package encap
