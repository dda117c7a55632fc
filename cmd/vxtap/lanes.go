// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"vxtap/encap/vxlan"
	"vxtap/tunnel"
	"vxtap/tunnel/host"
	"vxtap/tunnel/poll"
	"vxtap/tunnel/tap"
	"vxtap/tunnel/underlay"
	"vxtap/tunnel/uplink"
)

// Opening what frames go through: the sockets, the TAP, the uplink TAP, and the
// lanes that join a queue of the one with a socket of the other.

func (s *side) openUnderlay(ctx context.Context) error {
	var conn *underlay.Conn
	err := s.d.onceFree(ctx, func() (err error) {
		conn, err = underlay.Open(underlay.Config{
			Local:   s.local(),
			Lanes:   s.queues(),
			Segment: s.d.offload.segment,
			GRO:     s.d.offload.gro,
			Log:     s.log,
		})
		return err
	})
	if errors.Is(err, syscall.EADDRINUSE) { // somebody has taken it since check: say who
		err = errors.Join(host.CheckFree(s.device, s.config.Backend.Port, s.local().Addr()), err)
	}
	if err != nil {
		return err
	}
	s.underlay = conn
	s.closers = append(s.closers, conn.Close)
	return nil
}

// local is the address that datagrams leave from, and the port of both ends.
func (s *side) local() netip.AddrPort {
	up := s.d.at().uplink
	if s.family == ipv6 {
		return netip.AddrPortFrom(up.Local6(), s.config.Backend.Port)
	}
	return netip.AddrPortFrom(up.Addr, s.config.Backend.Port)
}

// queues is how many there are to be. The back end without offloads has one.
func (s *segment) queues() int {
	if !s.d.offload.csum {
		return 1
	}
	return s.d.queues
}

func (s *side) openTAP(ctx context.Context) error {
	var dev *tap.Device
	err := s.d.onceFree(ctx, func() (err error) {
		dev, err = tap.Open(tap.Config{Name: s.device, MAC: s.mac, Queues: s.queues(), Want: s.d.offload.tap(), Log: s.log})
		return err
	})
	if errors.Is(err, syscall.EBUSY) {
		err = errors.Join(host.CheckDevice(s.device), err)
	}
	if err != nil {
		return err
	}
	s.tap = dev
	if i, err := net.InterfaceByName(s.device); err == nil { // else its name is all there is to find it by
		s.index = i.Index
	}
	s.closers = append(s.closers, dev.Close)
	return nil
}

// openUplink opens the way for whole super-frames where there is one, and notes
// why not where there is none.
func (s *side) openUplink(ctx context.Context) error {
	if s.noUplink = s.d.withoutUplink(); s.noUplink == "" && s.family == ipv6 {
		s.noUplink = "the way for whole super-frames is there for an IPv4 underlay only"
	}
	if s.noUplink != "" {
		return nil
	}
	var dev *uplink.Device
	err := s.d.onceFree(ctx, func() (err error) {
		dev, err = uplink.Open(uplink.Config{
			Name:  uplinkName(s.config.Backend.VNI),
			Local: s.local(),
			MTU:   int(s.mtu.Load()),
			Must:  s.d.txPath == txUplink,
			Ports: s.underlay.SourcePorts(),
			Log:   s.log,
		})
		return err
	})
	switch {
	case err == nil:
		s.whole = dev
		s.closers = append(s.closers, dev.Close)
	case s.d.txPath == txUplink:
		return fmt.Errorf("-tx-path=uplink: %w", err)
	default:
		s.noUplink = err.Error()
		s.log.Info("super-frames are cut here", "reason", err)
	}
	return nil
}

// uplinkName is the name of the uplink TAP of a VNI.
func uplinkName(vni vxlan.VNI) string { return fmt.Sprintf("%s%d", uplinkNames, vni) }

// uplinkNames is what all of them begin with.
const uplinkNames = "vxup."

// lanes joins the queues of the TAP with the sockets, one of each to a lane.
func (s *side) lanes() ([]tunnel.Lane, error) {
	queues, sockets := s.tap.Queues(), s.underlay.Lanes()
	if len(queues) != len(sockets) {
		return nil, fmt.Errorf("%d queues and %d sockets", len(queues), len(sockets)) // not reached: both were asked for as many
	}
	lanes := make([]tunnel.Lane, len(queues))
	for i := range lanes {
		lanes[i] = tunnel.Lane{Port: queues[i], Underlay: sockets[i]}
		a, b := queues[i].Descriptor(), sockets[i].Descriptor()
		if a < 0 || b < 0 {
			continue
		}
		p, err := poll.New(a, b)
		if errors.Is(err, errors.ErrUnsupported) {
			continue
		}
		if err != nil {
			return nil, err
		}
		lanes[i].Waiter = p
		s.waiters = append(s.waiters, p)
		s.closers = append(s.closers, p.Close)
	}
	return lanes, nil
}
