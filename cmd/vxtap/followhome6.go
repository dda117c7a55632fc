// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"net/netip"
	"slices"
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
	there := m.ipv6 == nil || addr == at.uplink.Addr6 || m.has6(at.uplink.Addr6)
	if there {
		addr = m.better6(at)
	}
	if there && !addr.IsValid() {
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
	m.stuck6(at, there, err)
	return homeAgain
}

// stuck6 says why the tunnel is not at the address where it should be.
func (m *mover) stuck6(at home, there bool, err error) {
	why := fmt.Sprintf("the tunnel's IPv6 address %s is gone, and no other can be taken, so that no peer is reached by IPv6; it is followed as soon as there is one: %v", at.uplink.Addr6, err)
	if there {
		why = fmt.Sprintf("%s; the other one that is there cannot be taken: %v", m.linkLocal(), err)
	}
	if why != m.six.said {
		m.log.Error("the tunnel's IPv6 address is gone or link-local, and no other can be taken yet: trying on", "address", at.uplink.Addr6, "error", err)
	}
	m.six.said = why
	m.away6.Store(&why)
}

// better6 returns the address to leave a link-local one for; the zero Addr: there
// is none. It has to be of the same interface, as all that come with a VPN are not.
func (m *mover) better6(at home) netip.Addr {
	if m.linkLocal() == "" {
		return netip.Addr{}
	}
	up, err := m.find(host.Choice{Names: []string{at.uplink.Name}, PublicIPv6: m.d.publicIPv6})
	if err != nil || up.Addr6.IsLinkLocalUnicast() {
		return netip.Addr{}
	}
	return up.Addr6
}

// linkLocal says that the tunnel has an IPv6 address that says nothing to hosts
// with others; "" if it has not, or was told to take it. Two hosts on two links
// may have the same one (RFC 4007, section 6), so that Select leaves them out.
func (s *segment) linkLocal() string {
	up := s.d.at().uplink
	if s.ipv6 == nil || !up.Addr6.IsLinkLocalUnicast() || up.Addr6 == s.d.publicIPv6 || slices.Contains(s.d.settings.uplink.Names, up.Addr6.String()) {
		return ""
	}
	return fmt.Sprintf("the tunnel's IPv6 address %s is link-local: hosts with other addresses leave the IPv6 half of this one out; "+
		"give the interface %s another, which is followed as soon as it is there, or name this one with -public-ipv6", up.Addr6, up.Name)
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
	case addr.IsLinkLocalUnicast() && !at.uplink.Addr6.IsLinkLocalUnicast():
		return fmt.Errorf("%s of the interface %s is link-local, and says nothing to hosts with other addresses", addr, at.uplink.Name)
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
