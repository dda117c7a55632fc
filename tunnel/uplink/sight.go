// SPDX-License-Identifier: Apache-2.0

package uplink

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"vxtap/encap/vxlan"
)

// sighting is what was seen of one peer's probe and its control on their way out
// by one interface, in sum. A packet may leave by several, by a bond and then by
// one of its ports: what any of them has seen whole has passed.
type sighting struct {
	device  int // index of the interface
	control bool
	bytes   int // of VXLAN payload in segments of the probe
	changed string
}

// sightings are what was seen of the probes to several peers.
type sightings struct {
	from  netip.Addr // our own address
	mark  mark       // of our own probes: others may send zeros too
	want  int        // bytes that a probe has
	peers map[netip.Addr][]sighting
}

func newSightings(d *Device, vteps []netip.Addr) *sightings {
	s := &sightings{from: d.Local.Addr(), mark: d.mark, peers: make(map[netip.Addr][]sighting, len(vteps))}
	for _, v := range vteps {
		s.peers[v] = nil
	}
	return s
}

// of returns the sighting of the peer's probe on the device, nil for one that is
// none of the peers.
func (s *sightings) of(peer netip.Addr, device int) *sighting {
	list, ok := s.peers[peer]
	if !ok {
		return nil
	}
	for i := range list {
		if list[i].device == device {
			return &list[i]
		}
	}
	list = append(list, sighting{device: device})
	s.peers[peer] = list
	return &list[len(list)-1]
}

// see takes note of one IPv4 packet that left by the device and has a zero VXLAN
// header. Of a long one the head is enough.
func (s *sightings) see(packet []byte, device int) {
	if len(packet) < 20 || packet[0]>>4 != 4 {
		return
	}
	ihl := int(packet[0]&15) * 4
	if ihl < 20 || len(packet) < ihl+8+controlLen {
		return
	}
	ours := packet[ihl+8+vxlan.HeaderLen+6:]
	if mark(ours) != s.mark {
		return
	}
	seen := s.of(netip.AddrFrom4([4]byte(packet[16:20])), device)
	if seen == nil {
		return
	}
	payload := int(binary.BigEndian.Uint16(packet[ihl+4:])) - 8
	if payload == controlLen {
		seen.control = true
		return
	}
	written := binary.BigEndian.Uint16(ours[len(mark{}):])
	addr, port := netip.AddrFrom4([4]byte(packet[12:16])), binary.BigEndian.Uint16(packet[ihl:])
	switch fragment := binary.BigEndian.Uint16(packet[6:]) & 0x3fff; {
	case fragment != 0:
		seen.changed = "the host fragments what it forwards: the MTU on the way to the peer is too small"
	case addr != s.from || port != written:
		// Without the ports, which are others with each probe: what is said again
		// is the same, and no news.
		seen.changed = fmt.Sprintf("the host changes the source of what it forwards, %s, to %s and a port of its own: exempt it from masquerading", s.from, addr)
	default:
		seen.bytes += payload
	}
}

// judge returns what the sightings say about the way to the peer. A probe has
// want bytes of VXLAN payload as one packet; cut into segments it has more, for
// each has headers of its own.
func (s *sightings) judge(peer netip.Addr) answer {
	a := answer{unknown, ""}
	for _, seen := range s.peers[peer] {
		switch {
		case seen.changed != "":
			return answer{blocked, seen.changed}
		case seen.bytes >= s.want:
			a = answer{passes, ""}
		case seen.control && a.verdict != passes:
			a = answer{blocked, "the host drops what it should forward: look at the FORWARD chain, reverse path filtering and policy routes"}
		}
	}
	return a
}

// settled reports whether nothing more can change the answer about the peer.
func (s *sightings) settled(peer netip.Addr) bool {
	for _, seen := range s.peers[peer] {
		if seen.changed != "" || seen.bytes >= s.want {
			return true
		}
	}
	return false
}
