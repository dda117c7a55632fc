// SPDX-License-Identifier: Apache-2.0

package leasetest

import (
	"context"

	"vxtap/lease"
)

// Listing is all that a List has handed over.
type Listing struct {
	Pairs    []lease.Pair
	Revision int64 // the store's revision at which all of it was read
}

// List returns what keys have under prefix, as a whole.
func List(ctx context.Context, keys lease.Keys, prefix string) (Listing, error) {
	var l Listing
	revision, err := keys.List(ctx, prefix, func(p lease.Pair) { l.Pairs = append(l.Pairs, p) })
	if err != nil {
		return Listing{}, err
	}
	l.Revision = revision
	return l, nil
}
