// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"log/slog"
	"net/netip"
	"sync/atomic"

	"vxtap/encap/ether"
	"vxtap/tunnel"
	"vxtap/tunnel/tap"
	"vxtap/tunnel/underlay"
	"vxtap/tunnel/uplink"
)

// side is one address family of a segment: a device, and what packets of that
// family go through. All sides share the segment's lease and its place in etcd.
// All but dropping and mtu is set before run.
type side struct {
	*segment
	log    *slog.Logger
	device string
	mac    ether.MAC
	mtu    atomic.Int32 // of the device, in bytes

	underlay *underlay.Conn
	tap      *tap.Device
	whole    *uplink.Device // nil: super-frames are cut here, and noUplink says why
	noUplink string
	sw       *tunnel.Switch
	takeover

	waiters  []tunnel.Waiter // of the lanes
	hostNews chan struct{}   // tells watchHost to look at the host
	tooSmall int             // the MTU that was refused last
	previous netip.Prefix    // the network that rules may be left of
	dropping atomic.Pointer[[]string]
	routes   routesState
}

// addSide gives s a side more.
func (s *segment) addSide(device string) *side {
	one := &side{
		segment:  s,
		device:   device,
		log:      s.d.log.With("device", device),
		hostNews: make(chan struct{}, 1),
		routes:   newRoutesState(),
	}
	s.sides = append(s.sides, one)
	return one
}

// each returns a step that takes step on every side in turn.
func (s *segment) each(step func(*side, context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		for _, one := range s.sides {
			if err := step(one, ctx); err != nil {
				return err
			}
		}
		return nil
	}
}

// network is the side's part of the overlay.
func (s *side) network() netip.Prefix { return s.config.Network }

// subnet is this host's part of network.
func (s *side) subnet() netip.Prefix { return s.own.Load().Subnet }
