// SPDX-License-Identifier: Apache-2.0

package tunnel

// patience says how often a lane looks again before it sleeps. Waking a thread
// is the dearest thing that the kernel does for us (an interrupt to another
// processor, and out of its halt), so that who has just been busy does well to
// look a few times more: the answer, or the next window of a stream, is often
// microseconds away. Between two looks the lane yields, so that on a busy
// machine others have the processor meanwhile.
//
// It adapts, and needs no clock for that: a look that finds something restores
// the full measure, and a row of looks in vain halves it, so that a flow with
// long gaps soon costs no more than one without any looking. Now and then the
// full measure is tried again, to notice when the gaps have become short.
//
// The zero value is ready to use.
type patience struct {
	limit  int // looks in a row before sleeping
	looks  int // in vain, since something was found or the lane slept
	sleeps int // since the full measure was tried last
}

const (
	// fullPatience is how many looks in a row pay, as measured in
	// docs/performance.md. One look with its yield takes about 1.5 us where
	// nobody wants the processor, so a lane that has fallen idle is asleep
	// within 50 us.
	fullPatience = 30
	// retryPatience is after how many sleeps the full measure is tried again.
	retryPatience = 16
)

// found notes that there was something to move.
func (p *patience) found() {
	if p.looks > 0 {
		p.limit = fullPatience
	}
	p.looks = 0
}

// more reports whether to look once more, after a look that found nothing.
// When it says no the caller sleeps.
func (p *patience) more() bool {
	if p.looks < p.limit {
		p.looks++
		return true
	}
	p.looks = 0
	p.limit /= 2
	if p.sleeps++; p.sleeps >= retryPatience {
		p.sleeps, p.limit = 0, fullPatience
	}
	return false
}
