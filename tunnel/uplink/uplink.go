// SPDX-License-Identifier: Apache-2.0

// Package uplink is the way by which super-frames leave whole: a second TAP,
// into which a frame is written with its outer headers on and a virtio header
// that says where the tunnel begins (Linux 6.17). The host's own stack then
// forwards it as one packet, as it does with those of a kernel VXLAN device, and
// the segments are cut by the network card, or just before it, or never.
//
// A Device is a tunnel.Uplink. The host may eat what comes that way without a
// word: a firewall's FORWARD policy, reverse path filtering, a rule that changes
// the source. So the way counts as open only while a real super-frame, written
// into it, has been seen to leave by the host's interface unchanged; Run makes
// sure of that again when the host has changed, and while the way is in use.
package uplink

import (
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"vxtap/encap/vxlan"
	"vxtap/tunnel"
)

var _ tunnel.Uplink = (*Device)(nil)

// Config says what the uplink TAP is to be.
type Config struct {
	Name      string         // of the TAP, at most 15 bytes; it must not exist
	Interface int            // index of the host's interface by which tunnelled frames leave
	Local     netip.AddrPort // the host's address there, IPv4, and the VXLAN port of both ends
	MTU       int            // of the overlay: the size of the segments that must pass
	Log       *slog.Logger   // nil discards
}

// Device is an open uplink TAP. It lives as long as it is open, with all that
// was set for it.
type Device struct {
	Config
	endpoint vxlan.Endpoint
	tap      file
	control  file          // what the control of a proof is sent by
	port     uint16        // of control, and of the probes
	again    chan struct{} // asks Run to look at once

	ready atomic.Bool
	used  atomic.Bool // since Run looked last

	mu     sync.Mutex // guards what follows
	peers  []netip.Addr
	next   int    // of peers, modulo their number: to be tried first
	reason string // why the way is not open
}

// How often Run looks whether the way is still open.
const (
	// whileUsed bounds how long a rule that nobody told us of may eat frames,
	// and is good for whoever gave no answer.
	whileUsed = 2 * time.Second
	whileIdle = 30 * time.Second
	// whileClosed is for whoever has mended a rule and watches.
	whileClosed = 10 * time.Second
)

// Ready implements tunnel.Uplink.
func (d *Device) Ready() bool { return d.ready.Load() }

// Endpoint implements tunnel.Uplink.
func (d *Device) Endpoint() vxlan.Endpoint { return d.endpoint }

// WriteFrame implements tunnel.Uplink. Anyone may call it at the same time.
// When the kernel refuses a frame the way is closed until it has been proven
// again.
func (d *Device) WriteFrame(b []byte) error {
	if err := d.tap.write(b); err != nil {
		d.ready.Store(false)
		d.Again()
		return err
	}
	if !d.used.Load() {
		d.used.Store(true)
	}
	return nil
}

// SetPeers says which hosts there are to prove the way with. Anyone may call it.
func (d *Device) SetPeers(peers []tunnel.Peer) {
	vteps := make([]netip.Addr, len(peers))
	for i, p := range peers {
		vteps[i] = p.VTEP
	}
	d.mu.Lock()
	first := len(d.peers) == 0
	d.peers = vteps
	d.mu.Unlock()
	if first && len(vteps) > 0 {
		d.Again()
	}
}

// Again makes Run look at once. Anyone may call it.
func (d *Device) Again() {
	select {
	case d.again <- struct{}{}:
	default: // it is going to
	}
}

// State returns whether the way is open, and if not why. Anyone may call it.
func (d *Device) State() (open bool, reason string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.ready.Load(), d.reason
}

// candidates returns up to n peers, beginning with another one each time.
func (d *Device) candidates(n int) []netip.Addr {
	d.mu.Lock()
	defer d.mu.Unlock()
	some := make([]netip.Addr, 0, n)
	for i := range min(n, len(d.peers)) {
		some = append(some, d.peers[(d.next+i)%len(d.peers)])
	}
	d.next++
	return some
}
