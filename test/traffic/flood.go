// SPDX-License-Identifier: Apache-2.0

package traffic

import (
	"context"
	"fmt"
	"net/netip"
	"time"
)

// Flood sends the same burst again and again to a socket that nobody reads,
// until ctx ends, with a pause after each; without one as fast as it goes. It
// returns how many datagrams it sent.
func Flood(ctx context.Context, from, to End, b Burst, pause time.Duration) (int, error) {
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
		if pause > 0 {
			time.Sleep(pause)
		}
	}
}
