// SPDX-License-Identifier: Apache-2.0

// Package underlay has the UDP sockets that carry VXLAN. A Conn is a
// tunnel.Underlay.
//
// Datagrams are received on one socket bound to the VXLAN port, and sent from
// a pool of sockets on ports of their own: the flow inside picks the socket,
// so that routers and network cards on the way can tell flows apart by source
// port (RFC 7348, section 5) while each flow keeps its port, and its order.
//
// On Linux whole batches move in one system call, and the kernel cuts and
// joins datagrams (UDP_SEGMENT, UDP_GRO). Elsewhere golang.org/x/net moves
// what it can.
package underlay

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"

	"vxtap/tunnel"
)

var _ tunnel.Underlay = (*Conn)(nil)

// Config says which sockets to open.
type Config struct {
	// Local is the address to send from and receive on, and the VXLAN port of
	// both ends: flannel's nodes all use the same one.
	Local   netip.AddrPort
	Offload bool // use UDP_SEGMENT and UDP_GRO
	Log     *slog.Logger
}

// Conn is the open sockets.
type Conn struct {
	conn
	offloads func() []string
}

// conn is a back end.
type conn interface {
	tunnel.Underlay
	Close() error
}

// Open opens the sockets. The caller closes them after the loops that use them
// have ended.
func Open(c Config) (*Conn, error) {
	if !c.Local.Addr().Is4() {
		return nil, fmt.Errorf("underlay address %s: only IPv4 underlays are there so far", c.Local.Addr())
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return open(c)
}

// Offloads names what is in use right now: "udp-segment", "udp-gro". It is
// safe for concurrent use.
func (c *Conn) Offloads() []string { return c.offloads() }

const (
	// maxDatagram is the largest payload of a UDP datagram over IPv4, and of
	// a receive that joins several.
	maxDatagram = 1<<16 - 1
	// sendSockets is how many source ports a host uses. Peers spread flows
	// over receive queues by source port; more than their queues are no use.
	sendSockets = 8
	// bufferSize is what each socket may queue. The default of 208 KiB holds
	// two super-frames, which is gone in one scheduling delay.
	bufferSize = 8 << 20
	// Source ports come from the range that RFC 7348 section 5 recommends.
	firstPort, lastPort = 49152, 65535
)

// bindRandom calls bind with ports from the recommended range until one is
// free. The range is half empty on any sane host, so a handful of tries does.
func bindRandom(bind func(port uint16) error) error {
	var err error
	for range 64 {
		if err = bind(uint16(firstPort + rand.IntN(lastPort-firstPort+1))); err == nil {
			return nil
		}
		if !errors.Is(err, errPortTaken) {
			return err
		}
	}
	return fmt.Errorf("no free source port between %d and %d: %w", firstPort, lastPort, err)
}
