// SPDX-License-Identifier: Apache-2.0

package tunnel

import "vxtap/encap/ether"

// stations are the peers by the MAC of their VTEP, for a host whose kernel knows
// each peer by a route and a neighbour of its own: see Config.PeerMACs. nil has
// nobody.
type stations map[ether.MAC]*peer

// newStations returns the stations of peers. A MAC that peers at different VTEPs
// claim is nobody's: there is no telling whose it is. It is known all the same,
// so that one host that copies another's MAC cannot cut that one off.
func newStations(peers []*peer) stations {
	s := make(stations, len(peers))
	for _, p := range peers {
		if other, ok := s[p.MAC]; ok && (other == nil || other.VTEP != p.VTEP) {
			s[p.MAC] = nil
			continue
		}
		s[p.MAC] = p
	}
	return s
}

// has reports whether m is the MAC of any peer.
func (s stations) has(m ether.MAC) bool {
	_, ok := s[m]
	return ok
}
