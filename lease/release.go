// SPDX-License-Identifier: Apache-2.0

package lease

import (
	"context"
	"fmt"
)

// Release gives l up: it deletes the key, if it still is this host's. A
// reservation is left as it is: it says whose the subnet is when the host is
// down, too.
func (r *Registry) Release(ctx context.Context, l Lease) error {
	if err := r.release(ctx, l); err != nil {
		return fmt.Errorf("release lease: %w", err)
	}
	return nil
}

func (r *Registry) release(ctx context.Context, l Lease) error {
	p, _, err := readPair(ctx, r.store, l.Key)
	if err != nil || p.Revision == 0 {
		return err
	}
	e := readEntry(p)
	if e.Attrs.PublicIP != l.Attrs.PublicIP {
		return nil
	}
	if e.Reserved() {
		r.log.Info("reservation left in place", "key", r.path(e.Key))
		return nil
	}
	if err := r.store.Delete(ctx, e.Key, e.Revision); err != nil {
		return err
	}
	return r.revokeOwn(ctx, e.Grant)
}

// revokeOwn ends a grant that nothing is attached to any more. Of a grant that
// somebody else made we cannot know that.
func (r *Registry) revokeOwn(ctx context.Context, id GrantID) error {
	r.mu.Lock()
	ours := id != 0 && id == r.granted
	r.mu.Unlock()
	if !ours {
		return nil
	}
	return r.store.Revoke(ctx, id)
}
