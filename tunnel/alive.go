// SPDX-License-Identifier: Apache-2.0

package tunnel

import (
	"fmt"
	"sync/atomic"
)

// pulse is how a lane shows that it turns: Alive asks, and the lane answers
// with its next turn. For the lane that is two loads of what nobody writes
// meanwhile. The zero value is ready to use.
type pulse struct{ asked, answered atomic.Uint32 }

// ask asks once more. It reports whether the lane has answered the last time.
func (p *pulse) ask() bool {
	asked := p.asked.Load()
	if p.answered.Load() != asked {
		return false
	}
	p.asked.Store(asked + 1)
	return true
}

// answer is called by the lane, once in each turn.
func (p *pulse) answer() {
	if asked := p.asked.Load(); asked != p.answered.Load() {
		p.answered.Store(asked)
	}
}

// Alive wakes every lane and asks it for a sign of life. It returns an error if
// one has not given the sign that it was asked for the last time, so calls must
// be further apart than the longest batch takes: a second is plenty. A lane
// without a Waiter cannot be asked, since nothing but a frame ends its reads,
// and counts as alive. One goroutine at a time may call it.
func (s *Switch) Alive() error {
	for i := range s.Lanes {
		w := s.Lanes[i].Waiter
		if w == nil {
			continue
		}
		if !s.pulses[i].ask() {
			return fmt.Errorf("lane %d of %d does not turn", i+1, len(s.Lanes))
		}
		w.Wake()
	}
	return nil
}
