// SPDX-License-Identifier: Apache-2.0

package uplink

import (
	"cmp"
	"context"
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

// mistrust has every gate asked about again that the host may have closed or
// opened, and one at least of those that rest.
func (d *Device) mistrust() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, g := range d.gates {
		g.stale = true
	}
}

// look asks about the gates that are due, and returns after what time the next
// will be.
func (d *Device) look(now time.Time) time.Duration {
	d.seeRefusals(now)
	batch, next, moves := d.choose(now)
	if len(batch) == 0 {
		return next
	}
	d.record(batch, d.ask(d.questionsFor(batch)), now, moves)
	return min(next, whileUsed) // no answer is good for less
}

func (d *Device) questionsFor(batch []*gate) []question {
	d.mu.Lock()
	defer d.mu.Unlock()
	questions := make([]question, len(batch))
	for i, g := range batch {
		g.wanted.Store(false)
		questions[i] = question{vtep: g.vtep, turn: g.turn, anew: g.stale || !g.open.Load()}
		g.turn++
	}
	return questions
}

// seeRefusals closes the gates of the frames that the kernel has refused since
// the last look.
func (d *Device) seeRefusals(now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, g := range d.gates {
		if g.refused.Swap(false) {
			g.take(answer{unknown, refused}, now)
		}
	}
	d.report()
}

// choose returns the gates to ask about now, after what time there will be
// others, and how often all became void until now. Those that nobody uses any
// more it closes.
func (d *Device) choose(now time.Time) (batch []*gate, next time.Duration, moves int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	moves = d.moves
	used, nobody := d.pace()
	next = whileIdle
	var wanted, spare []*gate
	for _, g := range d.gates {
		why, at := g.due(used)
		switch {
		case why == nothing:
		case why == curious && g.verdict != blocked && !nobody:
		case at.After(now):
			next = min(next, at.Sub(now))
		case why == resting:
			if came := g.rest(); came || g.stale {
				next = 0
			}
		case why == curious:
			spare = append(spare, g)
		default:
			wanted = append(wanted, g)
		}
	}
	batch, more := mostUrgent(wanted)
	if more {
		next = 0
	}
	switch {
	case len(spare) == 0 || more:
	case d.spare.After(now):
		next = min(next, d.spare.Sub(now))
	case len(batch) > 0:
		next = 0 // after their answers there may be no reason any more
	default:
		// Each has its turn: the one that was not asked about for longest.
		slices.SortFunc(spare, func(a, b *gate) int { return a.asked.Compare(b.asked) })
		batch = append(batch, spare[:min(curiosity, len(spare))]...)
		d.spare, next = now.Add(whileUsed), min(next, whileUsed)
	}
	return batch, next, moves
}

// mostUrgent returns as many of the gates as one look asks about, and whether
// there are more: first those that are open, and may be letting frames into
// nothing; last those whose peers did not answer before, and by themselves, since
// each look that has one of them takes seeWithin.
func mostUrgent(gates []*gate) (batch []*gate, more bool) {
	urgency := func(g *gate) int {
		switch {
		case g.open.Load():
			return 0
		case g.verdict == unknown && !g.asked.IsZero() && g.reason == "":
			return 2
		}
		return 1
	}
	slices.SortFunc(gates, func(a, b *gate) int {
		return cmp.Or(cmp.Compare(urgency(a), urgency(b)), a.asked.Compare(b.asked))
	})
	n := min(perLook, len(gates))
	if i := slices.IndexFunc(gates, func(g *gate) bool { return urgency(g) == 2 }); i > 0 {
		n = min(n, i)
	}
	return gates[:n], n < len(gates)
}

// pace returns after what time an open gate is proven again, and whether nobody
// is known, since the host changed last, to whom the way passes.
func (d *Device) pace() (used time.Duration, nobody bool) {
	open := 0
	nobody = true
	for _, g := range d.gates {
		if g.open.Load() {
			open++
		}
		nobody = nobody && (g.verdict != passes || g.stale)
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

// record has the gates take their answers, unless they are about what became
// void meanwhile.
func (d *Device) record(batch []*gate, answers []answer, now time.Time, moves int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if moves != d.moves {
		return
	}
	eased := false
	for i, g := range batch {
		if d.gates[g.vtep] != g {
			continue // the peer has gone
		}
		eased = eased || g.verdict == blocked && answers[i].verdict == passes
		g.take(answers[i], now)
	}
	if eased {
		d.forget(now)
	}
	d.report()
}
