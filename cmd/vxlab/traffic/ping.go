// SPDX-License-Identifier: Apache-2.0

// Package traffic shows that one namespace reaches another: ICMP echoes for
// reachability and round trips, a checked bulk transfer over TCP for
// throughput. Sockets are opened inside the namespaces; no program is run.
package traffic

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"

	"vxtap/cmd/vxlab/netns"
)

// echoWait is how long one echo is waited for.
const echoWait = time.Second

// retryWait is that in Reach, where a loss is expected: the way may just be
// coming up.
const retryWait = 200 * time.Millisecond

// payload is what ping(8) sends after the ICMP header, in bytes.
const payload = 56

// ErrLost is the error of an echo that did not come back in time.
var ErrLost = errors.New("no reply")

// Pinger sends ICMP echo requests from inside a namespace to one address. It is
// not safe for concurrent use. Its socket gets every echo reply that comes to
// the namespace: while it lies idle beside others at work its buffer fills, and
// then loses its own replies. Open it when it is needed.
type Pinger struct {
	conn *icmp.PacketConn
	to   netip.Addr
	id   uint16
	seq  uint16
}

// NewPinger opens a raw socket in the namespace; the caller closes it. The
// identifier tells its replies from those of other pingers in the namespace.
func NewPinger(ns *netns.Namespace, to netip.Addr, id uint16) (*Pinger, error) {
	network, local := "ip4:icmp", "0.0.0.0"
	if to.Is6() {
		network, local = "ip6:ipv6-icmp", "::"
	}
	var conn *icmp.PacketConn
	err := ns.Do(func() (err error) {
		conn, err = icmp.ListenPacket(network, local)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("ping from %s: %w", ns.Name(), err)
	}
	if err := onlyReplies(conn); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		conn.Close()
		return nil, fmt.Errorf("ping from %s: %w", ns.Name(), err)
	}
	return &Pinger{conn: conn, to: to, id: id}, nil
}

// onlyReplies keeps the requests of others from filling the buffer as well.
func onlyReplies(conn *icmp.PacketConn) error {
	if four := conn.IPv4PacketConn(); four != nil {
		var filter ipv4.ICMPFilter
		filter.SetAll(true)
		filter.Accept(ipv4.ICMPTypeEchoReply)
		return four.SetICMPFilter(&filter)
	}
	var filter ipv6.ICMPFilter
	filter.SetAll(true)
	filter.Accept(ipv6.ICMPTypeEchoReply)
	return conn.IPv6PacketConn().SetICMPFilter(&filter)
}

// Close closes the socket.
func (p *Pinger) Close() error { return p.conn.Close() }

// Reach sends echoes until one is answered or ctx ends.
func (p *Pinger) Reach(ctx context.Context) error {
	for {
		_, err := p.echo(ctx, retryWait)
		if err == nil {
			return nil
		}
		// No route, no neighbour: as well as a loss, that may pass.
		timer := time.NewTimer(retryWait / 10)
		select {
		case <-ctx.Done():
			timer.Stop()
			return err
		case <-timer.C:
		}
	}
}

// Measure sends n echoes, each after the reply to the one before, and returns
// the median of the round trips. The first echo that is lost is an error that
// matches ErrLost.
func (p *Pinger) Measure(ctx context.Context, n int) (time.Duration, error) {
	trips := make([]time.Duration, 0, n)
	for range n {
		trip, err := p.echo(ctx, echoWait)
		if err != nil {
			return 0, err
		}
		trips = append(trips, trip)
	}
	return Median(trips), nil
}

// Median returns the middle one of d, which it sorts; 0 if there is none.
func Median(d []time.Duration) time.Duration {
	if len(d) == 0 {
		return 0
	}
	slices.Sort(d)
	return d[len(d)/2]
}

// echo sends one echo and returns its round trip.
func (p *Pinger) echo(ctx context.Context, limit time.Duration) (time.Duration, error) {
	if err := ctx.Err(); err != nil {
		return 0, context.Cause(ctx)
	}
	p.seq++
	request := icmp.Message{
		Type: ipv4.ICMPTypeEcho,
		Body: &icmp.Echo{ID: int(p.id), Seq: int(p.seq), Data: make([]byte, payload)},
	}
	if p.to.Is6() {
		request.Type = ipv6.ICMPTypeEchoRequest // the kernel puts the checksum in
	}
	b, err := request.Marshal(nil)
	if err != nil {
		return 0, fmt.Errorf("ping %s: %w", p.to, err)
	}
	begun := time.Now()
	deadline := begun.Add(limit)
	if end, ok := ctx.Deadline(); ok && end.Before(deadline) {
		deadline = end
	}
	if err := p.conn.SetDeadline(deadline); err != nil {
		return 0, fmt.Errorf("ping %s: %w", p.to, err)
	}
	if _, err := p.conn.WriteTo(b, &net.IPAddr{IP: p.to.AsSlice()}); err != nil {
		return 0, fmt.Errorf("ping %s: %w", p.to, err)
	}
	if err := p.await(); err != nil {
		return 0, fmt.Errorf("ping %s: %w", p.to, err)
	}
	return time.Since(begun), nil
}

// await reads until the reply to the last request is there. A raw socket sees
// all ICMP that comes to the namespace.
func (p *Pinger) await() error {
	b, reply := make([]byte, 1500), byte(ipv4.ICMPTypeEchoReply)
	if p.to.Is6() {
		reply = byte(ipv6.ICMPTypeEchoReply)
	}
	for {
		n, from, err := p.conn.ReadFrom(b)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return ErrLost
		}
		if err != nil {
			return err
		}
		if isReply(b[:n], reply, p.id, p.seq) && from.String() == p.to.String() {
			return nil
		}
	}
}

// isReply reports whether an ICMP message of type reply answers one echo (RFC
// 792, and RFC 4443, section 4.2).
func isReply(b []byte, reply byte, id, seq uint16) bool {
	return len(b) >= 8 && b[0] == reply && b[1] == 0 &&
		binary.BigEndian.Uint16(b[4:]) == id && binary.BigEndian.Uint16(b[6:]) == seq
}
