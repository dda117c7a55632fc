// SPDX-License-Identifier: Apache-2.0

package lease

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"vxtap/encap/ether"
)

// Request is what a host asks a lease with.
type Request struct {
	PublicIP netip.Addr   // its VTEP, IPv4
	MAC      ether.MAC    // its VTEP MAC
	Previous netip.Prefix // the subnet that it had, from subnet.env; the zero Prefix if none

	// The same for the IPv6 half, in a network that has one. Without a PublicIPv6
	// the host leases an IPv4 subnet alone there.
	PublicIPv6   netip.Addr
	IPv6MAC      ether.MAC
	PreviousIPv6 netip.Prefix

	// Before is the lease that the host had under an address of before, as it
	// knows it itself; the zero Lease if none. What of it still stands in the
	// store is moved to PublicIP, with its subnet.
	Before Lease
	// Holding says that the host lives on Before at this moment. It gets that, or
	// ErrLost if it is not the host's any more, and no other lease.
	Holding bool
}

func (q Request) check(c Config) error {
	if ip, err := parseVTEP(q.PublicIP.String()); err != nil {
		return fmt.Errorf("public IP %w", err)
	} else if c.Network.Contains(ip) {
		return fmt.Errorf("public IP %v is inside the overlay network %v: choose the underlay's interface", ip, c.Network)
	}
	if q.MAC.IsZero() || q.MAC.IsMulticast() {
		return fmt.Errorf("MAC %v is none that a VTEP can have", q.MAC)
	}
	if !q.dual(c) {
		return nil
	}
	if ip, err := parseVTEPv6(q.PublicIPv6.String()); err != nil {
		return fmt.Errorf("public IPv6 address %w", err)
	} else if c.IPv6Network.Contains(ip) {
		return fmt.Errorf("public IPv6 address %v is inside the overlay network %v: choose the underlay's interface", ip, c.IPv6Network)
	}
	if q.IPv6MAC.IsZero() || q.IPv6MAC.IsMulticast() {
		return fmt.Errorf("MAC %v is none that a VTEP can have", q.IPv6MAC)
	}
	return nil
}

// dual reports whether the host is to have an IPv6 half too.
func (q Request) dual(c Config) bool { return c.EnableIPv6 && q.PublicIPv6.IsValid() }

const (
	// maxRaces bounds how often a subnet may be snatched away before Acquire
	// gives up. With a hundred hosts that choose among a hundred subnets at
	// once, a second race is likely and a tenth is not.
	maxRaces = 100
	// choices is how many free subnets a host chooses among, as flannel does:
	// enough for few collisions, few enough to keep the network dense.
	choices = 100
)

// Acquire gets this host a lease in the network c: the one that it holds, else
// its previous subnet if that is free, else a random one of the first 100 free
// ones (flannel, tryAcquireLease in pkg/subnet/etcd/local_manager.go). Where
// flannel fails or overwrites, Acquire reads again: every write is a
// compare-and-swap, and a lost race is run again. A reservation is taken as it
// is and never given a time to live; a value that says already what it should
// is not written at all.
//
// In a dual-stack network the IPv6 subnet is chosen by the same rules and by
// itself. A lease of ours that has one half too few or too many, since the
// network was changed, is moved to another key and keeps its IPv4 subnet
// (flannel deletes it, and takes another subnet in both).
//
// It waits for the store as Config does, but a store that refuses us is an
// error at once, and so is a full network (ErrFull).
func (r *Registry) Acquire(ctx context.Context, c Config, q Request) (Lease, error) {
	l, err := r.acquire(ctx, c, q)
	if err != nil {
		return Lease{}, fmt.Errorf("acquire lease: %w", err)
	}
	return l, nil
}

func (r *Registry) acquire(ctx context.Context, c Config, q Request) (Lease, error) {
	if err := q.check(c); err != nil {
		return Lease{}, err
	}
	a := &acquisition{r: r, c: c, q: q, wishes: []netip.Prefix{q.Previous}, wishesIPv6: []netip.Prefix{q.PreviousIPv6}}
	defer a.dropGrant(ctx)
	for race := range maxRaces {
		l, err := a.attempt(ctx)
		if !errors.Is(err, ErrConflict) && !errors.Is(err, ErrNoGrant) {
			return l, err
		}
		r.log.Debug("somebody else was faster", "error", err)
		pause := min(time.Duration(race+1)*20*time.Millisecond, time.Second)
		if err := sleep(ctx, jitter(pause, pause)); err != nil {
			return Lease{}, err
		}
	}
	return Lease{}, fmt.Errorf("lost %d races for a subnet: is somebody writing below %s all the time?", maxRaces, r.path(subnetsDir))
}

// acquisition is one call of Acquire on its way.
type acquisition struct {
	r *Registry
	c Config
	q Request
	// Subnets to take if they are free, best first.
	wishes, wishesIPv6   []netip.Prefix
	crowded, crowdedIPv6 crowd  // what keys hold that are too many to be known one by one
	asOf                 int64  // the revision at which attempt has looked
	contested            string // the key of ours whose IPv6 half somebody else had before us

	// One grant serves all attempts; it is given back if no key got attached.
	grant   GrantID
	expires time.Time
	used    bool
}

// attempt tries once. An error that matches ErrConflict or ErrNoGrant says that
// the world has changed since it was read.
func (a *acquisition) attempt(ctx context.Context) (Lease, error) {
	a.crowded, a.crowdedIPv6 = crowd{plan: a.c.ipv4()}, crowd{plan: a.c.ipv6()}
	b, err := a.r.book(ctx, book{always: a.q.Before.Key, keep: a.ours, crowds: []*crowd{&a.crowded, &a.crowdedIPv6}})
	if err != nil {
		return Lease{}, err
	}
	entries := b.entries
	a.asOf = b.revision
	if err := a.lost(entries); err != nil {
		return Lease{}, err
	}
	fit, unfit := a.own(entries)
	switch {
	case fit != nil && a.whole(fit):
		return a.reuse(ctx, fit, entries)
	case fit != nil:
		return a.move(ctx, fit, entries)
	}
	for _, e := range unfit {
		if err := a.discard(ctx, e); err != nil {
			return Lease{}, err
		}
		entries = slices.DeleteFunc(entries, func(x *entry) bool { return x == e })
	}
	k, err := a.choose(entries)
	if err != nil {
		return Lease{}, err
	}
	return a.create(ctx, k)
}

// reuse takes over the lease that this host holds already.
func (a *acquisition) reuse(ctx context.Context, e *entry, entries []*entry) (Lease, error) {
	if err := a.settleAgain(ctx, e, entries); err != nil {
		return Lease{}, err
	}
	l := e.Lease
	l.Attrs = a.attrs(l.IPv6Subnet, e.Attrs)
	if !e.Reserved() {
		if err := a.refresh(ctx, &l); err != nil {
			return Lease{}, err
		}
	}
	if l.Grant != e.Grant || e.fault != "" || e.IPv6Fault != "" && a.q.dual(a.c) || l.Attrs != e.Attrs {
		if err := a.put(ctx, &l); err != nil {
			return Lease{}, err
		}
	}
	a.attached(l)
	l.IPv6Fault = ""
	if another(e.Attrs.PublicIP, l.Attrs.PublicIP) || another(e.Attrs.PublicIPv6, l.Attrs.PublicIPv6) {
		a.r.log.Info("lease moved to another address", "subnet", l.Subnet, "key", a.r.path(l.Key), "publicip", l.Attrs.Addresses(), "before", e.Attrs.Addresses())
		return l, nil
	}
	a.r.log.Info("lease taken up again", "subnet", l.Subnet, "key", a.r.path(l.Key), "reserved", l.Reserved())
	return l, nil
}

// another reports whether there was an address before, and there is another now.
func another(before, now netip.Addr) bool {
	return before.IsValid() && now.IsValid() && before != now
}

// refresh starts the time to live of l afresh: with the grant that it has, or
// with a new one if that has ended or is not of the length that we want.
func (a *acquisition) refresh(ctx context.Context, l *Lease) error {
	var ttl time.Duration
	asked := time.Now()
	err := a.r.patient(ctx, func() (err error) {
		asked = time.Now()
		ttl, err = a.r.store.KeepAlive(ctx, l.Grant)
		return err
	})
	if err == nil && (ttl == a.r.o.TTL || l.Grant == a.grant) {
		l.Expires = asked.Add(ttl)
		return nil
	}
	if err != nil && !errors.Is(err, ErrNoGrant) {
		return err
	}
	if err := a.ensureGrant(ctx); err != nil {
		return err
	}
	l.Grant, l.Expires = a.grant, a.expires
	return nil
}

// discard deletes a lease of this host that no longer fits the network. Its IPv6
// half is kept if that fits and nobody snatches it.
func (a *acquisition) discard(ctx context.Context, e *entry) error {
	a.r.log.Warn("deleting own lease that does not fit the network", "key", a.r.path(e.Key), "subnet", e.Subnet)
	a.wishesIPv6 = append([]netip.Prefix{e.IPv6Subnet}, a.wishesIPv6...)
	return a.r.patient(ctx, func() error { return a.r.store.Delete(ctx, e.Key, e.Revision) })
}

// choose returns what is to be leased, each half by itself.
func (a *acquisition) choose(entries []*entry) (k SubnetKey, err error) {
	k.IPv4, err = a.chooseIn(&a.crowded, a.wishes, entries)
	if err == nil && a.q.dual(a.c) {
		k.IPv6, err = a.chooseIn(&a.crowdedIPv6, a.wishesIPv6, entries)
	}
	return k, err
}

func (a *acquisition) chooseIn(n *crowd, wishes []netip.Prefix, entries []*entry) (netip.Prefix, error) {
	taken := n.taken(entries, n.ranges)
	for _, p := range wishes {
		if n.fits(p) && !taken.overlap(p) {
			return p, nil
		}
	}
	free := n.free(taken, choices)
	if len(free) == 0 {
		return netip.Prefix{}, a.full(n.plan, entries)
	}
	return free[a.r.o.Pick(len(free))], nil
}

// full says that there is no free subnet, and names the key that takes more than
// one if there is such a key: deleting it may be all that is needed.
func (a *acquisition) full(n plan, entries []*entry) error {
	var wide string
	if e := n.widest(entries); e != nil {
		wide = fmt.Sprintf(" (%v of it by the one key %q)", n.held(e), clip(a.r.path(e.Key)))
	}
	return fmt.Errorf("%w: every /%d from %v to %v is leased%s; enlarge the network, or delete leases of hosts that are gone below %s",
		ErrFull, n.len, n.min, n.max, wide, a.r.path(subnetsDir))
}

// create leases what was free when it was looked at.
func (a *acquisition) create(ctx context.Context, k SubnetKey) (Lease, error) {
	if err := a.ensureGrant(ctx); err != nil {
		return Lease{}, err
	}
	l := Lease{
		Key:        subnetsDir + k.String(),
		Subnet:     k.IPv4,
		IPv6Subnet: k.IPv6,
		Attrs:      a.attrs(k.IPv6, Attrs{}),
		Expires:    a.expires,
		Grant:      a.grant,
	}
	if err := a.put(ctx, &l); err != nil {
		return Lease{}, err
	}
	l.Created = l.Revision
	if err := a.confirm(ctx, l); err != nil {
		return Lease{}, err
	}
	a.r.log.Info("lease acquired", "subnet", l.Subnet, "key", a.r.path(l.Key))
	return l, nil
}

// attrs returns what we publish under a key with the half ipv6. Where this host
// has no IPv6, that of a value that was there stays: flannel skips a peer whose
// key has two halves and whose value has one.
func (a *acquisition) attrs(ipv6 netip.Prefix, old Attrs) Attrs {
	l := Attrs{PublicIP: a.q.PublicIP, BackendType: backendVXLAN, VNI: a.c.Backend.VNI, MAC: a.q.MAC}
	switch {
	case !ipv6.IsValid():
	case a.q.dual(a.c):
		l.PublicIPv6, l.IPv6VNI, l.IPv6MAC = a.q.PublicIPv6, a.c.Backend.VNI, a.q.IPv6MAC
	default:
		l.PublicIPv6, l.IPv6VNI, l.IPv6MAC = old.PublicIPv6, old.IPv6VNI, old.IPv6MAC
	}
	return l
}

// put writes l where l.Revision says that it was, and sets its new revision.
func (a *acquisition) put(ctx context.Context, l *Lease) error {
	value, err := json.Marshal(l.Attrs)
	if err != nil {
		return err
	}
	return a.write(ctx, l, func() (int64, error) {
		return a.r.store.Put(ctx, l.Key, value, l.Revision, l.Grant)
	})
}

// write calls f, which writes l to the store, until the store answers.
func (a *acquisition) write(ctx context.Context, l *Lease, f func() (int64, error)) error {
	err := a.r.patient(ctx, func() error {
		rev, err := f()
		switch {
		case err == nil:
			l.Revision = rev
		case errors.Is(err, ErrNoSpace):
			return cmp.Or(a.r.renewWaiting(ctx, l), err)
		}
		return err
	})
	if errors.Is(err, ErrNoGrant) && l.Grant == a.grant {
		a.grant = 0 // ended meanwhile: the next attempt asks for another
	}
	if err == nil {
		a.attached(*l)
	}
	return err
}

// attached notes that l is in the store.
func (a *acquisition) attached(l Lease) {
	if a.grant != 0 && l.Grant == a.grant {
		a.used = true
	}
}

// ensureGrant asks the store for a time to live, once.
func (a *acquisition) ensureGrant(ctx context.Context) error {
	if a.grant != 0 {
		return nil
	}
	return a.r.patient(ctx, func() error {
		asked := time.Now()
		id, ttl, err := a.r.store.Grant(ctx, a.r.o.TTL)
		if err == nil {
			a.grant, a.expires = id, asked.Add(ttl)
		}
		return err
	})
}

// dropGrant gives an unused grant back at the end of Acquire, which may be
// because ctx ended. Should a write that seemed to fail have attached a key to
// it after all, the key goes too.
func (a *acquisition) dropGrant(ctx context.Context) {
	if a.used {
		a.r.mu.Lock()
		defer a.r.mu.Unlock()
		a.r.granted = a.grant
		return
	}
	if a.grant == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if err := a.r.store.Revoke(ctx, a.grant); err != nil {
		a.r.log.Debug("unused grant is left to expire", "error", err)
	}
}
