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

// tries is how many peers one look asks at the most. A peer that is down says
// nothing about the way.
const tries = 3

// settle is how long Run waits before it looks for the first time, so that the
// peers know of this host before it sends them a probe: a stranger's is a fault
// in their logs.
const settle = time.Second

// noPeer is the reason while there is nobody to send to.
const noPeer = "there is no peer yet that the way could be proven with"

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

// look asks a few peers and sets the state by the first that gives an answer.
// Where none does the state stays as it was: nothing of the kind reaches those
// peers, whichever way it takes. It returns the answer, or unknown.
func (d *Device) look(prove func(netip.Addr) (verdict, string)) verdict {
	peers := d.candidates(tries)
	if len(peers) == 0 {
		d.set(false, noPeer)
		return blocked // until SetPeers asks again
	}
	for _, peer := range peers {
		if v, reason := prove(peer); v != unknown {
			d.set(v == passes, reason)
			return v
		}
	}
	return unknown
}

// set takes note of the state and says in the log when it has changed.
func (d *Device) set(open bool, reason string) {
	was := d.ready.Swap(open)
	d.mu.Lock()
	before := d.reason
	d.reason = reason
	d.mu.Unlock()
	switch {
	case open && !was:
		d.Log.Info("super-frames leave whole", "uplink", d.Name)
	case !open && before != reason && reason != noPeer:
		d.Log.Warn("super-frames are cut here, the way through the host is closed", "uplink", d.Name, "reason", reason)
	}
}
