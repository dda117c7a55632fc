// SPDX-License-Identifier: Apache-2.0

package lease

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
)

// Operator is a network as the person sees it who runs it. Unlike a Registry,
// which is one host's, it waits for nothing: a store that does not answer is an
// error. Every write is a compare-and-swap, like a host's; where somebody else
// was faster nothing is written, and the error matches ErrConflict.
type Operator struct {
	store Store
}

// NewOperator returns an Operator over store, which stays the caller's to close.
func NewOperator(store Store) *Operator { return &Operator{store: store} }

// StoredConfig is what is at <prefix>/config, whatever it is.
type StoredConfig struct {
	Value    []byte
	Revision int64 // of its last change; 0: there is none
}

// Config reads the network config as it is.
func (o *Operator) Config(ctx context.Context) (StoredConfig, error) {
	p, _, err := readPair(ctx, o.store, configKey)
	if err != nil {
		return StoredConfig{}, err
	}
	return StoredConfig{p.Value, p.Revision}, nil
}

// PutConfig writes the network config as it is given, if no host would refuse
// it and nobody has changed the one before it since it was read.
func (o *Operator) PutConfig(ctx context.Context, value []byte, before StoredConfig) (StoredConfig, error) {
	if _, err := ParseConfig(value); err != nil {
		return StoredConfig{}, err
	}
	rev, err := o.store.Put(ctx, configKey, value, before.Revision, 0)
	if err != nil {
		return StoredConfig{}, err
	}
	return StoredConfig{value, rev}, nil
}

// Leases reads everything under subnets.
func (o *Operator) Leases(ctx context.Context) (Snapshot, error) {
	b, err := book{}.read(ctx, o.store)
	if err != nil {
		return Snapshot{}, err
	}
	return b.snapshotIn(nil, b.revision), nil
}

// asksAtOnce bounds how many grants FillExpires asks for at a time: ten thousand
// leases take a second then, and etcd hardly notices.
const asksAtOnce = 32

// FillExpires sets Expires in leases, which takes one call for each grant. A
// lease that has just ended is left without.
func (o *Operator) FillExpires(ctx context.Context, leases []Lease) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(asksAtOnce)
	byGrant := make(map[GrantID][]int)
	for i, l := range leases {
		if l.Grant != 0 {
			byGrant[l.Grant] = append(byGrant[l.Grant], i)
		}
	}
	for id, of := range byGrant {
		g.Go(func() error {
			left, err := o.store.Left(ctx, id)
			switch {
			case errors.Is(err, ErrNoGrant):
				return nil
			case err != nil:
				return err
			}
			end := time.Now().Add(left)
			for _, i := range of {
				leases[i].Expires = end
			}
			return nil
		})
	}
	return g.Wait()
}

// Held is a key under subnets, to be told about and to be released.
type Held struct {
	Lease
	Fault string // why no host takes it for a lease; "" for a good one
}

// Find returns the keys under subnets for which match returns true, with the end
// of each.
func (o *Operator) Find(ctx context.Context, match func(Held) bool) ([]Held, error) {
	var all []Held
	_, err := listWhole(func() (int64, error) {
		all = nil
		return o.store.List(ctx, subnetsList, func(p Pair) {
			e := readEntry(p)
			if h := (Held{e.Lease, printable(e.fault)}); match(h) {
				all = append(all, h)
			}
		})
	})
	if err != nil {
		return nil, err
	}
	leases := make([]Lease, len(all))
	for i, h := range all {
		leases[i] = h.Lease
	}
	if err := o.FillExpires(ctx, leases); err != nil {
		return nil, err
	}
	for i, l := range leases {
		all[i].Lease = l
	}
	return all, nil
}

// Named returns what Find is to match for a name that a person typed: a subnet of
// either family, as 10.5.3.0/24 or as the last part of its key, or a whole key
// below the prefix.
func Named(name string) func(Held) bool {
	subnet, err := netip.ParsePrefix(name)
	return func(h Held) bool {
		if err == nil {
			return subnet.IsValid() && (h.Subnet == subnet || h.IPv6Subnet == subnet)
		}
		return h.Key == name || h.Key == subnetsDir+name
	}
}

// Release deletes h if it is still as it was found. The grant of it is left to
// end by itself: other keys may be attached to it.
func (o *Operator) Release(ctx context.Context, h Held) error {
	return o.store.Delete(ctx, h.Key, h.Revision)
}

// Reservation is what Reserve has found and made.
type Reservation struct {
	Lease
	Already bool    // nothing had to be written
	Held    bool    // the host held the subnet already, with a time to live
	Others  []Lease // that the same host holds now, and does not need after its next start
}

// Reserve puts subnets aside for the host at publicIP in the network c: the key
// has no time to live, and the host takes it at its next start, or keeps it if
// it is the one that it has. Of the value only the PublicIP is written: peers
// leave the lease out until its host is there. Without an IPv6 subnet, what the
// host holds is meant, whatever its IPv6 half.
func (o *Operator) Reserve(ctx context.Context, c Config, subnets SubnetKey, publicIP netip.Addr) (Reservation, error) {
	want := Lease{Key: subnetsDir + subnets.String(), Subnet: subnets.IPv4, IPv6Subnet: subnets.IPv6, Attrs: Attrs{PublicIP: publicIP}}
	if _, err := parseVTEP(publicIP.String()); err != nil {
		return Reservation{}, fmt.Errorf("public IP %w", err)
	}
	if why := c.misfit(want); why != "" {
		return Reservation{}, fmt.Errorf("%v cannot be reserved: %s", subnets.IPv4, why)
	}
	pairs, err := o.concerned(ctx, want)
	if err != nil {
		return Reservation{}, err
	}
	r, mine, err := c.reservable(readEntries(pairs), want)
	if err != nil || r.Already {
		return r, err
	}
	value, err := json.Marshal(want.Attrs)
	if err != nil {
		return Reservation{}, err
	}
	if mine != nil { // what its host has published stays to the byte
		i := slices.IndexFunc(pairs, func(p Pair) bool { return p.Key == mine.Key })
		value = pairs[i].Value
	} else if c.EnableIPv6 && !subnets.IPv6.IsValid() {
		return Reservation{}, fmt.Errorf("the network has IPv6, and flanneld deletes a lease without an IPv6 half: reserve both, as %v,%v",
			subnets.IPv4, netip.PrefixFrom(c.IPv6SubnetMin, c.IPv6SubnetLen))
	}
	if r.Revision, err = o.store.Put(ctx, r.Key, value, r.Revision, 0); err != nil {
		return Reservation{}, err
	}
	r.Grant, r.Expires = 0, time.Time{}
	return r, nil
}

// concerned returns the keys that are of the host of want, or hold some of it.
func (o *Operator) concerned(ctx context.Context, want Lease) (pairs []Pair, err error) {
	_, err = listWhole(func() (int64, error) {
		pairs = nil
		return o.store.List(ctx, subnetsList, func(p Pair) {
			e := readEntry(p)
			if e.Attrs.PublicIP == want.Attrs.PublicIP || e.held.Overlaps(want.Subnet) || e.heldIPv6.Overlaps(want.IPv6Subnet) {
				pairs = append(pairs, p)
			}
		})
	})
	return pairs, err
}

// reservable says whether want can be reserved beside entries. mine is the key
// that its host holds already, nil if there is none.
func (c Config) reservable(entries []*entry, want Lease) (r Reservation, mine *entry, err error) {
	r.Lease = want
	for _, e := range entries {
		ours := e.fault == "" && e.Attrs.PublicIP == want.Attrs.PublicIP
		switch {
		case ours && e.Subnet == want.Subnet && (e.IPv6Subnet == want.IPv6Subnet || !want.IPv6Subnet.IsValid()):
			mine, r.Lease, r.Already, r.Held = e, e.Lease, e.Reserved(), !e.Reserved()
		case c.ipv4().blocks(e.held) && e.held.Overlaps(want.Subnet):
			return r, nil, fmt.Errorf("%v is taken by the key %s, %s: release that first", want.Subnet, printable(e.Key), e.owner())
		case want.IPv6Subnet.IsValid() && c.ipv6().blocks(e.heldIPv6) && e.heldIPv6.Overlaps(want.IPv6Subnet) && !ours:
			return r, nil, fmt.Errorf("%v is taken by the key %s, %s: release that first", want.IPv6Subnet, printable(e.Key), e.owner())
		case ours && e.Reserved():
			return r, nil, fmt.Errorf("%v has the reservation %v already: release that first", want.Attrs.PublicIP, e.Subnet)
		case ours:
			r.Others = append(r.Others, e.Lease)
		}
	}
	return r, mine, nil
}

// owner says whose e is.
func (e *entry) owner() string {
	switch {
	case !e.Attrs.PublicIP.IsValid():
		return "which names no host"
	case e.Reserved():
		return fmt.Sprintf("a reservation of %v", e.Attrs.PublicIP)
	}
	return fmt.Sprintf("the lease of %v", e.Attrs.PublicIP)
}
