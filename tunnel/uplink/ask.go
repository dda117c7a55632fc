// SPDX-License-Identifier: Apache-2.0

package uplink

import "net/netip"

// question is what there is to be known about one peer.
type question struct {
	vtep netip.Addr
	turn int  // which of the ports has the full segments, modulo their number
	anew bool // nothing is known: prove the largest frame too
}

// ask proves the way to each peer. Where it is blocked, the TAP may not be what
// it was: then it is set up again, and the peer is asked about once more.
func (d *Device) ask(questions []question) []answer {
	answers := d.prove(questions)
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
		d.askAgain(questions, answers, shut)
	}
	return answers
}

// askAgain puts new answers in the place of those that shut are the indices of.
func (d *Device) askAgain(questions []question, answers []answer, shut []int) {
	some := make([]question, len(shut))
	for k, i := range shut {
		some[k] = questions[i]
	}
	for k, a := range d.prove(some) {
		answers[shut[k]] = a
	}
	if d.say.Allow() {
		d.Log.Warn("the uplink TAP was not as it should be, and is set up again", "uplink", d.Name)
	}
}
