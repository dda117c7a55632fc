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

// noPeer is the reason while there is nobody to send to.
const noPeer = "there is no peer yet that the way could be proven with"

// Run proves the way again and again until ctx ends, and then returns nil. One
// goroutine calls it, once.
func (d *Device) Run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-d.again:
		case <-timer.C:
		}
		if !d.look(d.prove) {
			timer.Reset(whileClosed)
			continue
		}
		timer.Reset(d.pause())
	}
}

// pause returns how long the proof is good for.
func (d *Device) pause() time.Duration {
	if d.used.Swap(false) {
		return whileUsed
	}
	return whileIdle
}

// look asks a few peers and sets the state by the first that gives an answer.
// Where none does the state stays as it was: nothing of the kind reaches those
// peers, whichever way it takes. It returns whether the way is open.
func (d *Device) look(prove func(netip.Addr) (verdict, string)) bool {
	peers := d.candidates(tries)
	if len(peers) == 0 {
		d.set(false, noPeer)
		return false
	}
	for _, peer := range peers {
		switch v, reason := prove(peer); v {
		case unknown:
			continue
		case passes:
			d.set(true, "")
		case blocked:
			d.set(false, reason)
		}
		break
	}
	return d.ready.Load()
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
