// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"vxtap/lease"
	"vxtap/tunnel/host"
)

// gainEvery is how long to wait after taking up a first IPv6 address has failed.
const gainEvery = time.Minute

// gain6 is what mover knows of an IPv6 address that a host without one gets.
type gain6 struct {
	since time.Time // that it is there; zero: there is none
	addr  netip.Addr
	tried time.Time
}

// refused6 is an IPv6 address that no segment could be opened with.
type refused6 struct {
	addr netip.Addr
	why  string
}

// lookForIPv6 has a host that has no IPv6 side for want of an address take the
// first one, once it has been there for a while. A link-local one is there before
// each other, and is not worth an interruption. It returns after what time to
// look again.
func (m *mover) lookForIPv6(at home, up host.Uplink, now time.Time) time.Duration {
	if !m.canGain(at, up) {
		m.gained = gain6{}
		return lookEvery
	}
	if m.gained.since.IsZero() || m.gained.addr != up.Addr6 {
		m.gained = gain6{since: now, addr: up.Addr6}
	}
	if left := settleFor - now.Sub(m.gained.since); left > 0 {
		return left
	}
	if m.gained.tried.IsZero() || now.Sub(m.gained.tried) >= gainEvery {
		m.gained.tried = now
		m.gains.Store(&up.Addr6)
		poke(m.moved)
	}
	return lookEvery
}

// canGain reports whether up has what the segment lacks. It has to be on the
// interface that the tunnel has.
func (m *mover) canGain(at home, up host.Uplink) bool {
	if r := m.d.refused6.Load(); r != nil && r.addr == up.Addr6 {
		return false
	}
	return m.config.EnableIPv6 && up.Name == at.uplink.Name && up.Addr6.IsValid() && !up.Addr6.IsLinkLocalUnicast() &&
		!m.config.IPv6Network.Contains(up.Addr6) && outerMTU(m.current().Backend, up.MTU) >= minMTU6
}

// gainIPv6 gets the lease its IPv6 half, and returns a movedError then: the segment
// is opened anew for it, with the same IPv4 half. All that takes time or may be
// refused comes before that, and while IPv4 goes on.
func (s *segment) gainIPv6(ctx context.Context, addr netip.Addr) error {
	host.AwaitAddress(ctx, addr)
	before, up := *s.own.Load(), s.d.at().uplink
	up.Addr6 = addr
	q := s.request(lease.SubnetEnv{Subnet: before.Subnet, IPv6Subnet: s.d.before.IPv6Subnet}, before)
	q.PublicIPv6, q.IPv6MAC, q.Holding = s.d.homeAt(up).vtep6, macOr(before.Attrs.IPv6MAC, s.d.mac6), true
	own, err := s.d.registry.Acquire(ctx, *s.current(), q)
	if ctx.Err() != nil {
		return nil //nolint:nilerr // whatever failed, failed because of that
	}
	if errors.Is(err, lease.ErrLost) {
		return err // which is hold's affair
	}
	if err != nil {
		s.log.Error("the host has an IPv6 address now, and gets no IPv6 subnet: trying on", "address", addr, "error", err, "every", gainEvery)
		return nil
	}
	s.log.Warn("the host has an IPv6 address now, starting afresh with both families", "address", addr, "subnet", subnetName(own))
	moved := &movedError{place{config: *s.current(), gains: true}}
	if created(before, own) {
		moved.made = own
	}
	s.d.home.Store(s.d.homeAt(up))
	return moved
}

// withoutGain goes on with IPv4 alone, where a segment could not be opened for err
// with the IPv6 address that the host has: that somebody announces one, or that
// there is no IPv6 half for its lease, must not end a host.
func (d *daemon) withoutGain(at place, err error) error {
	up := d.at().uplink
	d.refused6.Store(&refused6{up.Addr6, err.Error()})
	d.log.Error("the host's IPv6 address cannot be used, going on with IPv4", "address", up.Addr6, "error", err)
	up.Addr6 = netip.Addr{}
	d.home.Store(d.homeAt(up))
	return &movedError{place{config: at.config}}
}

// said6 is why the interface counts as one without an IPv6 address; "" if it
// simply has none.
func (d *daemon) said6() string {
	if r := d.refused6.Load(); r != nil {
		return fmt.Sprintf("the IPv6 address %s of the interface cannot be used: %s", r.addr, r.why)
	}
	return ""
}
