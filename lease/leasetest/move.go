// SPDX-License-Identifier: Apache-2.0

package leasetest

import (
	"context"
	"fmt"
	"strings"

	"vxtap/lease"
)

// Move implements lease.Keys. A hook sees the key that is written.
func (s *Store) Move(ctx context.Context, x lease.Exchange) (int64, error) {
	var rev int64
	err := s.call(ctx, "Move", x.To, func() error {
		_, there := s.pairs[x.To]
		if p, ok := s.pairs[x.From]; !ok || p.Revision != x.Revision || there || s.madeSinceLocked(x.Beside, x.Since) {
			return fmt.Errorf("put %s in place of %s: %w", x.To, x.From, lease.ErrConflict)
		}
		if _, ok := s.grants[x.Grant]; x.Grant != 0 && !ok {
			return fmt.Errorf("put %s: %w", x.To, lease.ErrNoGrant)
		}
		s.deleteLocked(x.From)
		s.revision-- // both are one change
		s.putLocked(x.To, x.Value, x.Grant)
		rev = s.revision
		return nil
	})
	if err != nil {
		return 0, err
	}
	return rev, nil
}

// madeSinceLocked reports whether a key that starts with prefix was created after a
// revision; none was where prefix is "".
func (s *Store) madeSinceLocked(prefix string, revision int64) bool {
	for key, p := range s.pairs {
		if prefix != "" && strings.HasPrefix(key, prefix) && p.Created > revision {
			return true
		}
	}
	return false
}
