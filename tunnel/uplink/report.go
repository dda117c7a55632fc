// SPDX-License-Identifier: Apache-2.0

package uplink

import "net/netip"

// summary is what the log is told of: whether anybody's super-frames leave whole,
// and for whom a rule has them cut.
type summary struct {
	open   bool
	closed int
	first  netip.Addr // of the closed ones
	reason string     // of the first
}

// summary returns how things stand. The lock is held.
func (d *Device) summary() (s summary) {
	for v, g := range d.gates {
		if g.verdict == passes {
			s.open = true
		}
		if g.reason == "" {
			continue
		}
		if s.closed++; s.closed == 1 || v.Less(s.first) {
			s.first, s.reason = v, g.reason
		}
	}
	return s
}

// report says in the log what is news, but not each time where that goes on: what
// was not said then is said later, if it is still so. The lock is held.
func (d *Device) report() {
	now, before := d.summary(), d.said
	switch {
	case now.closed > 0:
		if now.closed == before.closed && (now.reason == before.reason || before.reason == refused) {
			return
		}
	case !now.open || before.open && before.closed == 0:
		return // nothing is known, or nothing new
	}
	if !d.say.Allow() {
		return
	}
	d.said = now
	attrs := []any{"uplink", d.Name}
	if now.closed == 0 {
		d.Log.Info("super-frames leave whole", attrs...)
		return
	}
	attrs = append(attrs, "reason", now.reason, "peer", now.first)
	if now.closed > 1 {
		attrs = append(attrs, "and", now.closed-1)
	}
	if now.open {
		d.Log.Warn("super-frames to some peers are cut here, the way through the host to them is closed", attrs...)
		return
	}
	d.Log.Warn("super-frames are cut here, the way through the host is closed", attrs...)
}
