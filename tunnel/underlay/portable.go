// SPDX-License-Identifier: Apache-2.0

package underlay

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"

	"vxtap/tunnel"
)

// portable is the back end for platforms without recvmmsg and offloads: one
// datagram a call, through golang.org/x/net. It is compiled, and tested, on
// Linux too.
type portable struct {
	receive  packetConn
	messages []ipv4.Message

	send  []packetConn
	ports []uint16 // of send
	port  uint16
	one   [1]ipv4.Message // to send

	stopped atomic.Bool
}

// packetConn is an ipv4.PacketConn or an ipv6.PacketConn.
type packetConn interface {
	ReadBatch(ms []ipv4.Message, flags int) (int, error)
	WriteBatch(ms []ipv4.Message, flags int) (int, error)
	SetReadDeadline(t time.Time) error
	Close() error
}

func newPacketConn(conn *net.UDPConn, local netip.AddrPort) packetConn {
	if local.Addr().Is6() {
		return ipv6.NewPacketConn(conn)
	}
	return ipv4.NewPacketConn(conn)
}

func openPortable(c Config) (*Conn, error) {
	p := &portable{port: c.Local.Port()}
	if err := p.open(c); err != nil {
		p.Close()
		return nil, err
	}
	return &Conn{lanes: []Lane{p}, ports: p.ports, close: p.Close, offloads: func() []string { return nil }}, nil
}

func (p *portable) open(c Config) error {
	conn, err := listenUDP(c.Local)
	if err != nil {
		return fmt.Errorf("open UDP socket %s: %w", c.Local, err)
	}
	p.receive = newPacketConn(conn, c.Local)
	_ = conn.SetReadBuffer(bufferSize)
	p.messages = make([]ipv4.Message, 1)
	p.messages[0].Buffers = [][]byte{make([]byte, maxDatagram)}
	for range sendSockets {
		err := bindRandom(func(port uint16) error {
			conn, err := listenUDP(netip.AddrPortFrom(c.Local.Addr(), port))
			if err == nil {
				p.send, p.ports = append(p.send, newPacketConn(conn, c.Local)), append(p.ports, port)
			}
			return err
		})
		if err != nil {
			return fmt.Errorf("open sending sockets on %s: %w", c.Local.Addr(), err)
		}
	}
	return nil
}

func listenUDP(local netip.AddrPort) (*net.UDPConn, error) {
	network := "udp4"
	if local.Addr().Is6() {
		network = "udp6"
	}
	var lc net.ListenConfig
	conn, err := lc.ListenPacket(context.Background(), network, local.String())
	if err != nil {
		return nil, err
	}
	return conn.(*net.UDPConn), nil
}

// Receive implements tunnel.Underlay. It cannot look without waiting, so that
// every datagram is a batch of its own.
func (p *portable) Receive(datagrams []tunnel.Datagram, wait bool) (int, error) {
	if !wait {
		return 0, tunnel.ErrEmpty
	}
	for !p.stopped.Load() {
		n, err := p.receive.ReadBatch(p.messages, 0)
		if err != nil {
			if p.stopped.Load() {
				break
			}
			return 0, fmt.Errorf("receive: %w", err)
		}
		from, ok := p.messages[0].Addr.(*net.UDPAddr)
		if n == 0 || !ok {
			continue
		}
		datagrams[0] = tunnel.Datagram{
			Data: p.messages[0].Buffers[0][:p.messages[0].N],
			From: from.AddrPort().Addr().Unmap().WithZone(""),
		}
		return 1, nil
	}
	return 0, tunnel.ErrInterrupted
}

// Send implements tunnel.Underlay. The outer TOS stays 0: x/net has no way to
// set it for one datagram.
func (p *portable) Send(messages []tunnel.Message) {
	for i := range messages {
		m := &messages[i]
		m.Lost, m.Err = 0, nil
		conn := p.send[socketOf(m.Flow, len(p.send))]
		to := net.UDPAddrFromAddrPort(netip.AddrPortFrom(m.To, p.port))
		for j, seg := range m.Segments {
			p.one[0] = ipv4.Message{Buffers: [][]byte{seg.Header, seg.Payload}, Addr: to}
			if _, err := conn.WriteBatch(p.one[:], 0); err != nil {
				m.Lost, m.Err = m.Lost|1<<j, tunnel.ErrFrame
			}
		}
	}
}

// SourcePort implements tunnel.Underlay.
func (p *portable) SourcePort(flow uint32) uint16 { return p.ports[socketOf(flow, len(p.ports))] }

// Descriptor implements Lane: reads wait in the runtime's poller.
func (p *portable) Descriptor() int { return -1 }

// MaxSegments implements tunnel.Underlay.
func (p *portable) MaxSegments() int { return 1 }

// overflows implements Lane: the platforms do not say.
func (p *portable) overflows() uint64 { return 0 }

// Interrupt implements tunnel.Underlay.
func (p *portable) Interrupt() {
	p.stopped.Store(true)
	_ = p.receive.SetReadDeadline(time.Unix(1, 0))
}

// Close closes all sockets.
func (p *portable) Close() error {
	var errs []error
	if p.receive != nil {
		errs = append(errs, p.receive.Close())
	}
	for _, c := range p.send {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}
