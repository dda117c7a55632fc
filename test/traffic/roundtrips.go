// SPDX-License-Identifier: Apache-2.0

package traffic

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// RoundTrips sends n small datagrams there and back, one after another, and
// returns how long each was under way, the shortest first.
func RoundTrips(ctx context.Context, from, to End, n int) ([]time.Duration, error) {
	p, err := newUDPPair(ctx, from, to)
	if err != nil {
		return nil, fmt.Errorf("UDP %s to %s: %w", from, to, err)
	}
	defer p.Close()
	trips := make([]time.Duration, n)
	for i := range trips {
		start := time.Now()
		if err := p.exchange(14); err != nil {
			return nil, fmt.Errorf("UDP %s to %s: round trip %d: %w", from, to, i, err)
		}
		trips[i] = time.Since(start)
	}
	slices.Sort(trips)
	return trips, nil
}
