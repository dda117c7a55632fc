// SPDX-License-Identifier: Apache-2.0

package traffic

import (
	"context"
	"fmt"
	"net/netip"
)

// Flood sends the same burst again and again, as fast as it goes, to a socket
// that nobody reads, until ctx ends. It returns how many datagrams it sent.
func Flood(ctx context.Context, from, to End, b Burst) (int, error) {
	p, err := newUDPPair(ctx, from, to)
	if err != nil {
		return 0, fmt.Errorf("flood %s to %s: %w", from, to, err)
	}
	defer p.Close()
	var control []byte
	if b.Count > 1 {
		control = segmentControl(b.Size)
	}
	all := make([]byte, b.Size*b.Count)
	for n := 0; ; n += b.Count {
		if ctx.Err() != nil {
			return n, nil
		}
		if _, _, err := p.near.WriteMsgUDPAddrPort(all, control, netip.AddrPort{}); err != nil && ctx.Err() == nil {
			return n, fmt.Errorf("flood %s to %s: %w", from, to, err)
		}
	}
}
