// SPDX-License-Identifier: Apache-2.0

// Package uplink is the way by which super-frames leave whole: a second TAP,
// into which a frame is written with its outer headers on and a virtio header
// that says where the tunnel begins (Linux 6.17). The host's own stack then
// forwards it as one packet, as it does with those of a kernel VXLAN device, and
// the segments are cut by the network card, or just before it, or never.
//
// A Device is a tunnel.Uplink. The host may eat what comes that way without a
// word: a firewall's FORWARD policy, reverse path filtering, a rule that changes
// the source, a route of a smaller MTU. So each peer has a gate of its own, and
// it is closed until a real super-frame to that peer, written into the TAP, has
// been seen to leave the host unchanged. A gate is opened when somebody wants
// it, proven again every two seconds while it is in use, and at once when the
// host has changed; one that nobody uses closes by itself. Who finds it closed
// has lost nothing: frames leave by UDP sockets then.
package uplink

import (
	"errors"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"vxtap/encap/vxlan"
	"vxtap/tunnel"
)

var _ tunnel.Uplink = (*Device)(nil)

// Config says what the uplink TAP is to be.
type Config struct {
	Name  string         // of the TAP, at most 15 bytes; it must not exist
	Local netip.AddrPort // the host's underlay address, IPv4, and the VXLAN port of both ends
	MTU   int            // of the overlay: the size of the segments that must pass
	// Must makes what stands in the way for the whole host an error of Open.
	// Without it the gates stay closed until the host has been changed.
	Must bool
	// Ports are the outer source ports that frames have, one or more: a rule may
	// be for some of them only, and each is proven.
	Ports []uint16
	Log   *slog.Logger // nil discards
}

// What somebody else can have done to the TAP. Plain values, as those of
// package tunnel are: a lane gets them for a frame.
var (
	errDown    = errors.New("somebody took it down")
	errDeleted = errors.New("somebody deleted it")
)

// Device is an open uplink TAP. It lives as long as it is open, with all that
// was set for it.
type Device struct {
	Config
	endpoint vxlan.Endpoint
	tap      file
	control  file          // what the control of a proof is sent by
	mark     mark          // of this device
	changed  chan struct{} // the host has: tells Run to look at all that is open
	wake     chan struct{} // somebody wants a gate
	say      *rate.Limiter // what is said in the log

	// What the tests put in the place of the host.
	prove func([]question) []answer        // answers each, in this order
	mend  func() (changed bool, err error) // sets the TAP up as it should be

	spare time.Time // when Run may ask about gates that nobody wants
	said  summary   // in the log

	// mu guards the map, what the gates say that it does, and what Move and
	// SetMTU change: endpoint, Local and MTU.
	mu    sync.Mutex
	gates map[netip.Addr]*gate
	named int // how often Gates was called
	// listed is what Gates returned last: all of them are in gates.
	listed []*gate
	moves  int // how often all that was known became void
}

// newDevice returns one without a TAP.
func newDevice(c Config) *Device {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return &Device{
		Config:  c,
		tap:     -1,
		control: -1,
		changed: make(chan struct{}, 1),
		wake:    make(chan struct{}, 1),
		// A host that is being set up may say much at once; one that goes on, little.
		say: rate.NewLimiter(rate.Every(10*time.Second), 20),
	}
}

// Gates implements tunnel.Uplink.
func (d *Device) Gates(vteps []netip.Addr) []tunnel.Gate {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.gates == nil {
		d.gates = make(map[netip.Addr]*gate, len(vteps))
	}
	d.named++
	first := len(d.gates) == 0
	list := make([]tunnel.Gate, len(vteps))
	named := 0
	for i, v := range vteps {
		g := d.find(i, v)
		if g == nil {
			g = &gate{d: d, vtep: v}
			d.gates[v] = g
		}
		if g.named != d.named {
			g.named = d.named
			named++
		}
		if list[i] = g; i < len(d.listed) {
			d.listed[i] = g
		} else {
			d.listed = append(d.listed, g)
		}
	}
	if named < len(d.gates) { // of ten thousand peers, rarely one goes
		for v, g := range d.gates {
			if g.named != d.named {
				g.open.Store(false)
				delete(d.gates, v)
			}
		}
	}
	if first && len(vteps) > 0 {
		tell(d.wake)
	}
	clear(d.listed[len(vteps):])
	d.listed = d.listed[:len(vteps)]
	return list
}

// find returns the gate of v, nil if there is none. Mostly it is where it was at
// the last call.
func (d *Device) find(i int, v netip.Addr) *gate {
	if i < len(d.listed) && d.listed[i].vtep == v {
		return d.listed[i]
	}
	return d.gates[v]
}

// Again makes Run look at once at all that is open, for the host has changed.
// Anyone may call it.
func (d *Device) Again() { tell(d.changed) }

// tell puts an event on a channel that has room for one.
func tell(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default: // there is one
	}
}

// State is what is known of the gates.
type State struct {
	// Open says that super-frames to some peer leave whole, or did when they
	// were last wanted.
	Open   bool
	Wanted int    // to how many peers they leave whole at present: the gates of others rest
	Reason string // why they leave whole to none, else ""
	// Cut is how many peers they do not leave whole to although others have
	// them so, or could have; Some are a few of these, ordered by address.
	Cut  int
	Some []Cut
}

// Cut is one peer that the host lets no super-frame through to.
type Cut struct {
	VTEP   netip.Addr
	Reason string
}

// some is how many peers State names.
const some = 8
