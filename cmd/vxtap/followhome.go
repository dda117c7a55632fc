// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"vxtap/tunnel/host"
)

const (
	// settleFor is how long the tunnel's address must be gone, and another there,
	// before the other is followed: some DHCP clients take an address away and
	// put it back when they renew it. Peers are cut off meanwhile, either way.
	settleFor = time.Second
	// homeAgain is how often is looked whether a host that has no address for
	// the tunnel has one again, in case that nobody tells.
	homeAgain = time.Second
)

// followHome follows the host to another address, until ctx ends.
//
// As long as the address that the tunnel uses is on an interface that is up, it
// stays, whatever else comes: a default route that some VPN brings is no reason
// to move.
func (s *segment) followHome(ctx context.Context) {
	m := &mover{segment: s, find: host.FindUplink, isUp: isUp, follow: s.moveTo, restore: s.moveBack, follow6: s.moveTo6}
	timer := time.NewTimer(lookEvery)
	defer timer.Stop()
	for {
		next := m.look(time.Now())
		timer.Reset(next)
		if pause(ctx, min(lookAtMost, next)) != nil {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-s.homeNews:
		case <-timer.C:
		}
	}
}

// maxHad is how many addresses a lease may have had that was not heard of yet.
const maxHad = 8

// mover finds out where the host is.
type mover struct {
	*segment
	find    func(host.Choice) (host.Uplink, error)
	isUp    func(name string) bool
	follow  func(at home, up host.Uplink) error
	restore func(at home) error // puts all of the tunnel at an address that a part of it left

	follow6 func(at home, addr netip.Addr) error
	six     move6
	gained  gain6

	since time.Time   // that it is not where it was; zero: it is
	next  host.Uplink // where it seems to be; zero: nowhere
	said  string      // why it is not followed
}

// isUp reports whether the interface takes frames.
func isUp(name string) bool {
	i, err := net.InterfaceByName(name)
	const takes = net.FlagUp | net.FlagRunning
	return err == nil && i.Flags&takes == takes
}

// look returns after what time to look again.
func (m *mover) look(now time.Time) time.Duration {
	up, err := m.find(m.d.settings.uplink)
	next := m.look6(m.d.at(), up.Addr6, now)
	if m.ipv6 == nil && err == nil {
		next = min(next, m.lookForIPv6(m.d.at(), up, now))
	}
	return min(next, m.look4(up, err, now))
}

// look4 is look for what goes by IPv4, with what find says.
func (m *mover) look4(up host.Uplink, err error, now time.Time) time.Duration {
	at := m.d.at()
	up.Addr6 = at.uplink.Addr6 // of that look6 has taken care
	if err == nil && up == at.uplink {
		m.stay(at, up)
		return lookEvery
	}
	mine, mineErr := m.find(host.Choice{Names: []string{at.uplink.Addr.String()}})
	mine.Addr6 = at.uplink.Addr6
	if mineErr == nil && (err != nil || up.Addr == at.uplink.Addr || m.isUp(mine.Name)) {
		m.stay(at, mine)
		return lookEvery
	}
	if err == nil {
		err = m.refuses(at, up)
	}
	if err != nil {
		up = host.Uplink{}
	}
	if m.since.IsZero() || up != m.next {
		m.since, m.next = now, up
	}
	if left := settleFor - now.Sub(m.since); left > 0 {
		return left
	}
	if err == nil {
		err = m.follow(at, up)
	}
	if err == nil {
		m.stayed()
		return lookEvery
	}
	m.nowhere(at, err)
	return homeAgain
}

// refuses returns why the tunnel cannot be carried by up.
func (m *mover) refuses(at home, up host.Uplink) error {
	switch {
	case m.d.publicIP.IsValid() && at.uplink.Addr == m.d.publicIP:
		return fmt.Errorf("-public-ip=%s is on no interface any more", m.d.publicIP)
	case m.config.Network.Contains(up.Addr):
		return fmt.Errorf("address %s of %s lies inside the overlay's Network %s", up.Addr, up.Name, m.config.Network)
	}
	return nil
}

// stay notes that the tunnel's address is where it was, or came back, maybe on
// another interface, or on one with another MTU.
func (m *mover) stay(at home, up host.Uplink) {
	if up != at.uplink {
		if up.Name != at.uplink.Name {
			m.log.Info("the tunnel's address is on another interface now", "address", up.Addr, "interface", up.Name, "before", at.uplink.Name)
		}
		m.d.home.Store(&home{uplink: up, vtep: at.vtep, vtep6: at.vtep6})
	}
	if err := m.restore(at); err != nil {
		m.log.Error("super-frames leave by another address than the tunnel's, trying on", "address", up.Addr, "error", err)
	}
	m.resize()
	m.stayed()
}

func (m *mover) stayed() {
	if m.said != "" {
		at := m.d.at()
		m.log.Info("the tunnel has an address again", "address", at.uplink.Addr, "interface", at.uplink.Name)
	}
	m.since, m.next, m.said = time.Time{}, host.Uplink{}, ""
	m.away.Store(nil)
}

// nowhere says why there is no address. Frames are tried on: it may come back.
func (m *mover) nowhere(at home, err error) {
	why := fmt.Sprintf("the tunnel's address %s is gone, and no other can be taken, so that no peer is reached; it is followed as soon as there is one: %v", at.uplink.Addr, err)
	if why != m.said {
		m.log.Error("the tunnel's address is gone, and no other can be taken yet: trying on", "address", at.uplink.Addr, "interface", at.uplink.Name, "error", err)
	}
	m.said = why
	m.away.Store(&why)
}

// moveBack undoes what moveTo had done before it failed. The address that the rest
// of the tunnel is at has to be there for it.
func (s *segment) moveBack(at home) error {
	whole := s.ipv4.whole
	if whole == nil || whole.Endpoint().Local.Addr() == at.uplink.Addr {
		return nil
	}
	return whole.Move(at.uplink.Addr)
}

// moveTo moves the tunnel from at to up: sockets first, so that what peers send to the
// new address finds somebody; then the lease, by which they learn of it. Device,
// subnet and MAC stay, and with them the containers.
func (s *segment) moveTo(at home, up host.Uplink) error {
	if whole := s.ipv4.whole; whole != nil {
		if err := whole.Move(up.Addr); err != nil {
			return err
		}
	}
	if err := s.ipv4.underlay.Rebind(up.Addr); err != nil {
		return err
	}
	for _, w := range s.ipv4.waiters {
		w.Wake() // it may be asleep on a socket that is no more
	}
	next := s.d.homeAt(up)
	s.publishing.Lock()
	s.had = append(slices.DeleteFunc(s.had, func(a netip.Addr) bool { return a == next.vtep }), at.vtep)
	s.had = s.had[max(0, len(s.had)-maxHad):]
	s.publishing.Unlock()
	s.d.home.Store(next)
	s.log.Warn("the tunnel's address is another one now, following", "address", up.Addr, "interface", up.Name,
		"before", at.uplink.Addr, "vtep", next.vtep)
	s.republish() // super-frames get their outer headers here
	s.resize()
	s.d.redial() // after it: a login that is under way holds it up for seconds
	if next.vtep != at.vtep {
		poke(s.moved)
	}
	return nil
}
