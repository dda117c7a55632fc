// SPDX-License-Identifier: Apache-2.0

package lease

import (
	"context"
	"fmt"
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
