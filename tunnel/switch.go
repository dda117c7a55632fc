// SPDX-License-Identifier: Apache-2.0

package tunnel

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"vxtap/encap/buffer"
	"vxtap/encap/ether"
	"vxtap/encap/vxlan"
)

// Config is the parts a Switch is made of.
type Config struct {
	VNI        vxlan.VNI
	MAC        ether.MAC    // our VTEP MAC, the TAP's: what peers address their frames to
	RouterMAC  ether.MAC    // the MAC of the gateway that the host's aggregate route points to
	Subnet     netip.Prefix // our own overlay subnet; its IP version is the switch's, inside and outside
	MTU        int          // of the TAP: the largest inner IP packet; SetMTU changes it
	BridgeLess int          // bytes that the containers' bridge takes less than the TAP
	PeerMACs   bool         // frames to the MAC of a peer's VTEP are routed too: the kernel knows peers one by one
	GBP        bool         // accept the bits of Group Based Policy in received headers
	Lanes      []Lane       // one or more
	Uplink     Uplink       // nil: super-frames are cut here; always so with an IPv6 Subnet
	Coalesce   bool         // join received segments of a flow into super-frames, where the TAP takes them
	Checks     Checks
	Log        *slog.Logger // nil discards
}

// Switch carries the frames of one segment between its TAP and its peers.
type Switch struct {
	Config
	header   vxlan.Header
	buffers  *buffer.Pool // of the memory that frames are read into
	table    atomic.Pointer[table]
	mtu      atomic.Pointer[mtus]
	lanes    []laneLedgers // of Config.Lanes, in their order
	pulses   []pulse       // of the same
	family   family
	stranger stranger
}

// laneLedgers are the counters of one lane.
type laneLedgers struct{ out, in ledger }

// New checks c and returns a switch that does nothing before Run. Until
// SetPeers tells it of its peers, frames count as NoPeersYet.
func New(c Config) (*Switch, error) {
	own := familyOf(c.Subnet)
	buffers := buffer.NewPool(headroom, batchBytes)
	buf := buffers.Get()
	header, err := vxlan.Template(c.VNI, buf)
	buffers.Put(buf)
	switch {
	case err != nil:
		return nil, err
	case len(c.Lanes) == 0 || slices.ContainsFunc(c.Lanes, func(l Lane) bool { return l.Port == nil || l.Underlay == nil }):
		return nil, errors.New("a switch needs at least one lane, with a port and an underlay each")
	case c.MAC.IsZero() || c.MAC.IsMulticast() || c.RouterMAC.IsZero() || c.RouterMAC.IsMulticast():
		return nil, fmt.Errorf("VTEP MAC %s and router MAC %s must be unicast", c.MAC, c.RouterMAC)
	case !c.Subnet.IsValid() || c.Subnet.Addr().Is4In6():
		return nil, fmt.Errorf("own subnet %s is none", c.Subnet)
	case c.Uplink != nil && own.scoped:
		return nil, errors.New("whole super-frames leave by an IPv4 underlay only")
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	s := &Switch{Config: c, family: own, header: header, buffers: buffers, lanes: make([]laneLedgers, len(c.Lanes)), pulses: make([]pulse, len(c.Lanes))}
	s.table.Store(&table{})
	return s, s.SetMTU(c.MTU)
}

// SetPeers replaces the forwarding table. The loops take it up with their next
// batch; frames are neither lost nor held up. One goroutine at a time may call
// it. Of two peers with one subnet the later wins; one of the other IP version is
// left out.
func (s *Switch) SetPeers(peers []Peer) {
	old := s.table.Load()
	t := withoutIndex(s.family.ours(peers), old)
	if s.Uplink != nil {
		t.addUplink(s.Uplink, s.header, s.buffers)
	}
	t.index(old)
	if s.PeerMACs {
		t.stations = newStations(t.peers)
	}
	s.table.Store(t)
}

// Peers returns what SetPeers was given last, in a slice of the caller's. Anyone
// may call it.
func (s *Switch) Peers() []Peer {
	all := s.table.Load().peers
	peers := make([]Peer, len(all))
	for i, p := range all {
		peers[i] = p.Peer
	}
	return peers
}

// Stats returns a snapshot of all counters. Both directions are balanced.
// Anyone may call it.
func (s *Switch) Stats() Stats {
	st := Stats{Peers: s.table.Load().stats()}
	for i := range s.lanes {
		st.Out.add(s.lanes[i].out.snapshot())
		st.In.add(s.lanes[i].in.snapshot())
	}
	return st
}

// Run moves frames until ctx ends, and then returns nil, or until the TAP or a
// socket fails for good. Frames that were read before the end are delivered. It
// closes nothing of Config, and may be called once.
func (s *Switch) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	lanes := make([]*lane, len(s.Lanes))
	for i := range lanes {
		lanes[i] = &lane{Lane: s.Lanes[i], pulse: &s.pulses[i], out: newOutLoop(s, i), in: newInLoop(s, i)}
		defer s.buffers.Put(lanes[i].out.frames)
		for _, f := range lanes[i].threads() {
			g.Go(f)
		}
	}
	g.Go(func() error { return newReporter(s).run(ctx) })
	g.Go(func() error {
		<-ctx.Done()
		for _, l := range lanes {
			l.interrupt()
		}
		return nil
	})
	return g.Wait()
}
