// SPDX-License-Identifier: Apache-2.0

package tunnel

import (
	"net/netip"

	"vxtap/encap/ether"
)

// Direction counts the frames that went one way through the switch. A frame is
// counted as it came in: a super-frame read from the TAP is one, and so is one
// that arrived whole in one datagram; segments that the kernel joined into one
// receive are counted singly. Bytes are of the inner Ethernet frames.
type Direction struct {
	Received, ReceivedBytes   uint64
	Delivered, DeliveredBytes uint64
	// Whole is how many of the delivered frames went out by the Uplink.
	Whole uint64
	Drops [NumReasons]uint64
	// Flagged counts the frames that a check set to Log would have dropped.
	// They went on, and count as what became of them.
	Flagged [NumReasons]uint64
}

// add adds o to d.
func (d *Direction) add(o Direction) {
	d.Received += o.Received
	d.ReceivedBytes += o.ReceivedBytes
	d.Delivered += o.Delivered
	d.DeliveredBytes += o.DeliveredBytes
	d.Whole += o.Whole
	for r := range d.Drops {
		d.Drops[r] += o.Drops[r]
		d.Flagged[r] += o.Flagged[r]
	}
}

// Dropped returns the sum of all drops.
func (d *Direction) Dropped() uint64 {
	var sum uint64
	for _, n := range d.Drops {
		sum += n
	}
	return sum
}

// Balanced reports whether received = delivered + dropped. It holds for every
// Direction that Switch.Stats returns.
func (d *Direction) Balanced() bool { return d.Received == d.Delivered+d.Dropped() }

// PeerTraffic counts the delivered frames to and from one peer.
type PeerTraffic struct {
	OutFrames, OutBytes uint64
	InFrames, InBytes   uint64
}

// PeerStats is one peer of the forwarding table with its traffic since it
// came; a peer whose lease changes only in value keeps its counts.
type PeerStats struct {
	Peer
	PeerTraffic
}

// Stats is a snapshot of the switch.
type Stats struct {
	Out   Direction // from the TAP to the underlay
	In    Direction // from the underlay to the TAP
	Peers []PeerStats
}

// Peer is one remote VTEP and the overlay subnet behind it.
type Peer struct {
	Subnet netip.Prefix // overlay addresses behind the peer, masked
	VTEP   netip.Addr   // where its datagrams go, and come from: an underlay address of Subnet's IP version, without a zone
	MAC    ether.MAC    // the peer's VTEP MAC: the inner destination of every frame to it
}
