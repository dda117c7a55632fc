// SPDX-License-Identifier: Apache-2.0

package lease

import (
	"net/netip"
	"time"
)

// Lease is one host's hold on one subnet.
type Lease struct {
	Key        string       // relative to the store's prefix: "subnets/10.5.52.0-24"
	Subnet     netip.Prefix // IPv4, masked
	IPv6Subnet netip.Prefix // the other half of a dual-stack key; else the zero Prefix
	Attrs      Attrs
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

// Rejected is a key under subnets that was left out, and why.
type Rejected struct {
	Key    string // relative to the store's prefix
	Reason string // one sentence, for people
}

// Snapshot is everything under subnets at one revision, this host's own lease
// included. Leases and Rejected are in key order. The slices belong to the
// receiver.
type Snapshot struct {
	Leases   []Lease
	Rejected []Rejected
	Revision int64
}

// Selection is a Snapshot seen from one host.
type Selection struct {
	Peers    []Lease    // VXLAN peers that frames may go to, in key order
	Rejected []Rejected // what the snapshot left out, and what cannot be a peer of this host
	// OtherBackend counts leases of flannel's other backends. They are no
	// fault: flanneld ignores them too.
	OtherBackend int
}
