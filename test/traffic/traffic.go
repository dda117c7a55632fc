// SPDX-License-Identifier: Apache-2.0

// Package traffic sends ICMP, TCP and UDP from one network namespace to another
// and proves what arrived: by SHA-256 for streams, byte for byte for datagrams.
// Every call is bounded in bytes, and in time by its context.
package traffic

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"

	"vxtap/cmd/vxlab/netns"
	"vxtap/cmd/vxlab/traffic"
)

// End is where traffic starts or ends: an address inside a namespace.
type End struct {
	Namespace *netns.Namespace
	Addr      netip.Addr
}

// String returns the end as it appears in a failure.
func (e End) String() string { return fmt.Sprintf("%s (%s)", e.Addr, e.Namespace.Name()) }

// Ping sends n ICMP echo requests one after another; each must be answered.
func Ping(ctx context.Context, from, to End, n int) error {
	p, err := traffic.NewPinger(from.Namespace, to.Addr, uint16(n))
	if err != nil {
		return fmt.Errorf("ping %s to %s: %w", from, to, err)
	}
	defer p.Close()
	if _, err := p.Measure(ctx, n); err != nil {
		return fmt.Errorf("ping %s to %s: %w", from, to, err)
	}
	return nil
}

// Stream sends n bytes over one TCP connection and compares their SHA-256 at
// both ends. It returns the rate in bits a second.
func Stream(ctx context.Context, from, to End, n int64) (float64, error) {
	t, err := traffic.Send(ctx, from.Namespace, to.Namespace, to.Addr, n)
	if err != nil {
		return 0, fmt.Errorf("TCP %s to %s: %w", from, to, err)
	}
	return t.BitsPerSecond(), nil
}

// Datagrams sends one UDP datagram of each size and waits for each to come
// back. Nothing may be lost, and nothing repeated: the path is ours alone.
func Datagrams(ctx context.Context, from, to End, sizes ...int) error {
	p, err := newUDPPair(ctx, from, to)
	if err != nil {
		return fmt.Errorf("UDP %s to %s: %w", from, to, err)
	}
	defer p.Close()
	for _, size := range sizes {
		if err := p.exchange(size); err != nil {
			return fmt.Errorf("UDP %s to %s, %d bytes: %w", from, to, size, err)
		}
	}
	return nil
}

// Segments sends n datagrams of size bytes in one call that the kernel cuts
// (UDP_SEGMENT), and checks that each arrives as a datagram of its own, in
// order.
func Segments(ctx context.Context, from, to End, size, n int) error {
	p, err := newUDPPair(ctx, from, to)
	if err != nil {
		return fmt.Errorf("UDP_SEGMENT %s to %s: %w", from, to, err)
	}
	defer p.Close()
	if err := p.segments(size, n); err != nil {
		return fmt.Errorf("UDP_SEGMENT %s to %s, %d of %d bytes: %w", from, to, n, size, err)
	}
	return nil
}

// udpPair is a connected socket and one that listens.
type udpPair struct {
	near, far *net.UDPConn
	random    *rand.ChaCha8
	got       []byte // where datagrams are read to
}

func newUDPPair(ctx context.Context, from, to End) (*udpPair, error) {
	p := &udpPair{random: rand.NewChaCha8([32]byte{1}), got: make([]byte, 1<<16)}
	err := to.Namespace.Do(func() (err error) {
		p.far, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(to.Addr, 0)))
		return err
	})
	if err != nil {
		return nil, err
	}
	conn, err := from.Namespace.DialContext(ctx, "udp", p.far.LocalAddr().String())
	if err != nil {
		p.far.Close()
		return nil, err
	}
	near, ok := conn.(*net.UDPConn)
	if !ok {
		p.far.Close()
		conn.Close()
		return nil, fmt.Errorf("dial returned a %T", conn)
	}
	p.near = near
	deadline, _ := ctx.Deadline()
	_ = p.near.SetDeadline(deadline)
	_ = p.far.SetDeadline(deadline)
	return p, nil
}

// Close closes both sockets.
func (p *udpPair) Close() {
	p.near.Close()
	p.far.Close()
}

// exchange sends one datagram there and back.
func (p *udpPair) exchange(size int) error {
	want, got := make([]byte, size), p.got
	_, _ = p.random.Read(want)
	if _, err := p.near.Write(want); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	n, peer, err := p.far.ReadFromUDPAddrPort(got)
	if err != nil || !bytes.Equal(got[:n], want) {
		return errors.Join(fmt.Errorf("on the way there: received %d bytes", n), err)
	}
	if _, err := p.far.WriteToUDPAddrPort(want, peer); err != nil {
		return fmt.Errorf("send back: %w", err)
	}
	if n, err = p.near.Read(got); err != nil || !bytes.Equal(got[:n], want) {
		return errors.Join(fmt.Errorf("on the way back: received %d bytes", n), err)
	}
	return nil
}

func (p *udpPair) segments(size, n int) error {
	if err := setSegmentSize(p.near, size); err != nil {
		return fmt.Errorf("set UDP_SEGMENT: %w", err)
	}
	all := make([]byte, size*n)
	_, _ = p.random.Read(all)
	if _, err := p.near.Write(all); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	got := p.got
	for i := range n {
		length, _, err := p.far.ReadFromUDPAddrPort(got)
		if err != nil || !bytes.Equal(got[:length], all[i*size:(i+1)*size]) {
			return errors.Join(fmt.Errorf("datagram %d: received %d bytes", i, length), err)
		}
	}
	return nil
}
