// SPDX-License-Identifier: Apache-2.0

package tunnel

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"runtime"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"vxtap/encap/buffer"
	"vxtap/encap/ether"
	"vxtap/encap/vxlan"
)

// Config is the parts a Switch is made of.
type Config struct {
	VNI       vxlan.VNI
	MAC       ether.MAC    // our VTEP MAC, the TAP's: what peers address their frames to
	RouterMAC ether.MAC    // the MAC of the gateway that the host's aggregate route points to
	Subnet    netip.Prefix // our own overlay subnet
	MTU       int          // of the TAP: the largest inner IP packet
	GBP       bool         // accept the bits of Group Based Policy in received headers
	Port      Port
	Underlay  Underlay
	Checks    Checks
	Log       *slog.Logger // nil discards
}

// Switch carries the frames of one segment between its TAP and its peers.
type Switch struct {
	Config
	header  vxlan.Header
	buffers *buffer.Pool // of the memory that frames are read into
	table   atomic.Pointer[table]
	out, in ledger
	// stranger is the last sender that was no peer, for the log.
	stranger atomic.Uint32
}

// New checks c and returns a switch without peers that does nothing before
// Run.
func New(c Config) (*Switch, error) {
	buffers := buffer.NewPool(headroom, batchBytes)
	buf := buffers.Get()
	header, err := vxlan.Template(c.VNI, buf)
	buffers.Put(buf)
	switch {
	case err != nil:
		return nil, err
	case c.Port == nil || c.Underlay == nil:
		return nil, errors.New("a switch needs a port and an underlay")
	case c.MAC.IsZero() || c.MAC.IsMulticast() || c.RouterMAC.IsZero() || c.RouterMAC.IsMulticast():
		return nil, fmt.Errorf("VTEP MAC %s and router MAC %s must be unicast", c.MAC, c.RouterMAC)
	case !c.Subnet.Addr().Is4():
		return nil, fmt.Errorf("own subnet %s: only IPv4 overlays are there so far", c.Subnet)
	case c.MTU < 68 || c.MTU > 65535:
		return nil, fmt.Errorf("MTU %d is not between 68 and 65535", c.MTU)
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	s := &Switch{Config: c, header: header, buffers: buffers}
	s.table.Store(newTable(nil, nil))
	return s, nil
}

// SetPeers replaces the forwarding table. The loops take it up with their next
// batch; frames are neither lost nor held up. One goroutine at a time may call
// it. Of two peers with one subnet the later wins.
func (s *Switch) SetPeers(peers []Peer) {
	s.table.Store(newTable(peers, s.table.Load()))
}

// Stats returns a snapshot of all counters. Both directions are balanced.
// Anyone may call it.
func (s *Switch) Stats() Stats {
	return Stats{
		Out:             s.out.snapshot(),
		In:              s.in.snapshot(),
		Peers:           s.table.Load().stats(),
		SocketOverflows: s.Underlay.Overflows(),
	}
}

// Run moves frames until ctx ends, and then returns nil, or until the TAP or
// the socket fails for good. Frames that were read before the end are
// delivered. It closes neither Port nor Underlay, and may be called once.
func (s *Switch) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	out, in := newOutLoop(s), newInLoop(s)
	defer s.buffers.Put(out.frames)
	g.Go(func() error { return loop(out.batch) })
	g.Go(func() error { return loop(in.batch) })
	g.Go(func() error { return newReporter(s).run(ctx) })
	g.Go(func() error {
		<-ctx.Done()
		s.Port.Interrupt()
		s.Underlay.Interrupt()
		return nil
	})
	return g.Wait()
}

// loop moves one batch after another on a thread of its own until it is
// interrupted. A batch sleeps when nothing is queued, takes what is there when
// it wakes, and never waits for more.
func loop(batch func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for {
		err := batch()
		if errors.Is(err, ErrInterrupted) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
