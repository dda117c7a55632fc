// SPDX-License-Identifier: Apache-2.0

package uplink

import (
	"net/netip"

	"vxtap/encap/vxlan"
)

// What frames are made of can change while they are being sent: the host gets
// another address, the overlay another MTU. Then nothing is proven any more.

// Endpoint implements tunnel.Uplink.
func (d *Device) Endpoint() vxlan.Endpoint {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.endpoint
}

// local is the host's underlay address.
func (d *Device) local() netip.Addr {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.Local.Addr()
}

// mtu is the overlay's.
func (d *Device) mtu() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.MTU
}

// Move says that the host has another address. Every gate closes until the way
// is proven from there. Whoever has made headers of Endpoint makes them anew. One
// goroutine at a time may call it, and Run may be at work.
func (d *Device) Move(local netip.Addr) error {
	if err := d.moveControl(local); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.Local = netip.AddrPortFrom(local, d.Local.Port())
	d.endpoint.Local = d.Local
	d.startAfresh()
	return nil
}

// SetMTU says that the overlay has another MTU. A larger one closes every gate
// until segments of that size are proven to pass. Anyone may call it.
func (d *Device) SetMTU(mtu int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	larger := mtu > d.MTU
	d.MTU = mtu
	if larger {
		d.startAfresh()
	}
}

// startAfresh forgets what is known of all gates, and the answer that Run may be
// waiting for. The lock is held.
func (d *Device) startAfresh() {
	d.moves++
	for _, g := range d.gates {
		g.open.Store(false)
		g.answer, g.stale = answer{}, true
	}
	tell(d.wake)
}
