// SPDX-License-Identifier: Apache-2.0

package tunnel

import "fmt"

// mtus are the sizes of the inner IP packets that a switch takes. They are what
// hosts of one network set to the same value, each at its own time.
type mtus struct {
	out int // from the TAP
	// in is what comes from peers: the largest that out has been since the
	// start. While one host has a smaller MTU already, and another not yet,
	// what that one sends still fits the underlay, and to drop it would be a
	// black hole: nobody tells its sender. The kernel's VXLAN does not look.
	in int
	// cut is what segments of a TCP super-frame are taken to have been that comes
	// from a peer whole, so that nobody knows: the kernel cuts it anew, and what is
	// larger than the containers' bridge takes is lost there, with nobody told who
	// could do better. It is out less Config.BridgeLess.
	cut int
}

// SetMTU changes the size of the largest inner IP packet. The loops take it up
// with their next batch. The device's own MTU is the caller's: one that grows
// has to be changed after this, and one that shrinks before. One goroutine at a
// time may call it.
func (s *Switch) SetMTU(mtu int) error {
	if mtu < s.family.minMTU || mtu > 65535 {
		return fmt.Errorf("MTU %d is not between %d and 65535", mtu, s.family.minMTU)
	}
	now := mtus{out: mtu, in: mtu, cut: mtu - s.BridgeLess}
	if before := s.mtu.Load(); before != nil {
		now.in = max(now.in, before.in)
	}
	s.mtu.Store(&now)
	return nil
}
