// SPDX-License-Identifier: Apache-2.0

package leasetest

import (
	"context"
	"fmt"

	"vxtap/lease"
)

// Move implements lease.Keys. A hook sees the key that is written.
func (s *Store) Move(ctx context.Context, from string, ifRevision int64, to string, value []byte, id lease.GrantID) (int64, error) {
	var rev int64
	err := s.call(ctx, "Move", to, func() error {
		_, there := s.pairs[to]
		if p, ok := s.pairs[from]; !ok || p.Revision != ifRevision || there {
			return fmt.Errorf("put %s in place of %s: %w", to, from, lease.ErrConflict)
		}
		if _, ok := s.grants[id]; id != 0 && !ok {
			return fmt.Errorf("put %s: %w", to, lease.ErrNoGrant)
		}
		s.deleteLocked(from)
		s.revision-- // both are one change
		s.putLocked(to, value, id)
		rev = s.revision
		return nil
	})
	if err != nil {
		return 0, err
	}
	return rev, nil
}
