// SPDX-License-Identifier: Apache-2.0

package main

import "fmt"

// tightLink says that the config asks for more than the interface carries, so that
// large packets are lost; "" if it does not. The config is of all hosts, and goes
// before what one of them can see.
func (s *segment) tightLink() string {
	configured, up := s.current().Backend.MTU, s.d.at().uplink
	if configured <= up.MTU {
		return ""
	}
	return fmt.Sprintf("network config: Backend.MTU is %d, and the interface %s carries %d: large packets are lost; "+
		"set the interface's MTU to that, or put a config with %[3]d or less", configured, up.Name, up.MTU)
}

// warnOfMTU says in the log what tightLink does, once for each that it says.
func (s *segment) warnOfMTU() {
	why := s.tightLink()
	if why != s.tight && why != "" {
		s.log.Warn("the network config has an MTU that this host's link does not carry", "reason", why)
	}
	s.tight = why
}

// whyCut is why super-frames are cut, where the gate knows reason. The way is
// proven with the largest packets that there are, and as long as those are lost
// on this host no peer is to blame.
func (s *segment) whyCut(reason string, open bool, cut int) string {
	if why := s.tightLink(); why != "" && !open && cut == 0 {
		return "the way cannot be proven. " + why
	}
	return reason
}
