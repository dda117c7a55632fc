// SPDX-License-Identifier: Apache-2.0

package lease

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Lease is one host's hold on one subnet.
type Lease struct {
	Key        string       // relative to the store's prefix: "subnets/10.5.52.0-24"
	Subnet     netip.Prefix // IPv4, masked
	IPv6Subnet netip.Prefix // the other half of a dual-stack key; else the zero Prefix
	Attrs      Attrs
	// IPv6Fault says why the key's IPv6 half has no good one in the value, or the
	// other way round; "" where both have one, or neither.
	IPv6Fault string
	// Expires is when the store drops the lease unless it is renewed. It is
	// known for this host's own lease, as Acquire returns it, and zero for a
	// reservation, which never expires. In a Snapshot it is always zero: asking
	// costs one call a lease, and nothing needs the answer.
	Expires  time.Time
	Created  int64   // revision at which the key came into being
	Revision int64   // revision of its last change
	Grant    GrantID // 0: a reservation
}

// Reserved reports whether the lease never expires: its key was put without a
// time to live, by an operator who wants this host to keep this subnet.
func (l Lease) Reserved() bool { return l.Grant == 0 }

// dual reports whether l is reached by IPv6 too.
func (l Lease) dual() bool { return l.IPv6Subnet.IsValid() && l.Attrs.PublicIPv6.IsValid() }

// Rejected is a key under subnets that was left out, and why. Both are to be
// shown to people: at most about 200 bytes, the end of a longer key left out,
// and without control characters, whatever stands in the store.
type Rejected struct {
	Key    string // relative to the store's prefix, as shown above
	Reason string // one sentence
}

// rejected returns what is told of a key that was left out.
func rejected(key, reason string) Rejected { return Rejected{printable(key), printable(reason)} }

// maxPrintable is how many bytes of a key or of a reason are told. etcd takes
// keys of more than a megabyte, and they end in logs and in every status.
const maxPrintable = 200

// printable returns s with an end that is too long left out, and with what a
// terminal might obey, or not show, quoted as in a Go string.
func printable(s string) string {
	var b strings.Builder
	for _, c := range s { // a byte that is no UTF-8 comes as U+FFFD
		q := string(c)
		if !strconv.IsPrint(c) {
			q = strings.Trim(strconv.QuoteRune(c), "'")
		}
		if b.Len()+len(q) > maxPrintable {
			return b.String() + "..."
		}
		b.WriteString(q)
	}
	return b.String()
}

// Snapshot is everything under subnets at one revision, this host's own lease
// included. Leases and Rejected are in key order. The slices belong to the
// receiver.
type Snapshot struct {
	Leases   []Lease
	Rejected []Rejected
	More     int // keys that were left out beside those that Rejected names
	Revision int64
}

// Selection is a Snapshot seen from one host.
type Selection struct {
	Peers []Lease // VXLAN peers that frames may go to, in key order
	// IPv6Peers are those for IPv6 frames, in key order: most are in Peers too.
	// None where the network has no IPv6.
	IPv6Peers []Lease
	Rejected  []Rejected // what the snapshot left out, and what cannot be a peer of this host
	More      int        // what was left out beside those that Rejected names
	// OtherBackend counts leases of flannel's other backends. They are no
	// fault: flanneld ignores them too.
	OtherBackend int
}

// entry is one key under subnets, whether it makes a lease or not.
type entry struct {
	Lease                 // its Attrs may be partly set when fault is not ""
	held     netip.Prefix // what the key takes from everybody else; the zero Prefix: nothing
	heldIPv6 netip.Prefix // the same in IPv6
	fault    string       // why it is no lease; "" for a good one
}

// readEntry makes an entry of whatever is in the store.
func readEntry(p Pair) *entry {
	e := &entry{Lease: Lease{Key: p.Key, Created: p.Created, Revision: p.Revision, Grant: p.Grant}}
	e.held, _ = heldBy(p.Key)
	e.heldIPv6 = heldIPv6By(p.Key)
	name, ok := strings.CutPrefix(p.Key, subnetsDir)
	if !ok {
		e.fault = "the key is beside the directory subnets/, where flanneld sees it and nobody should put one"
		return e
	}
	k, err := ParseKey(name)
	if err != nil {
		e.fault = err.Error()
		return e
	}
	e.Subnet, e.IPv6Subnet, e.held = k.IPv4, k.IPv6, k.IPv4
	a, ipv6, err := parseAttrs(p.Value)
	e.Attrs = a
	switch {
	case err != nil:
		e.fault = err.Error()
	case !k.IPv6.IsValid(): // flannel looks at the key first
	case ipv6 != nil:
		e.IPv6Fault = printable(ipv6.Error())
	case a.BackendType == backendVXLAN && !a.PublicIPv6.IsValid():
		e.IPv6Fault = "the key has an IPv6 half, and the value names no PublicIPv6"
	}
	return e
}

// readEntries makes entries of pairs, in key order.
func readEntries(pairs []Pair) []*entry {
	entries := make([]*entry, len(pairs))
	for i, p := range pairs {
		entries[i] = readEntry(p)
	}
	slices.SortFunc(entries, func(a, b *entry) int { return strings.Compare(a.Key, b.Key) })
	return entries
}

// sameValue reports whether a and b tell the same to everybody but the store:
// flanneld puts its unchanged lease anew every day, which is no news.
func sameValue(a, b *entry) bool {
	return a.Key == b.Key && a.fault == b.fault && a.Attrs == b.Attrs && a.IPv6Fault == b.IPv6Fault &&
		a.Created == b.Created && a.Reserved() == b.Reserved()
}

// snapshot splits entries, which are in key order.
func snapshot(entries []*entry, revision int64) Snapshot {
	return snapshotIn(nil, entries, revision)
}

// snapshotIn is snapshot of a book.
func (b *book) snapshotIn(spare []Lease, revision int64) Snapshot {
	s := snapshotIn(spare, b.entries, revision)
	s.More = b.more
	return s
}

// snapshotIn is snapshot with the leases in the memory of spare, as far as that
// is enough.
func snapshotIn(spare []Lease, entries []*entry, revision int64) Snapshot {
	s := Snapshot{Leases: slices.Grow(spare[:0], len(entries)), Revision: revision}
	for _, e := range entries {
		if e.fault != "" {
			s.Rejected = append(s.Rejected, rejected(e.Key, e.fault))
			continue
		}
		s.Leases = append(s.Leases, e.Lease)
	}
	return s
}
