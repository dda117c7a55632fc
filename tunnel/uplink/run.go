// SPDX-License-Identifier: Apache-2.0

package uplink

import (
	"context"
	"net/netip"
	"slices"
	"time"
)

const (
	// settle is how long Run waits before it looks for the first time, so that
	// the peers know of this host before it sends them a probe: a stranger's is
	// a fault in their logs.
	settle = time.Second
	// atLeast is between two looks, however often the host changes. It is time
	// in which frames may be lost: a second had TCP (BBR) take a new stream's path
	// for one of a few segments a second, and keep to that for ten.
	atLeast = 100 * time.Millisecond
	// perLook is how many gates one look asks about, and curiosity how many of
	// them may be such as nobody wants, every whileUsed.
	perLook   = 32
	curiosity = 8
)

// Run opens and closes the gates until ctx ends, and then returns nil. One
// goroutine calls it, once.
func (d *Device) Run(ctx context.Context) error {
	timer := time.NewTimer(settle)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return nil
	case <-timer.C:
	}
	for {
		timer.Reset(d.look(time.Now()))
		// A host that changes all the time must not have us look all the time.
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(atLeast):
		}
		select {
		case <-ctx.Done():
			return nil
		case <-d.changed:
			d.mistrust()
		case <-d.wake:
		case <-timer.C:
		}
	}
}

// mistrust has every gate asked about that the host may have closed or opened.
func (d *Device) mistrust() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, g := range d.gates {
		g.stale = g.open.Load() || g.verdict == blocked
	}
}

// look asks about the gates that are due, and returns after what time the next
// will be.
func (d *Device) look(now time.Time) time.Duration {
	d.seeRefusals(now)
	batch, next := d.choose(now)
	if len(batch) == 0 {
		return next
	}
	vteps := make([]netip.Addr, len(batch))
	for i, g := range batch {
		g.wanted.Store(false)
		vteps[i] = g.vtep
	}
	d.record(batch, d.ask(vteps), now)
	return min(next, whileUsed) // no answer is good for less
}

// seeRefusals closes the gates of the frames that the kernel has refused since
// the last look.
func (d *Device) seeRefusals(now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var n news
	for _, g := range d.gates {
		if g.refused.Swap(false) && g.take(answer{unknown, refused}, now) {
			n.closed(g)
		}
	}
	d.report(n)
}

// choose returns the gates to ask about now, and after what time there will be
// others. Those that nobody uses any more it closes.
func (d *Device) choose(now time.Time) (batch []*gate, next time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	used, nobody := d.pace()
	next = whileIdle
	var spare []*gate
	for _, g := range d.gates {
		why, at := g.due(used)
		switch {
		case why == nothing:
		case why == curious && g.verdict == unknown && !nobody:
		case at.After(now):
			next = min(next, at.Sub(now))
		case why == resting:
			g.open.Store(false)
		case why == curious:
			spare = append(spare, g)
		case len(batch) < perLook:
			batch = append(batch, g)
		default:
			next = 0
		}
	}
	switch {
	case len(spare) == 0:
	case d.spare.After(now):
		next = min(next, d.spare.Sub(now))
	default:
		// Each has its turn: the one that was not asked about for longest.
		slices.SortFunc(spare, func(a, b *gate) int { return a.asked.Compare(b.asked) })
		batch = append(batch, spare[:min(curiosity, len(spare))]...)
		d.spare, next = now.Add(whileUsed), min(next, whileUsed)
	}
	return batch, next
}

// pace returns after what time an open gate is proven again, and whether nobody
// is known to whom the way passes.
func (d *Device) pace() (used time.Duration, nobody bool) {
	open := 0
	nobody = true
	for _, g := range d.gates {
		if g.open.Load() {
			open++
		}
		nobody = nobody && g.verdict != passes
	}
	return max(whileUsed, time.Duration(open)*each), nobody
}

// forget makes nothing known of the gates that were found closed before now, for
// somebody has mended the host. The lock is held.
func (d *Device) forget(now time.Time) {
	for _, g := range d.gates {
		if g.verdict == blocked && g.asked.Before(now) {
			g.answer, g.asked, g.stale = answer{}, time.Time{}, false
		}
	}
}

// record has the gates take their answers.
func (d *Device) record(batch []*gate, answers []answer, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, nobody := d.pace()
	var n news
	eased := false
	for i, g := range batch {
		if d.gates[g.vtep] != g {
			continue // the peer has gone
		}
		was := g.verdict
		if g.take(answers[i], now) {
			n.closed(g)
		}
		if g.verdict == passes {
			eased = eased || was == blocked
			n.opened = n.opened || nobody || was == blocked
		}
	}
	if eased {
		d.forget(now)
	}
	d.report(n)
}

// news is what one look has changed, for the log.
type news struct {
	opened bool
	peers  int // closed to
	first  *gate
}

func (n *news) closed(g *gate) {
	if n.peers++; n.first == nil {
		n.first = g
	}
}

// report says in the log what is news: but not each time where that goes on.
func (d *Device) report(n news) {
	if n.opened && d.say.Allow() {
		d.Log.Info("super-frames leave whole", "uplink", d.Name)
	}
	if n.peers > 0 && d.say.Allow() {
		d.Log.Warn("super-frames are cut here, the way through the host is closed",
			"uplink", d.Name, "reason", n.first.reason, "peer", n.first.vtep, "others", n.peers-1)
	}
}
