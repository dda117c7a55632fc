// SPDX-License-Identifier: Apache-2.0

package tunnel

import "sync/atomic"

// ledger holds the counters of one loop. The loop counts into plain memory of
// its own, a Direction, and publishes once a batch; so that nothing per frame
// is atomic, and a reader always sees whole batches, whose sums are balanced.
type ledger struct {
	seq atomic.Uint32 // odd while a publish is under way

	received, receivedBytes   atomic.Uint64
	delivered, deliveredBytes atomic.Uint64
	whole                     atomic.Uint64
	drops, flagged            [NumReasons]atomic.Uint64
}

// publish adds d to the ledger and empties d. Only the owning loop calls it.
func (l *ledger) publish(d *Direction) {
	if d.Received == 0 {
		return
	}
	l.seq.Add(1)
	l.received.Add(d.Received)
	l.receivedBytes.Add(d.ReceivedBytes)
	l.delivered.Add(d.Delivered)
	l.deliveredBytes.Add(d.DeliveredBytes)
	l.whole.Add(d.Whole)
	for r := range d.Drops {
		if d.Drops[r] != 0 {
			l.drops[r].Add(d.Drops[r])
		}
		if d.Flagged[r] != 0 {
			l.flagged[r].Add(d.Flagged[r])
		}
	}
	l.seq.Add(1)
	*d = Direction{}
}

// snapshot returns the counters as they stood between two batches. Anyone may
// call it. It looks again when a publish came in between, which takes the loop
// less than a microsecond.
func (l *ledger) snapshot() Direction {
	for {
		before := l.seq.Load()
		d := Direction{
			Received:       l.received.Load(),
			ReceivedBytes:  l.receivedBytes.Load(),
			Delivered:      l.delivered.Load(),
			DeliveredBytes: l.deliveredBytes.Load(),
			Whole:          l.whole.Load(),
		}
		for r := range d.Drops {
			d.Drops[r] = l.drops[r].Load()
			d.Flagged[r] = l.flagged[r].Load()
		}
		if before&1 == 0 && l.seq.Load() == before {
			return d
		}
	}
}
