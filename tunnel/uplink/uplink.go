// SPDX-License-Identifier: Apache-2.0

// Package uplink is the way by which super-frames leave whole: a second TAP,
// into which a frame is written with its outer headers on and a virtio header
// that says where the tunnel begins (Linux 6.17). The host's own stack then
// forwards it as one packet, as it does with those of a kernel VXLAN device, and
// the segments are cut by the network card, or just before it, or never.
//
// A Device is a tunnel.Uplink. The host may eat what comes that way without a
// word: a firewall's FORWARD policy, reverse path filtering, a rule that changes
// the source. So the way counts as open only after a real super-frame, written
// into it, has been seen to leave by the host's interface unchanged; Run makes
// sure of that again when the host has changed, and while the way is in use.
// There is one way for all peers, and Run asks some of them each time.
package uplink

import (
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

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
	// SourcePort is what a flow's frames have as their outer source port: a rule
	// may be for some ports only.
	SourcePort func(flow uint32) uint16
	Log        *slog.Logger // nil discards
}

// Device is an open uplink TAP. It lives as long as it is open, with all that
// was set for it.
type Device struct {
	Config
	endpoint vxlan.Endpoint
	tap      file
	control  file          // what the control of a proof is sent by
	mark     mark          // of this device
	again    chan struct{} // asks Run to look at once

	say   *rate.Limiter // what is said in the log
	ready atomic.Bool
	used  atomic.Bool // since Run looked last

	mu     sync.Mutex // guards what follows
	peers  []netip.Addr
	next   int        // of peers, modulo their number: to be tried first
	stuck  netip.Addr // the peer that the way is closed for; zero: none
	reason string     // why the way is not open
}

// How often Run looks whether the way is still open.
const (
	// whileUsed bounds how long a rule that nobody told us of, and that is for
	// all peers, may eat frames. It is also the time after which to ask again
	// where nobody answered.
	whileUsed = 2 * time.Second
	whileIdle = 30 * time.Second
	// whileClosed is for whoever has mended a rule and watches.
	whileClosed = 10 * time.Second
	// atLeast is between two looks, however often the host changes. It is time
	// in which frames may be lost: a second had TCP (BBR) take a new stream's path
	// for one of a few segments a second, and keep to that for ten.
	atLeast = 100 * time.Millisecond
)

// Ready implements tunnel.Uplink.
func (d *Device) Ready() bool { return d.ready.Load() }

// Endpoint implements tunnel.Uplink.
func (d *Device) Endpoint() vxlan.Endpoint { return d.endpoint }

// WriteFrame implements tunnel.Uplink. Anyone may call it at the same time.
// When the kernel refuses a frame the way is closed until it is proven again,
// which is not at once: the frame may have been at fault, and the next one too.
func (d *Device) WriteFrame(b []byte) error {
	err := d.tap.write(b)
	if errors.Is(err, tunnel.ErrFull) {
		return err // the kernel is out of memory for the moment
	}
	if err != nil {
		d.ready.Store(false)
		return err
	}
	if !d.used.Load() {
		// The first after a rest: what the last proof was worth, nobody knows.
		d.used.Store(true)
		d.Again()
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
	if open, reason = d.ready.Load(), d.reason; !open && reason == "" {
		reason = refused
	}
	return open, reason
}

// candidates returns up to n peers by turns, and before them the one that the
// way is closed for, if it is still there.
func (d *Device) candidates(n int) []netip.Addr {
	d.mu.Lock()
	defer d.mu.Unlock()
	some := make([]netip.Addr, 0, n+1)
	if slices.Contains(d.peers, d.stuck) {
		some = append(some, d.stuck)
	}
	for range min(n, len(d.peers)) {
		some = append(some, d.peers[d.next%len(d.peers)])
		d.next++
	}
	return some
}
