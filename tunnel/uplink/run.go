// SPDX-License-Identifier: Apache-2.0

package uplink

import (
	"context"
	"net/netip"
	"time"
)

// verdict is what one attempt to prove the way came to.
type verdict int

const (
	// unknown: the peer cannot be reached by any way, or cannot be asked about.
	unknown verdict = iota
	passes
	blocked
)

const (
	// perLook is how many peers one look asks, by turns: a rule may be for some
	// of them only.
	perLook = 8
	// tries is how many of them may give no answer, each after seeWithin. A
	// peer that is down says nothing about the way.
	tries = 3
)

// settle is how long Run waits before it looks for the first time, so that the
// peers know of this host before it sends them a probe: a stranger's is a fault
// in their logs.
const settle = time.Second

// Reasons while there is no proof for or against the way.
const (
	noPeer   = "there is no peer yet that the way could be proven with"
	noAnswer = "no peer is there at present that the way could be proven with"
	refused  = "the kernel refused a super-frame, the way is going to be proven again"
)

// Run proves the way again and again until ctx ends, and then returns nil. One
// goroutine calls it, once.
func (d *Device) Run(ctx context.Context) error {
	timer := time.NewTimer(settle)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return nil
	case <-timer.C:
		d.Again()
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-d.again:
		case <-timer.C:
		}
		timer.Reset(d.pause(d.look(d.prove)))
		// A host that changes all the time must not have us look all the time.
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(atLeast):
		}
	}
}

// pause returns how long to wait before the next look, after one that came to v.
func (d *Device) pause(v verdict) time.Duration {
	used := d.used.Swap(false)
	switch {
	case v == blocked:
		return whileClosed
	case used || v == unknown:
		return whileUsed
	}
	return whileIdle
}

// look asks some of the peers. If the way is closed for one it is closed, until
// that one lets through: there is one way for all. Where none answers the state
// stays as it was: nothing of the kind reaches those peers, whichever way it
// takes.
func (d *Device) look(prove func(netip.Addr) (verdict, string)) verdict {
	peers := d.candidates(perLook)
	if len(peers) == 0 {
		d.set(false, noPeer, netip.Addr{})
		return blocked // until SetPeers asks again
	}
	v := unknown
	for silent := 0; len(peers) > 0 && silent < tries; peers = peers[1:] {
		switch answer, reason := prove(peers[0]); answer {
		case blocked:
			d.set(false, reason, peers[0])
			return blocked
		case passes:
			v = passes
		case unknown:
			silent++
		}
	}
	switch {
	case v == passes:
		d.set(true, "", netip.Addr{})
	case !d.ready.Load():
		d.set(false, noAnswer, netip.Addr{})
	}
	return v
}

// set takes note of the state and says in the log when it has changed: but not
// each time where that goes on.
func (d *Device) set(open bool, reason string, stuck netip.Addr) {
	was := d.ready.Swap(open)
	d.mu.Lock()
	before := d.reason
	d.reason, d.stuck = reason, stuck
	d.mu.Unlock()
	switch {
	case open && !was && d.say.Allow():
		d.Log.Info("super-frames leave whole", "uplink", d.Name)
	case !open && before != reason && reason != noPeer && reason != noAnswer && d.say.Allow():
		d.Log.Warn("super-frames are cut here, the way through the host is closed", "uplink", d.Name, "reason", reason)
	}
}
