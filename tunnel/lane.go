// SPDX-License-Identifier: Apache-2.0

package tunnel

import (
	"errors"
	"runtime"
)

// Lane is one queue of the TAP with the sockets that belong to it. A switch
// has one or more; each is moved by threads of its own, and the kernel decides
// which flow takes which.
type Lane struct {
	Port     Port
	Underlay Underlay
	// Waiter sleeps on the port and the underlay together; then one thread
	// moves both directions. That is half the threads to wake, and measured
	// on two cores a third more throughput than one thread for each direction
	// (docs/decisions/0008). Nil where an end cannot be looked at without
	// waiting: then each direction has a thread that waits in its own reads.
	Waiter Waiter
}

// Waiter is what a lane does when it has nothing to do. One goroutine uses it;
// Wake and Interrupt may be called by anyone.
type Waiter interface {
	// Yield lets other threads have the processor, and returns at once when
	// none wants it.
	Yield()
	// Wait sleeps until a read of either end may find something.
	Wait() error
	// Wake makes this Wait, or the next one, return nil.
	Wake()
	// Interrupt makes this Wait, and every one after it, return
	// ErrInterrupted.
	Interrupt()
	// Interrupted reports whether Interrupt was called.
	Interrupted() bool
}

// lane is the two loops of a Lane.
type lane struct {
	Lane
	pulse *pulse
	out   *outLoop
	in    *inLoop
}

// threads returns the functions that move the lane, each to be run by a
// goroutine of its own until it returns nil after interrupt, or an error when
// an end fails for good.
func (l *lane) threads() []func() error {
	if l.Waiter != nil {
		return []func() error{l.both}
	}
	return []func() error{
		func() error { return blocking(l.out.batch) },
		func() error { return blocking(l.in.batch) },
	}
}

func (l *lane) interrupt() {
	if l.Waiter != nil {
		l.Waiter.Interrupt()
		return
	}
	l.Port.Interrupt()
	l.Underlay.Interrupt()
}

// both moves one batch after another, in both directions by turns, on a thread
// of its own. When nothing is queued it looks again a few times, and then
// sleeps. It takes what is there when it wakes, and never waits for more.
func (l *lane) both() error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var p patience
	for !l.Waiter.Interrupted() {
		l.pulse.answer()
		moved, err := l.round()
		switch {
		case err != nil:
			return err
		case moved:
			p.found()
		case p.more():
			l.Waiter.Yield()
		default:
			if err := l.Waiter.Wait(); errors.Is(err, ErrInterrupted) {
				return nil
			} else if err != nil {
				return err
			}
		}
	}
	return nil
}

// round moves at most one batch in each direction, and reports whether there
// was anything to move.
func (l *lane) round() (bool, error) {
	out, err := l.out.batch(false)
	if err != nil {
		return false, err
	}
	in, err := l.in.batch(false)
	return out || in, err
}

// blocking moves the batches of one direction on a thread of its own. A batch
// sleeps when nothing is queued.
func blocking(batch func(wait bool) (bool, error)) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for {
		if _, err := batch(true); errors.Is(err, ErrInterrupted) {
			return nil
		} else if err != nil {
			return err
		}
	}
}
