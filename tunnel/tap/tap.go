// SPDX-License-Identifier: Apache-2.0

// Package tap opens TAP devices. A Queue of one is a tunnel.Port.
//
// There are two back ends. On Linux with offloads the device is opened here,
// with IFF_VNET_HDR: then the kernel hands over super-frames of 64 KiB whole
// and with partial checksums, which is where the speed comes from. Everywhere
// else, and with offloads off, songgao/water opens it and every frame is
// complete.
package tap

import (
	"errors"
	"log/slog"

	"vxtap/encap/ether"
	"vxtap/tunnel"
)

// Config says which device to open.
type Config struct {
	Name   string    // of the device to create, at most 15 bytes; it must not exist
	MAC    ether.MAC // of the device; zero leaves the kernel's choice
	Queues int       // 0 for one; the kernel spreads flows over them
	// Want is what to ask the kernel for. Without checksums there is nothing
	// else, and every frame comes complete.
	Want tunnel.Offloads
	Log  *slog.Logger // nil discards
}

// Device is an open TAP. The device lives as long as it is open: Close, and
// also the end of the process, removes it with its addresses and routes.
type Device struct {
	name     string
	queues   []Queue
	offloads func() []string
}

// ErrDeleted is what a read returns after somebody deleted the device.
var ErrDeleted = errors.New("somebody deleted the TAP")

// Queue is one queue of a Device.
type Queue interface {
	tunnel.Port
	// Descriptor returns what becomes readable with the next frame, or -1
	// where a read cannot look without waiting.
	Descriptor() int
	Close() error
}

// Open creates the TAP. The caller closes it after the loops that use it have
// ended.
func Open(c Config) (*Device, error) {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	c.Queues = max(1, c.Queues)
	if c.Want.Csum && haveVnetHdr {
		return openVnet(c)
	}
	return openWater(c)
}

// Name returns the device's name.
func (d *Device) Name() string { return d.name }

// Queues returns the queues, as many as were asked for where offloads are in
// use, else one.
func (d *Device) Queues() []Queue { return d.queues }

// Offloads names what is in use right now: "csum", "tso4", "tso6", "ecn",
// "uso4", "uso6". It is empty when frames come complete. It is safe for
// concurrent use.
func (d *Device) Offloads() []string { return d.offloads() }

// Close removes the device. No call of a queue may be under way.
func (d *Device) Close() error {
	var errs []error
	for _, q := range d.queues {
		errs = append(errs, q.Close())
	}
	d.queues = nil
	return errors.Join(errs...)
}
