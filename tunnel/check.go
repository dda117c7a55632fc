// SPDX-License-Identifier: Apache-2.0

package tunnel

import "fmt"

// Checks says how strictly the switch treats what VXLAN itself does not
// protect. The zero value is strict: where leases say who may send what,
// nobody else has a reason to.
type Checks struct {
	Source      Policy // the outer source is a leased peer (NotAPeer)
	InnerSource Policy // the inner source lies in the sender's subnet (ForeignSource)
}

// Policy says what becomes of a frame that fails a check.
type Policy uint8

// The policies.
const (
	Strict Policy = iota // drop and count it
	Log                  // let it pass, count it as flagged, and say so in the log
	Off                  // do not look
)

// ParsePolicy reads "strict", "log" or "off".
func ParsePolicy(s string) (Policy, error) {
	for p := Strict; p <= Off; p++ {
		if p.String() == s {
			return p, nil
		}
	}
	return Strict, fmt.Errorf("%q is not one of strict, log, off", s)
}

// String returns what ParsePolicy reads.
func (p Policy) String() string {
	switch p {
	case Strict:
		return "strict"
	case Log:
		return "log"
	case Off:
		return "off"
	}
	return "unknown"
}

// refuses reports whether a frame that fails the check for r must be dropped,
// and flags it where it may pass.
func (p Policy) refuses(r Reason, d *Direction) bool {
	if p == Log {
		d.Flagged[r]++
	}
	return p == Strict
}
