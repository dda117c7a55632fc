// SPDX-License-Identifier: Apache-2.0

package main

import (
	"net/netip"

	"vxtap/lease"
	"vxtap/tunnel"
)

// publisher is what only publish uses, and it again each time; guarded by
// live.publishing.
type publisher struct {
	selector lease.Selector
	peers    []tunnel.Peer
	takenBy  netip.Addr // who was last told to have our subnet
}

// republish hands the state of all leases to the switch once more: this host's own
// is another one, or has another address. What was told last is looked up and handed
// over in one step: a state that came in between would be lost for the older one.
func (s *segment) republish() {
	s.publishing.Lock()
	defer s.publishing.Unlock()
	if s.leases != nil { // not outside the lock: hear gives back what is not s.leases any more
		s.publishLocked(*s.leases)
	}
}

// publish hands a new state of all leases to the switch. From the first one on
// frames have somewhere to go: the daemon is ready then, and not before. Where the
// kernel knows peers one by one it has to be told first.
func (s *segment) publish(all lease.Snapshot) {
	s.publishing.Lock()
	defer s.publishing.Unlock()
	s.leases = &all
	s.publishLocked(all)
}

// publishLocked is publish; the lock is held.
func (s *segment) publishLocked(all lease.Snapshot) {
	own := s.ownIn(all)
	now := s.selector.Select(all, s.config, own)
	s.give(&now, all, own)
	for _, one := range s.sides {
		s.peers = one.peersIn(now, s.peers[:0])
		one.sw.SetPeers(s.peers)
	}
	s.view.Store(&now)
	poke(s.news)
	s.tellRoutes()
	if !s.perPeer() {
		s.first.Do(s.forwards)
	}
}

// routesAreSet is called once for each side, when the kernel knows its peers.
func (s *segment) routesAreSet() {
	if s.unset.Add(-1) == 0 && s.perPeer() {
		s.first.Do(s.forwards)
	}
}

// forwards says that frames have somewhere to go.
func (s *segment) forwards() {
	s.d.ready()
	s.tellOfTakeover()
	s.log.Info("forwarding", "subnet", s.own.Load().Subnet, "vni", s.config.Backend.VNI, "vtep", s.d.at().vtep, "mac", s.ipv4.mac,
		"mtu", s.ipv4.mtu.Load(), "peers", len(s.view.Load().Peers), "queues", s.queues(), "offloads", s.ipv4.offloadList())
	if six := s.ipv6; six != nil {
		six.log.Info("forwarding", "subnet", six.subnet(), "vtep", six.vtep(), "mac", six.mac, "mtu", six.mtu.Load(),
			"peers", len(s.view.Load().IPv6Peers), "offloads", six.offloadList())
	}
}
