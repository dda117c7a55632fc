// SPDX-License-Identifier: Apache-2.0

// Package underlay has the UDP sockets that carry VXLAN. A Conn is a
// tunnel.Underlay.
//
// Datagrams are received on a socket for each lane, all bound to the VXLAN port,
// and sent from
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

// Config says which sockets to open.
type Config struct {
	// Local is the address to send from and receive on, and the VXLAN port of
	// both ends: flannel's nodes all use the same one. Its IP version is that of
	// the underlay. A link-local one has its zone, which all peers are in then.
	//
	// Over IPv6 every datagram leaves with a checksum and must come with one, as
	// a kernel VXLAN device has it (RFC 8200, section 8.1); there is no switch.
	Local netip.AddrPort
	// Lanes is how many receiving sockets share the port, 0 for one. The
	// kernel gives each flow of the underlay to one of them (SO_REUSEPORT).
	Lanes   int
	Segment bool // use UDP_SEGMENT: the kernel cuts runs of datagrams
	GRO     bool // use UDP_GRO: the kernel joins them
	Log     *slog.Logger
}

// Conn is the open sockets.
type Conn struct {
	six      bool // of IPv6
	lanes    []Lane
	ports    []uint16 // that datagrams leave from
	close    func() error
	rebind   func(netip.Addr) error // nil: it cannot
	offloads func() []string
}

// Lane is what one lane of the switch uses of a Conn.
type Lane interface {
	tunnel.Underlay
	// Descriptor returns what becomes readable with the next datagram, or -1
	// where a receive cannot look without waiting.
	Descriptor() int
	// overflows is how many receives found the receive buffer full. Anyone may
	// call it.
	overflows() uint64
}

// Open opens the sockets. The caller closes them after the loops that use them
// have ended.
func Open(c Config) (*Conn, error) {
	switch a := c.Local.Addr(); {
	case !a.IsValid() || a.Is4In6():
		return nil, fmt.Errorf("underlay address %s is none", a)
	case a.Is6() && a.IsLinkLocalUnicast() && a.Zone() == "":
		return nil, fmt.Errorf("underlay address %s is link-local, and nothing says on which interface", a)
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	c.Lanes = max(1, c.Lanes)
	conn, err := open(c)
	if err != nil {
		return nil, err
	}
	conn.six = c.Local.Addr().Is6()
	return conn, nil
}

// Lanes returns the lanes, as many as were asked for. Where the platform cannot
// share a port it is one.
func (c *Conn) Lanes() []Lane { return c.lanes }

// SourcePorts returns the ports that datagrams leave from, whatever their flow.
func (c *Conn) SourcePorts() []uint16 { return c.ports }

// Offloads names what is in use right now: "udp-segment", "udp-gro". It is
// safe for concurrent use.
func (c *Conn) Offloads() []string { return c.offloads() }

// Overflows returns how many receives found a receive buffer full: the kernel's
// own count, to which a run of datagrams that it has joined, or a super-frame,
// is one. All its counts are of such (SO_MEMINFO, SO_RXQ_OVFL, /proc/net/udp,
// RcvbufErrors), so that how many frames were lost nobody knows. It is safe for
// concurrent use.
func (c *Conn) Overflows() (sum uint64) {
	for _, l := range c.lanes {
		sum += l.overflows()
	}
	return sum
}

// Close closes all sockets. No call of a lane may be under way.
func (c *Conn) Close() error { return c.close() }

const (
	// maxDatagram is the largest payload of a UDP datagram, and of
	// a receive that joins several.
	maxDatagram = 1<<16 - 1
	// sendSockets is how many source ports a host uses for each lane, as far as
	// maxSendSockets. Peers spread flows over receive queues by source port;
	// more than their queues are no use.
	sendSockets    = 8
	maxSendSockets = 32
	// bufferSize is what each socket may queue; Linux doubles it, for what it
	// needs beside the bytes. The default of 208 KiB holds two super-frames,
	// which is gone in one scheduling delay. Four TCP streams with windows of
	// 6 MB (tcp_rmem) may all be waiting here while the loop is off the
	// processor, and lost some with half as much.
	bufferSize = 16 << 20
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

// socketOf returns which of n sockets a flow leaves by. It is the same for all
// lanes: a flow keeps its port whichever lane it comes through.
func socketOf(flow uint32, n int) int { return int(uint64(flow) * uint64(n) >> 32) }
