// SPDX-License-Identifier: Apache-2.0

package lease

import (
	"context"
	"fmt"
	"slices"
)

// stands reports whether e is l, with no other owner than l says: the key that
// this host made, never deleted since, with its MAC and the address that it had.
// Whoever took the subnet over has written another address or MAC, and a key that
// was deleted and made again has another revision of creation. The value may have
// been put again, and the grant be another: an operator who reserves a subnet
// for its host does both.
func (l Lease) stands(e *entry) bool {
	return l.Key != "" && e.fault == "" && e.Key == l.Key && e.Created == l.Created && l.Created != 0 &&
		e.Attrs.BackendType == backendVXLAN && e.Attrs.MAC == l.Attrs.MAC && e.Attrs.PublicIP == l.Attrs.PublicIP
}

// holds reports whether e is the lease that this host lives on at this moment, of
// which it has to be told if it is not. While a host runs, what stands under its
// key and is nobody's claim is no loss (see Keep), and neither is what an Acquire
// wrote of which nobody heard the answer, under another key too.
func (q Request) holds(e *entry) bool {
	if !q.Holding || e.Subnet != q.Before.Subnet || !e.Subnet.IsValid() {
		return false
	}
	if !e.isJunk() {
		return e.Attrs.MAC == q.MAC && e.Attrs.PublicIP == q.PublicIP || q.Before.stands(e)
	}
	named := e.Attrs.PublicIP
	return e.Key == q.Before.Key && e.Created == q.Before.Created &&
		(!isHost(named) || named == q.PublicIP || named == q.Before.Attrs.PublicIP)
}

// isJunk reports whether the value is no whole one of a VXLAN host.
func (e *entry) isJunk() bool { return e.fault != "" || e.Attrs.BackendType != backendVXLAN }

// lost returns an error that matches ErrLost, and says why as far as the store
// tells, if the host lives on a lease that is not its own any more.
func (a *acquisition) lost(entries []*entry) error {
	if !a.q.Holding || slices.ContainsFunc(entries, a.q.holds) {
		return nil
	}
	key := a.r.path(a.q.Before.Key)
	for _, e := range entries {
		switch {
		case e.Key != a.q.Before.Key:
		case e.Attrs.PublicIP != a.q.Before.Attrs.PublicIP && isHost(e.Attrs.PublicIP):
			return fmt.Errorf("%w: somebody wrote PublicIP %v to the key %s", ErrLost, e.Attrs.PublicIP, key)
		default:
			return fmt.Errorf("%w: the key %s was made anew, or by another daemon with MAC %v", ErrLost, key, e.Attrs.MAC)
		}
	}
	return fmt.Errorf("%w: the key %s was deleted, or its time ran out", ErrLost, key)
}

// Former returns the lease that this host had under another address, as it knows
// it itself, if it still stands: it goes before the one that somebody had under
// the present address (own, if held). It is what Acquire takes up with before as
// its Request.Before, unless own is a reservation. It waits for the store as
// Config does.
func (r *Registry) Former(ctx context.Context, before, own Lease, held bool) (Lease, bool, error) {
	if held && own.Reserved() {
		return own, held, nil
	}
	b, err := r.book(ctx, book{keep: before.stands})
	if err != nil {
		return Lease{}, false, fmt.Errorf("look for the former lease: %w", err)
	}
	for _, e := range b.entries {
		if before.stands(e) {
			return e.Lease, true, nil
		}
	}
	return own, held, nil
}

// own returns the lease of this host to take up again, whose IPv4 half fits the
// network, and those whose does not. Of several that fit it is the one that the
// host lives on at this moment, else the reservation, which an operator has made
// since the host took the other one and which is taken when the host starts, else
// the one that the host has had under another address (an address may have been
// another host's, whose lease is still there), else one that can stay under its
// key, and else the first, as in flannel.
func (a *acquisition) own(entries []*entry) (fit *entry, unfit []*entry) {
	for _, e := range entries {
		switch {
		case !a.ours(e):
		case !a.c.fitsIPv4(e.Subnet):
			unfit = append(unfit, e)
		case fit == nil || a.better(e, fit):
			fit = e
		}
	}
	if fit != nil && a.q.holds(fit) && fit.isJunk() {
		fit.Grant = a.q.Before.Grant // by the junk's nobody has reserved anything, nor ends it for us
	}
	return fit, unfit
}

// ours reports whether e is a lease of this host, whole or broken.
func (a *acquisition) ours(e *entry) bool {
	return e.Subnet.IsValid() && (e.Attrs.PublicIP == a.q.PublicIP || a.q.Before.stands(e) || a.q.holds(e))
}

func (a *acquisition) better(e, than *entry) bool {
	if s, t := a.q.holds(e), a.q.holds(than); s != t {
		return s
	}
	if s, t := a.whole(e), a.whole(than); s != t && e.Subnet == than.Subnet {
		return s // a reservation of the IPv4 half of what the host has is there when that ends
	}
	if e.Reserved() != than.Reserved() {
		return e.Reserved()
	}
	if s, t := a.q.Before.stands(e), a.q.Before.stands(than); s != t {
		return s
	}
	return a.whole(e) && !a.whole(than)
}
