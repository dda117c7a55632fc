// SPDX-License-Identifier: Apache-2.0

package lease

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
)

// maxLeases is how many leases are known at most: as many as a /8 has subnets of
// flannel's usual length, and many more than etcd can renew. Of more, those that were
// created last are left out, by all hosts alike: whoever floods the store comes after
// the hosts that were there.
const maxLeases = 1 << 16

// maxRefused is how many keys that make no lease are known by name. The others are
// counted: somebody who looks wants to know what they are, and that can be seen from
// the first thousand.
const maxRefused = 1000

// book has what stands under subnets, in bounded memory whatever that is: strangers
// write there.
type book struct {
	// always is the key of an entry that is to be in the book however full it is; "" for
	// none.
	always string
	// keep reports which entries are to be in the book though it is full of their
	// kind, as our own are; nil for none. It keeps maxRefused of them.
	keep func(*entry) bool
	// crowds have what keys hold that are not in the book.
	crowds []*crowd

	entries        []*entry // in key order when the read is done
	good, bad      int      // of entries, how many make a lease and how many do not
	kept, keptGood int      // of entries, how many are there since keep asked for them, and how many of those make a lease
	more           int      // keys that are in the store and not in entries

	revision int64 // the store's, at which it was read
}

// read fills a copy of b from the store.
func (b book) read(ctx context.Context, from Keys) (*book, error) {
	var full *book
	revision, err := listWhole(func() (int64, error) {
		fresh := b
		full = &fresh
		for _, c := range full.crowds {
			c.ranges = nil
		}
		return from.List(ctx, subnetsList, full.add)
	})
	if err != nil {
		return nil, err
	}
	full.close()
	full.revision = revision
	return full, nil
}

// add takes in a key of a read.
func (b *book) add(p Pair) {
	e := readEntry(p)
	if e.fault != "" {
		b.addBad(e)
		return
	}
	b.entries = append(b.entries, e)
	// Sorting by age at each would take hours of a flood.
	if b.good++; b.good > maxLeases+maxLeases/4 {
		b.prune()
	}
}

func (b *book) addBad(e *entry) {
	if b.bad >= maxRefused && !b.keeps(e) {
		b.leaveOut(e)
		return
	}
	b.bad++
	b.entries = append(b.entries, e)
}

func (b *book) keeps(e *entry) bool {
	if b.always != "" && e.Key == b.always {
		return true
	}
	if b.keep == nil || b.kept >= maxRefused || !b.keep(e) {
		return false
	}
	b.kept++
	if e.fault == "" {
		b.keptGood++
	}
	return true
}

func (b *book) leaveOut(e *entry) {
	b.more++
	for _, c := range b.crowds {
		c.add(e)
	}
}

// close ends a read.
func (b *book) close() {
	b.prune()
	slices.SortFunc(b.entries, func(a, b *entry) int { return strings.Compare(a.Key, b.Key) })
}

// prune takes the youngest leases out of a book that has too many.
func (b *book) prune() {
	if b.good <= maxLeases {
		return
	}
	bad, good := b.entries[:0:0], make([]*entry, 0, b.good)
	for _, e := range b.entries {
		if e.fault == "" {
			good = append(good, e)
		} else {
			bad = append(bad, e)
		}
	}
	slices.SortFunc(good, func(a, b *entry) int {
		return cmp.Or(cmp.Compare(a.Created, b.Created), strings.Compare(a.Key, b.Key))
	})
	b.entries, b.good = append(bad, good[:maxLeases]...), maxLeases
	b.kept, b.keptGood = b.kept-b.keptGood, 0 // those are among the youngest again
	for _, e := range good[maxLeases:] {
		if b.keeps(e) {
			b.entries = append(b.entries, e)
			b.good++
			continue
		}
		crowded := *e
		crowded.fault = fmt.Sprintf("there are more than %d leases, and this is one of those that were created last", maxLeases)
		b.addBad(&crowded)
	}
}

// set takes in a change that a watch told of, and reports whether it is news. The
// names that a change makes room for come with the next read.
func (b *book) set(ev Event) bool {
	i, found := slices.BinarySearchFunc(b.entries, ev.Key, func(e *entry, key string) int { return strings.Compare(e.Key, key) })
	switch {
	case ev.Deleted && found:
		b.take(i)
		return true
	case ev.Deleted:
		return b.forget()
	}
	e := readEntry(ev.Pair)
	if found {
		old := b.take(i)
		if b.insert(i, e) {
			return !sameValue(old, e)
		}
		return true
	}
	// A key that is new to the book and not to the store is one of the others.
	known := ev.Created != ev.Revision && b.forget()
	return b.insert(i, e) || !known
}

// forget notes that one of the keys that are not in the book is none of them any
// more, and reports whether there was one.
func (b *book) forget() bool {
	if b.more == 0 {
		return false
	}
	b.more--
	return true
}

// take takes entry i out.
func (b *book) take(i int) *entry {
	e := b.entries[i]
	b.entries = slices.Delete(b.entries, i, i+1)
	*b.kind(e)--
	return e
}

// insert puts e at i, or reports false and counts it if the book is full of its
// kind.
func (b *book) insert(i int, e *entry) bool {
	most := maxLeases
	if e.fault != "" {
		most = maxRefused
	}
	n := b.kind(e)
	if *n >= most {
		b.leaveOut(e)
		return false
	}
	*n++
	b.entries = slices.Insert(b.entries, i, e)
	return true
}

func (b *book) kind(e *entry) *int {
	if e.fault == "" {
		return &b.good
	}
	return &b.bad
}

// crowd is what many keys hold together of the network in one family: they are too
// many to be known one by one, and a subnet that one of them names is taken all the
// same.
type crowd struct {
	plan
	ranges ranges
}

func (c *crowd) add(e *entry) {
	subnet := c.held(e)
	if !c.blocks(subnet) {
		return
	}
	s := stretchOf(subnet)
	if subnet.Bits() > c.len { // it keeps a whole subnet from being leased
		s = stretchOf(wider(subnet, c.len))
	}
	if c.ranges = append(c.ranges, s); len(c.ranges) < 2*maxLeases {
		return
	}
	c.ranges = joined(c.ranges)
	for len(c.ranges) > maxLeases { // two neighbours as one, with what is between them
		half := c.ranges[:0]
		for i := 0; i < len(c.ranges); i += 2 {
			half = append(half, stretch{c.ranges[i].first, c.ranges[min(i+1, len(c.ranges)-1)].last})
		}
		c.ranges = half
	}
}
