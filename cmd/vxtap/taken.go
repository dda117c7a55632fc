// SPDX-License-Identifier: Apache-2.0

package main

import (
	"slices"
	"strings"

	"vxtap/lease"
)

// give takes the peers out of now while our subnet is somebody else's: then
// nothing is forwarded for it. What our containers send could not be answered,
// since every answer goes to the host that has the subnet, and a kernel's VXLAN
// would take it for that host's. hold is about to move to another subnet; until
// then, and that may be ten seconds where the lease is taken again and again,
// there is silence.
func (s *segment) give(now *lease.Selection, all lease.Snapshot, own lease.Lease) {
	by, taken := all.TakenBy(own)
	if !taken {
		return
	}
	now.Peers, now.IPv6Peers = nil, nil
	if s.takenBy != by.Attrs.PublicIP {
		s.takenBy = by.Attrs.PublicIP
		s.log.Warn("the subnet is another host's now, nothing is forwarded until there is another one",
			"subnet", by.Subnet, "vtep", by.Attrs.PublicIP, "key", by.Key)
	}
}

// ownIn returns our lease with the address that it has in all, if that is one of
// this host's: while the host moves to another, the one that hold wrote and the one
// that was heard of are not always the same, and neither is another host's.
func (s *segment) ownIn(all lease.Snapshot) lease.Lease {
	own := *s.own.Load()
	i, found := slices.BinarySearchFunc(all.Leases, own.Key, func(l lease.Lease, key string) int { return strings.Compare(l.Key, key) })
	if !found {
		return own
	}
	l := &all.Leases[i]
	if ip := l.Attrs.PublicIP; l.Created == own.Created && l.Attrs.MAC == own.Attrs.MAC && (ip == s.d.at().vtep || slices.Contains(s.had, ip)) {
		own.Attrs.PublicIP = ip
	}
	return own
}
