// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"vxtap/lease"
	"vxtap/tunnel/host"
)

const (
	// relocateWithin is how long a segment that is to be opened again waits for an
	// address. Whoever sets a network up anew takes away the addresses and the TAP
	// in the same moment, and the addresses are back soon. After that it is as at a
	// start: the daemon ends, and says why.
	relocateWithin = 10 * time.Second
	relocateEvery  = 100 * time.Millisecond
)

// relocate finds out where the host is, before a segment is opened in the place of
// one that ended. While that one ran followHome did; what came in between, nobody
// has followed. before is that segment.
func (d *daemon) relocate(ctx context.Context, before *segment) {
	var said bool
	for deadline := time.Now().Add(relocateWithin); ; {
		moved, err := d.lookForHome(*before.own.Load(), before.ipv6 != nil)
		if err == nil {
			if moved {
				d.redial()
			}
			return
		}
		if !said {
			d.log.Warn("the tunnel's address is gone, waiting for one", "address", d.at().uplink.Addr, "ipv6", d.at().uplink.Addr6, "error", err)
			said = true
		}
		if time.Now().After(deadline) || pause(ctx, relocateEvery) != nil {
			return
		}
	}
}

// lookForHome reports whether the host, which had own, has another address than it
// had. It has none that the tunnel could use where there is an error. IPv6 counts
// where the host is dual-stack.
func (d *daemon) lookForHome(own lease.Lease, dual bool) (moved bool, err error) {
	at := d.at()
	gone := !isOnHost(at.uplink.Addr)
	gone6 := dual && !isOnHost(at.uplink.Addr6)
	switch {
	case !gone && !gone6:
		return false, nil
	case gone && at.uplink.Addr == d.publicIP:
		return false, fmt.Errorf("-public-ip=%s is on no interface any more", d.publicIP)
	case gone6 && at.uplink.Addr6 == d.publicIPv6:
		return false, fmt.Errorf("-public-ipv6=%s is on no interface any more", d.publicIPv6)
	}
	up, err := host.FindUplink(d.settings.uplink)
	if err != nil {
		return false, err
	}
	if gone6 && !up.Addr6.IsValid() {
		return false, fmt.Errorf("the interface %s has no IPv6 address", up.Name)
	}
	if !gone {
		addr6 := up.Addr6
		up = at.uplink
		up.Addr6 = addr6
	}
	d.before, d.formerPath = own, d.memoryPath()
	d.home.Store(d.homeAt(up))
	d.log.Warn("the tunnel's address is another one now, following", "address", up.Addr, "ipv6", up.Addr6, "interface", up.Name,
		"before", at.uplink.Addr, "ipv6_before", at.uplink.Addr6)
	return true, nil
}

// isOnHost reports whether an interface has the address a.
func isOnHost(a netip.Addr) bool {
	up, err := host.FindUplink(host.Choice{Names: []string{a.String()}})
	return err == nil && (up.Addr == a || up.Addr6 == a)
}
