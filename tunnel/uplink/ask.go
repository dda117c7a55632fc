// SPDX-License-Identifier: Apache-2.0

package uplink

import "net/netip"

// ask proves the way to each peer. Where it is blocked, the TAP may not be what
// it was: then it is set up again, and the peer is asked about once more.
func (d *Device) ask(vteps []netip.Addr) []answer {
	answers := d.prove(vteps)
	var shut []int
	for i, a := range answers {
		if a.verdict == blocked {
			shut = append(shut, i)
		}
	}
	if len(shut) == 0 {
		return answers
	}
	changed, err := d.mend()
	switch {
	case err != nil:
		for _, i := range shut {
			answers[i].reason = err.Error()
		}
	case changed:
		d.askAgain(vteps, answers, shut)
	}
	return answers
}

// askAgain puts new answers in the place of those that shut are the indices of.
func (d *Device) askAgain(vteps []netip.Addr, answers []answer, shut []int) {
	some := make([]netip.Addr, len(shut))
	for k, i := range shut {
		some[k] = vteps[i]
	}
	for k, a := range d.prove(some) {
		answers[shut[k]] = a
	}
	if d.say.Allow() {
		d.Log.Warn("the uplink TAP was not as it should be, and is set up again", "uplink", d.Name)
	}
}
