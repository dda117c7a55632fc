// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"vxtap/lease"
)

// etcd has keys in the order of their letters, in which 10.5.26.0 is before
// 10.5.3.0. What is shown, to people and to programs, is in the order of addresses.

// sortPeers sorts peers by their subnets.
func sortPeers(peers []PeerStatus) {
	slices.SortFunc(peers, func(a, b PeerStatus) int { return a.Subnet.Compare(b.Subnet) })
}

// sortLeases sorts leases by their IPv4 subnets; those that have the same one by
// their keys.
func sortLeases(leases []lease.Lease) {
	slices.SortFunc(leases, func(a, b lease.Lease) int {
		return cmp.Or(a.Subnet.Compare(b.Subnet), strings.Compare(a.Key, b.Key))
	})
}

// rejectedKeys sorts keys that are left out by the subnets that they name, those of
// one subnet by their letters. Keys that name none come last.
func rejectedKeys(rejected []lease.Rejected) []RejectedKey {
	type placed struct {
		RejectedKey
		subnet netip.Prefix // the zero Prefix if the key names none
	}
	all := make([]placed, len(rejected))
	for i, r := range rejected {
		k, _ := lease.ParseKey(strings.TrimPrefix(r.Key, "subnets/")) // nonsense is the zero key
		all[i] = placed{RejectedKey{Key: r.Key, Reason: r.Reason}, k.IPv4}
	}
	slices.SortFunc(all, func(a, b placed) int {
		if a.subnet.IsValid() != b.subnet.IsValid() {
			return -a.subnet.Compare(b.subnet) // the zero Prefix would be first
		}
		return cmp.Or(a.subnet.Compare(b.subnet), strings.Compare(a.Key, b.Key), strings.Compare(a.Reason, b.Reason))
	})
	keys := make([]RejectedKey, len(all))
	for i := range all {
		keys[i] = all[i].RejectedKey
	}
	return keys
}
