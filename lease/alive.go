// SPDX-License-Identifier: Apache-2.0

package lease

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// signs are what the loops of a Registry have promised: each, whenever it
// turns, says within what time it will turn again. The zero value is ready.
type signs struct {
	mu  sync.Mutex
	all map[*sign]time.Time // when the next turn is due
}

// sign is one loop's.
type sign struct {
	of   *signs
	loop string // for people
}

// turnWithin is what loops promise that wait for a tick, for a call that ends by
// itself (Store), or for their own backoff: all of it takes half as long.
const turnWithin = time.Minute

// begin registers a loop, which turns within turnWithin and calls end when it
// has ended.
func (s *signs) begin(loop string) *sign {
	g := &sign{of: s, loop: loop}
	g.within(turnWithin)
	return g
}

// within notes a turn, and that the next one comes within d.
func (g *sign) within(d time.Duration) {
	g.of.mu.Lock()
	defer g.of.mu.Unlock()
	if g.of.all == nil {
		g.of.all = make(map[*sign]time.Time)
	}
	g.of.all[g] = time.Now().Add(d)
}

func (g *sign) end() {
	g.of.mu.Lock()
	defer g.of.mu.Unlock()
	delete(g.of.all, g)
}

// reads returns keys whose List counts as turns of the loop, one with each key: what
// strangers have put there may take longer to be read than any promise, and to begin
// again does not mend that.
func (g *sign) reads(keys Keys) Keys { return readSign{keys, g} }

type readSign struct {
	Keys
	of *sign
}

func (r readSign) List(ctx context.Context, prefix string, take func(Pair)) (int64, error) {
	return r.Keys.List(ctx, prefix, func(p Pair) {
		r.of.within(turnWithin)
		take(p)
	})
}

// Alive returns an error if one of the loops under Watch and Keep, or a call
// that waits for the store, has not turned in time: it hangs, and this host's
// peers or its lease are no longer followed. A store that does not answer is no
// such thing: they turn, and ask it again.
func (r *Registry) Alive() error {
	r.signs.mu.Lock()
	defer r.signs.mu.Unlock()
	now := time.Now()
	for g, due := range r.signs.all {
		if late := now.Sub(due); late > 0 {
			return fmt.Errorf("the loop %q does not turn: it is late by %v", g.loop, late.Round(time.Second))
		}
	}
	return nil
}
