// SPDX-License-Identifier: Apache-2.0

package main

import (
	"net/netip"

	"vxtap/tunnel/host"
)

// home is where this host is in the underlay. It changes while the daemon runs,
// when the host gets another address.
type home struct {
	uplink host.Uplink
	vtep   netip.Addr // the address in our lease
}

// homeAt returns where a host is whose tunnel is carried by up.
func (s settings) homeAt(up host.Uplink) *home {
	h := &home{uplink: up, vtep: s.publicIP}
	if !h.vtep.IsValid() {
		h.vtep = up.Addr
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
