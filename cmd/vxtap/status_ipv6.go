// SPDX-License-Identifier: Apache-2.0

package main

import (
	"net/netip"

	"vxtap/encap/ether"
	"vxtap/tunnel"
)

// IPv6Status is the IPv6 half of a dual-stack network. Its fields are those of
// Status by the same names, for the other device and the other overlay.
type IPv6Status struct {
	Reason  string         `json:"reason"` // why this host has no IPv6 half; "" if it has
	Device  string         `json:"device"` // "" where there is none
	Network netip.Prefix   `json:"network"`
	Subnet  netip.Prefix   `json:"subnet"`
	VTEP    netip.Addr     `json:"vtep"`
	Address netip.Addr     `json:"address"`
	MAC     ether.MAC      `json:"mac"`
	MTU     int            `json:"mtu"`
	Offload OffloadsStatus `json:"offloads"`
	TXPath  TXPathStatus   `json:"tx_path"`

	Out             DirectionStatus `json:"out"`
	In              DirectionStatus `json:"in"`
	SocketOverflows uint64          `json:"socket_overflows"`
	TAPOverflows    uint64          `json:"tap_overflows"`
	Peers           []PeerStatus    `json:"peers"`
}

// ipv6Status is what is known of the IPv6 half before there is a switch; nil if
// the network has none.
func (s *segment) ipv6Status() *IPv6Status {
	if !s.config.EnableIPv6 {
		return nil
	}
	st := &IPv6Status{
		Reason: s.noIPv6, Network: s.config.IPv6Network, Offload: offloadsStatus(nil, nil, false),
		TXPath: TXPathStatus{Configured: s.d.txPath, InUse: txUDP, Cut: []CutStatus{}},
		Out:    directionStatus(&tunnel.Direction{}), In: directionStatus(&tunnel.Direction{}), Peers: []PeerStatus{},
	}
	if six := s.ipv6; six != nil {
		st.Device, st.VTEP, st.Address, st.MAC, st.MTU = six.device, six.vtep(), six.addr(), six.mac, int(six.mtu.Load())
		st.TXPath.Reason = six.noUplink
	}
	return st
}

// addSwitch adds what a side that forwards knows.
func (st *IPv6Status) addSwitch(six *side) {
	st.Subnet = six.subnet()
	st.Offload = offloadsStatus(six.tap.Offloads(), six.underlay.Offloads(), six.d.offload.coalesce)
	counts := six.sw.Stats()
	st.TXPath = six.txPathStatus(counts.Out.Whole)
	st.Out, st.In = directionStatus(&counts.Out), directionStatus(&counts.In)
	st.SocketOverflows = six.underlay.Overflows()
	st.Peers = six.peersStatus(counts.Peers)
}

func (s *side) peersStatus(peers []tunnel.PeerStats) []PeerStatus {
	all := make([]PeerStatus, 0, len(peers))
	for _, p := range peers {
		all = append(all, PeerStatus{
			Subnet: p.Subnet, VTEP: p.VTEP, MAC: p.MAC,
			OutFrames: p.OutFrames, OutBytes: p.OutBytes,
			InFrames: p.InFrames, InBytes: p.InBytes,
			Direct: s.isDirect(p.Subnet),
		})
	}
	sortPeers(all)
	return all
}
