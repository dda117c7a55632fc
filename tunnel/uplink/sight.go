// SPDX-License-Identifier: Apache-2.0

package uplink

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	"vxtap/encap/vxlan"
)

// sighting is what was seen of a peer's probe from one port, or of its control, on
// the way out by one interface, in sum. A packet may leave by several, by a bond
// and then by one of its ports: what any of them has seen whole has passed.
type sighting struct {
	device  int    // index of the interface
	port    uint16 // 0: the control
	bytes   int    // of VXLAN payload in segments of the probe
	changed string
}

// view is what was seen of one peer, and what there is to be seen.
type view struct {
	want map[uint16]int // bytes, for each port
	seen []sighting
}

// sightings are what was seen of the probes to several peers.
type sightings struct {
	from  netip.Addr // our own address
	mark  mark       // of our own probes: others may send zeros too
	peers map[netip.Addr]*view
}

func newSightings(d *Device, questions []question) *sightings {
	s := &sightings{from: d.local(), mark: d.mark, peers: make(map[netip.Addr]*view, len(questions))}
	for _, q := range questions {
		s.peers[q.vtep] = &view{want: make(map[uint16]int)}
	}
	return s
}

// of returns the sighting of the probe from the port, 0 for the control.
func (v *view) of(device int, port uint16) *sighting {
	for i := range v.seen {
		if v.seen[i].device == device && v.seen[i].port == port {
			return &v.seen[i]
		}
	}
	v.seen = append(v.seen, sighting{device: device, port: port})
	return &v.seen[len(v.seen)-1]
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
	written := binary.BigEndian.Uint16(ours[len(mark{}):])
	v, ok := s.peers[netip.AddrFrom4([4]byte(packet[16:20]))]
	if !ok || written != 0 && v.want[written] == 0 {
		return
	}
	seen := v.of(device, written)
	addr, port := netip.AddrFrom4([4]byte(packet[12:16])), binary.BigEndian.Uint16(packet[ihl:])
	switch fragment := binary.BigEndian.Uint16(packet[6:]) & 0x3fff; {
	case written == 0: // whatever became of the control
	case fragment != 0:
		seen.changed = "the host fragments what it forwards: the MTU on the way to the peer is too small"
	case addr != s.from || port != written:
		// Without the ports, which are others with each probe: what is said again
		// is the same, and no news.
		seen.changed = fmt.Sprintf("the host changes the source of what it forwards, %s, to %s and a port of its own: exempt it from masquerading", s.from, addr)
	default:
		seen.bytes += int(binary.BigEndian.Uint16(packet[ihl+4:])) - 8
	}
}

// missing returns how many of the probes nobody has seen whole. A probe has as
// many bytes as are wanted as one packet; cut into segments it has more, for each
// has headers of its own.
func (v *view) missing() int {
	n := len(v.want)
	for port, want := range v.want {
		if slices.ContainsFunc(v.seen, func(s sighting) bool { return s.port == port && s.bytes >= want }) {
			n--
		}
	}
	return n
}

// judge returns what the sightings say about the way to the peer.
func (s *sightings) judge(peer netip.Addr) answer {
	const where = ": look at the FORWARD chain, reverse path filtering and policy routes"
	v := s.peers[peer]
	control := false
	for _, seen := range v.seen {
		if seen.changed != "" {
			return answer{blocked, seen.changed}
		}
		control = control || seen.port == 0
	}
	switch n := v.missing(); {
	case n == 0:
		return answer{passes, ""}
	case !control:
		// It goes first, and where a neighbour is waited for the kernel drops the
		// first first: so the others may have been.
		return answer{unknown, ""}
	case n < len(v.want):
		return answer{blocked, "the host drops some of what it should forward, by size or by source port" + where}
	}
	return answer{blocked, "the host drops what it should forward" + where}
}

// settled reports whether nothing more can change the answer about the peer.
func (s *sightings) settled(peer netip.Addr) bool {
	v := s.peers[peer]
	changed := slices.ContainsFunc(v.seen, func(s sighting) bool { return s.changed != "" })
	return changed || len(v.want) > 0 && v.missing() == 0
}
