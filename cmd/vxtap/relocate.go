// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
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
// has followed. own is the lease of the segment that ended.
func (d *daemon) relocate(ctx context.Context, own lease.Lease) {
	var said bool
	for deadline := time.Now().Add(relocateWithin); ; {
		moved, err := d.lookForHome(own)
		if err == nil {
			if moved {
				d.redial()
			}
			return
		}
		if !said {
			d.log.Warn("the tunnel's address is gone, waiting for one", "address", d.at().uplink.Addr, "error", err)
			said = true
		}
		if time.Now().After(deadline) || pause(ctx, relocateEvery) != nil {
			return
		}
	}
}

// lookForHome reports whether the host has another address than it had. It has
// none that the tunnel could use where there is an error.
func (d *daemon) lookForHome(own lease.Lease) (moved bool, err error) {
	at := d.at()
	if _, err := host.FindUplink(host.Choice{Names: []string{at.uplink.Addr.String()}}); err == nil {
		return false, nil
	}
	if d.publicIP.IsValid() && at.uplink.Addr == d.publicIP {
		return false, fmt.Errorf("-public-ip=%s is on no interface any more", d.publicIP)
	}
	up, err := host.FindUplink(d.settings.uplink)
	if err != nil {
		return false, err
	}
	d.before, d.formerPath = own, d.memoryPath()
	d.home.Store(d.homeAt(up))
	d.log.Warn("the tunnel's address is another one now, following", "address", up.Addr, "interface", up.Name,
		"before", at.uplink.Addr, "vtep", d.at().vtep)
	return true, nil
}
