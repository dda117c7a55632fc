// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"net/netip"

	"vxtap/lease"
	"vxtap/tunnel/host"
)

// home is where this host is in the underlay. It changes while the daemon runs,
// when the host gets another address.
type home struct {
	uplink host.Uplink
	vtep   netip.Addr // the address in our lease
	vtep6  netip.Addr // the same of IPv6; the zero Addr where there is none
}

// homeAt returns where a host is whose tunnel is carried by up.
func (s settings) homeAt(up host.Uplink) *home {
	h := &home{uplink: up, vtep: s.publicIP, vtep6: s.publicIPv6}
	if !h.vtep.IsValid() {
		h.vtep = up.Addr
	}
	if !h.vtep6.IsValid() {
		h.vtep6 = up.Addr6
	}
	return h
}

// at returns where the host is. Anyone may call it.
func (d *daemon) at() home {
	if h := d.home.Load(); h != nil {
		return *h
	}
	return home{}
}

// outside returns an error if an address that the tunnel uses lies in the network
// of c: the tunnel would carry itself.
func (d *daemon) outside(c lease.Config) error {
	at := d.at()
	inside := func(network netip.Prefix, addrs ...netip.Addr) error {
		for _, a := range addrs {
			if network.Contains(a) {
				return fmt.Errorf("address %s of this host lies inside the overlay's Network %s, so that the tunnel would carry itself: "+
					"choose another interface with -iface, or another Network", a, network)
			}
		}
		return nil
	}
	err := inside(c.Network, at.uplink.Addr, at.vtep)
	if err == nil && c.EnableIPv6 && d.withoutIPv6(c.Backend) == "" {
		err = inside(c.IPv6Network, at.uplink.Addr6.WithZone(""), at.vtep6)
	}
	return err
}
