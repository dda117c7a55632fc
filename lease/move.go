// SPDX-License-Identifier: Apache-2.0

package lease

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
)

// Leases of two halves. Their key is no lock on either half: two keys may name
// one IPv6 subnet with different IPv4 ones, or one IPv4 subnet with and without
// an IPv6 one, and both can be created. So whoever has created a key looks once
// more, and the one that was created later gives way, as Select has it too.

// whole reports whether e can stay under its key: it has an IPv6 half that fits
// if this host is to have one, and none if the network has none.
func (a *acquisition) whole(e *entry) bool {
	k := SubnetKey{e.Subnet, e.IPv6Subnet}
	return a.c.fits(k) && (k.IPv6.IsValid() || !a.q.dual(a.c)) && e.Key != a.contested
}

// move takes over the lease e of this host, whose IPv6 half is missing, too much
// or wrong, and keeps its IPv4 subnet: containers live there. In one step, so
// that nobody snatches it. A reservation stays one.
//
// A key goes before others by its age, and another key is younger. So a reservation
// that others overlap is not moved: they would go before it then, and the subnet
// that an operator wants this host to have would be lost for its IPv6 half. What
// it has too much stays, and what it has too little the host does without. A lease
// is moved all the same, and gives way.
func (a *acquisition) move(ctx context.Context, e *entry, entries []*entry) (Lease, error) {
	x := Exchange{From: e.Key, Revision: e.Revision}
	if e.Reserved() {
		other := a.overlaps(e, entries)
		switch {
		case other != nil && !a.q.dual(a.c):
			return a.reuse(ctx, e, entries)
		case other != nil:
			return Lease{}, fmt.Errorf("%w: the reservation of %v would get another key for it, and be younger than the key %s, %s: release that first",
				ErrNoIPv6, e.Subnet, printable(a.r.path(other.Key)), other.owner())
		}
		x.Beside, x.Since = subnetsList, a.asOf
	}
	k := SubnetKey{IPv4: e.Subnet}
	if a.q.dual(a.c) {
		var err error
		if k.IPv6, err = a.chooseIn(&a.crowdedIPv6, a.wishesIPv6, without(entries, e)); err != nil {
			return Lease{}, err
		}
	}
	l := Lease{Key: subnetsDir + k.String(), Subnet: k.IPv4, IPv6Subnet: k.IPv6, Attrs: a.attrs(k.IPv6, e.Attrs), Grant: e.Grant}
	if !e.Reserved() {
		if err := a.refresh(ctx, &l); err != nil {
			return Lease{}, err
		}
	}
	value, err := json.Marshal(l.Attrs)
	if err != nil {
		return Lease{}, err
	}
	err = a.write(ctx, &l, func() (int64, error) {
		x.To, x.Value, x.Grant = l.Key, value, l.Grant
		return a.r.store.Move(ctx, x)
	})
	if err != nil {
		return Lease{}, err
	}
	l.Created = l.Revision
	if err := a.confirm(ctx, l); err != nil {
		return Lease{}, err
	}
	a.r.log.Info("lease moved, the subnet is the same", "subnet", l.Subnet, "key", a.r.path(l.Key), "before", a.r.path(e.Key), "reserved", l.Reserved())
	return l, nil
}

// overlaps returns the first entry beside e that takes part of its IPv4 subnet from
// it, or would if it were older; nil if none does.
func (a *acquisition) overlaps(e *entry, entries []*entry) *entry {
	for _, x := range entries {
		if x != e && a.c.ipv4().blocks(x.held) && x.held.Overlaps(e.Subnet) {
			return x
		}
	}
	return nil
}

// without returns entries but for e.
func without(entries []*entry, e *entry) []*entry {
	others := make([]*entry, 0, len(entries))
	for _, x := range entries {
		if x != e {
			others = append(others, x)
		}
	}
	return others
}

// confirm looks whether somebody had a half of l, which has just been created,
// before us. An error that matches ErrConflict says so.
func (a *acquisition) confirm(ctx context.Context, l Lease) error {
	before, err := a.before(ctx, l)
	if err != nil {
		return err
	}
	return a.settle(ctx, l, before)
}

// before returns a key that was created before l and has some of its IPv4 half, and
// one that has some of its IPv6 half, as far as there are any.
func (a *acquisition) before(ctx context.Context, l Lease) (found []*entry, err error) {
	v4, v6 := a.c.ipv4(), a.c.ipv6()
	err = a.r.patientRead(ctx, func(from Keys) error {
		var ipv4, ipv6 *entry
		_, err := listWhole(func() (int64, error) {
			ipv4, ipv6 = nil, nil
			return from.List(ctx, subnetsList, func(p Pair) {
				e := readEntry(p)
				if e.Created >= l.Created || e.Key == l.Key {
					return
				}
				if v4.blocks(e.held) && e.held.Overlaps(l.Subnet) {
					ipv4 = e
				}
				if v6.blocks(e.heldIPv6) && e.heldIPv6.Overlaps(l.IPv6Subnet) {
					ipv6 = e
				}
			})
		})
		found = slices.DeleteFunc([]*entry{ipv4, ipv6}, func(e *entry) bool { return e == nil })
		return err
	})
	return found, err
}

// settleAgain is confirm for a key that is ours already: one that this Acquire has
// written and got no answer to, or one whose writer has ended before it looked. Of
// the latter nobody knows for how long it has been in use, so that it gives way only
// to what is a lease everywhere, and a reservation, which an operator has made, to
// none.
func (a *acquisition) settleAgain(ctx context.Context, e *entry, entries []*entry) error {
	switch {
	case e.Reserved():
		return nil
	case e.Grant == a.grant:
		return a.confirm(ctx, e.Lease)
	}
	var leases []*entry
	for _, x := range entries {
		if x.fault == "" && x.Attrs.PublicIP != e.Attrs.PublicIP && x.Attrs.PublicIP != a.q.PublicIP {
			leases = append(leases, x)
		}
	}
	return a.settle(ctx, e.Lease, leases)
}

// settle is confirm with what stands in the store. Where the IPv4 half is not
// ours we give the lease up; where only the IPv6 half is not, the next attempt
// moves it to another.
func (a *acquisition) settle(ctx context.Context, l Lease, entries []*entry) error {
	var before []*entry
	for _, e := range entries {
		if e.Created < l.Created && e.Key != l.Key {
			before = append(before, e)
		}
	}
	if l.IPv6Subnet.IsValid() && a.c.ipv6().taken(before, nil).overlap(l.IPv6Subnet) {
		a.contested = l.Key
	}
	if a.c.ipv4().taken(before, nil).overlap(l.Subnet) {
		err := a.r.patient(ctx, func() error { return a.r.store.Delete(ctx, l.Key, l.Revision) })
		if err == nil {
			a.used = false
		}
		return errors.Join(fmt.Errorf("%w: %v was leased before it", ErrConflict, l.Subnet), err)
	}
	if a.contested == l.Key {
		return fmt.Errorf("%w: %v was leased before it", ErrConflict, l.IPv6Subnet)
	}
	return nil
}
