// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"net/netip"
	"time"

	"vxtap/tunnel/host"
)

// move6 is what mover knows of a move to another IPv6 address.
type move6 struct {
	since time.Time  // that the address is gone; zero: it is there
	next  netip.Addr // that is there instead
	said  string     // why it is not followed
}

// look6 follows the host to another IPv6 address, addr, by the rules of look and
// by itself: a router may announce another network while the IPv4 address stays.
// It returns after what time to look again.
func (m *mover) look6(at home, addr netip.Addr, now time.Time) time.Duration {
	if m.ipv6 == nil || addr == at.uplink.Addr6 || m.has6(at.uplink.Addr6) {
		if m.six.said != "" {
			m.log.Info("the tunnel has an IPv6 address again", "address", at.uplink.Addr6)
		}
		m.six = move6{}
		m.away6.Store(nil)
		return lookEvery
	}
	err := m.refuses6(at, addr)
	if m.six.since.IsZero() || addr != m.six.next {
		m.six.since, m.six.next = now, addr
	}
	if left := settleFor - now.Sub(m.six.since); left > 0 {
		return left
	}
	if err == nil {
		err = m.follow6(at, addr)
	}
	if err == nil {
		return m.look6(m.d.at(), addr, now)
	}
	why := fmt.Sprintf("the tunnel's IPv6 address %s is gone, and no other can be taken, so that no peer is reached by IPv6; it is followed as soon as there is one: %v", at.uplink.Addr6, err)
	if why != m.six.said {
		m.log.Error("the tunnel's IPv6 address is gone, and no other can be taken yet: trying on", "address", at.uplink.Addr6, "error", err)
	}
	m.six.said = why
	m.away6.Store(&why)
	return homeAgain
}

// has6 reports whether an address is on an interface that is up.
func (m *mover) has6(a netip.Addr) bool {
	mine, err := m.find(host.Choice{Names: []string{a.String()}})
	return err == nil && mine.Addr6 == a && m.isUp(mine.Name)
}

// refuses6 returns why the tunnel cannot be carried by addr.
func (m *mover) refuses6(at home, addr netip.Addr) error {
	switch {
	case !addr.IsValid():
		return fmt.Errorf("the interface %s has none", at.uplink.Name)
	case m.d.publicIPv6.IsValid() && at.uplink.Addr6 == m.d.publicIPv6:
		return fmt.Errorf("-public-ipv6=%s is on no interface any more", m.d.publicIPv6)
	case m.config.IPv6Network.Contains(addr):
		return fmt.Errorf("address %s lies inside the overlay's IPv6Network %s", addr, m.config.IPv6Network)
	}
	return nil
}

// moveTo6 is moveTo for the IPv6 side alone.
func (s *segment) moveTo6(at home, addr netip.Addr) error {
	up := at.uplink
	up.Addr6 = addr
	if err := s.ipv6.underlay.Rebind(up.Local6()); err != nil {
		return err
	}
	for _, w := range s.ipv6.waiters {
		w.Wake() // it may be asleep on a socket that is no more
	}
	next := home{uplink: up, vtep: at.vtep, vtep6: s.d.homeAt(up).vtep6}
	s.d.home.Store(&next)
	s.log.Warn("the tunnel's IPv6 address is another one now, following", "address", addr, "before", at.uplink.Addr6, "vtep", next.vtep6)
	s.d.redial() // etcd may have been reached from the old one
	if next.vtep6 != at.vtep6 {
		poke(s.moved)
	}
	return nil
}
