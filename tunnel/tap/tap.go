// SPDX-License-Identifier: Apache-2.0

// Package tap opens TAP devices. A Device is a tunnel.Port.
//
// There are two back ends. On Linux with offloads the device is opened here,
// with IFF_VNET_HDR: then the kernel hands over TCP super-frames of 64 KiB
// whole and with partial checksums, which is where the speed comes from.
// Everywhere else, and with offloads off, songgao/water opens it and every
// frame is complete.
package tap

import (
	"vxtap/encap/ether"
	"vxtap/tunnel"
)

var _ tunnel.Port = (*Device)(nil)

// Config says which device to open.
type Config struct {
	Name    string    // of the device to create, at most 15 bytes; it must not exist
	MAC     ether.MAC // of the device; zero leaves the kernel's choice
	Offload bool      // ask for checksum and segmentation offloads
}

// Device is an open TAP. The device lives as long as it is open: Close, and
// also the end of the process, removes it with its addresses and routes.
type Device struct {
	name string
	port
	offloads []string
}

// port is a back end.
type port interface {
	tunnel.Port
	Close() error
}

// Open creates the TAP. The caller closes it after the loops that use it have
// ended.
func Open(c Config) (*Device, error) {
	if c.Offload && haveVnetHdr {
		return openVnet(c)
	}
	return openWater(c)
}

// Name returns the device's name.
func (d *Device) Name() string { return d.name }

// Offloads names what the device was asked for and granted: "csum", "tso4",
// "tso6", "ecn", "uso4", "uso6". It is empty when frames come complete.
func (d *Device) Offloads() []string { return d.offloads }
