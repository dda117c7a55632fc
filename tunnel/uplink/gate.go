// SPDX-License-Identifier: Apache-2.0

package uplink

import (
	"cmp"
	"errors"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"vxtap/tunnel"
)

// verdict is what one attempt to prove the way to a peer came to.
type verdict int

const (
	// unknown: the peer cannot be reached by any way, or was not asked about.
	unknown verdict = iota
	passes
	blocked
)

// answer is a verdict with its reason, which is "" where the way passes.
type answer struct {
	verdict verdict
	reason  string
}

// gate is the way to one peer. Of the flags each is the loops' to set one way
// and Run's to set the other; the rest is Run's, under the Device's lock.
type gate struct {
	d    *Device
	vtep netip.Addr

	open    atomic.Bool
	wanted  atomic.Bool // a super-frame has come since Run asked last
	refused atomic.Bool // the kernel has refused one, and Run has not seen it yet

	answer
	turn  int       // how often it was asked about
	asked time.Time // when last; zero: never
	stale bool      // the host has changed since
	named int       // the last call of Gates that named it
}

// Open implements tunnel.Gate.
func (g *gate) Open() bool {
	if !g.wanted.Load() {
		g.wanted.Store(true)
		if !g.open.Load() {
			tell(g.d.wake)
		}
	}
	return g.open.Load()
}

// WriteFrame implements tunnel.Gate. When the kernel refuses a frame the gate is
// closed until it is proven again, which is not at once: the frame may have been
// at fault, and the next one too.
func (g *gate) WriteFrame(b []byte) error {
	err := g.d.tap.write(b)
	switch {
	case err == nil, errors.Is(err, tunnel.ErrFull): // short of memory for the moment
		return err
	case errors.Is(err, errDown), errors.Is(err, errDeleted):
		g.d.Again()
	default:
		g.refused.Store(true)
		tell(g.d.wake)
	}
	g.open.Store(false)
	return err
}

// How often a gate is asked about.
const (
	// whileUsed bounds, with a few peers in use, how long a rule that nobody told
	// us of may eat frames to one of them, unless it is for large frames only. It
	// is also the time after which an unused gate closes, and after which a wanted
	// one is asked about where nobody answered.
	whileUsed = 2 * time.Second
	// whileClosed is for whoever has mended a rule and watches.
	whileClosed = 10 * time.Second
	// whileIdle is for peers that do not answer, while nothing is known at all.
	whileIdle = 30 * time.Second
	// each is how much longer whileUsed becomes for each gate in use: with a
	// thousand of them the probes would be a load of their own.
	each = 20 * time.Millisecond
)

// need is why a gate is to be asked about, or not.
type need int

const (
	nothing need = iota
	wants        // somebody uses it, or would
	curious      // nobody does, but status should say how things stand
	resting      // it is to be closed until somebody wants it again
)

// due returns what the gate needs, and when. used is the time after which an
// open one is proven again.
func (g *gate) due(used time.Duration) (need, time.Time) {
	why := curious
	switch {
	case g.wanted.Load():
		why = wants
	case g.open.Load():
		why = resting
	case g.verdict == passes && !g.stale:
		return nothing, time.Time{}
	}
	switch {
	case g.stale, g.asked.IsZero():
		return why, time.Time{}
	case g.open.Load():
		return why, g.asked.Add(used)
	case g.verdict == blocked:
		return why, g.asked.Add(whileClosed)
	case why == curious:
		return why, g.asked.Add(whileIdle)
	case g.verdict == passes:
		return why, time.Time{} // it has rested
	}
	return why, g.asked.Add(whileUsed)
}

// rest closes the gate until somebody wants it, and reports whether somebody has
// come meanwhile, who saw it open and so has told nobody.
func (g *gate) rest() (came bool) {
	g.open.Store(false)
	return g.wanted.Load()
}

// take notes the answer that Run got at now.
func (g *gate) take(a answer, now time.Time) {
	g.answer, g.asked, g.stale = a, now, false
	g.open.Store(a.verdict == passes)
}

// Reasons while there is no proof for or against the way.
const (
	noPeer   = "there is no peer yet, and the way is proven with one"
	notYet   = "the way is not proven yet, which takes a second or two after a start"
	noAnswer = "none of the peers that were tried can be reached at present, so that the way is not proven"
	refused  = "the kernel refused a super-frame, the way is going to be proven again"
)

// State returns what is known of the gates. Anyone may call it.
func (d *Device) State() State {
	d.mu.Lock()
	defer d.mu.Unlock()
	var s State
	var asked, before, shut bool
	for v, g := range d.gates {
		asked = asked || !g.asked.IsZero()
		switch a := g.answer; {
		case a.verdict == passes:
			s.Open = s.Open || !g.stale
			before = true
			if g.open.Load() {
				s.Wanted++
			}
		case a.reason != "":
			shut = shut || !g.stale
			s.Some = append(s.Some, Cut{v, a.reason})
		}
	}
	// Until something is known since the host changed, it is as before.
	s.Open = s.Open || before && !shut
	slices.SortFunc(s.Some, func(a, b Cut) int { return cmp.Or(a.VTEP.Compare(b.VTEP), cmp.Compare(a.Reason, b.Reason)) })
	s.Cut = len(s.Some)
	s.Some = s.Some[:min(some, len(s.Some))]
	switch {
	case s.Open:
	case s.Cut > 0:
		s.Reason = s.Some[0].Reason
	case len(d.gates) == 0:
		s.Reason = noPeer
	case !asked:
		s.Reason = notYet
	default:
		s.Reason = noAnswer
	}
	return s
}
