// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"vxtap/test/field"
)

// mark is in every packet of the probe.
const mark = "scale probe, and nothing else looks like this"

// probe sends packets into the overlay, to the host of the first lease, and takes
// what comes out of the tunnel at two places that the lease may name: the moment at
// which the first packet arrives at the other one is the moment at which the daemon
// has the change. Where there are both families, it is when one of each has arrived.
type probe struct {
	ways []*way
	host *field.Host
}

// way is the probe of one family.
type way struct {
	to      netip.AddrPort
	addrs   [2]netip.Addr
	sockets [2]*net.UDPConn
	arrived [2]chan time.Time
}

// probeEvery is the time between two packets: what is measured may be that much
// too long. More of them would keep the processors busy that changes wait for.
const probeEvery = 500 * time.Microsecond

func (b *bench) newProbe(h *field.Host) (*probe, error) {
	p := &probe{host: h}
	for _, subnet := range b.subnets(first) {
		p.ways = append(p.ways, &way{to: netip.AddrPortFrom(subnet.Addr().Next(), 9)})
	}
	for i := range 2 {
		a, err := b.field.AddAddr(i)
		if err != nil {
			return nil, err
		}
		for n, w := range p.ways {
			w.addrs[i] = []netip.Addr{a, field.IPv6Of(a)}[n]
			if w.sockets[i], err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(w.addrs[i], 8472))); err != nil {
				return nil, err
			}
			w.arrived[i] = make(chan time.Time, 1)
			go w.receive(i)
		}
	}
	return p, nil
}

// at returns the addresses of a place, IPv4 first.
func (p *probe) at(i int) (all []netip.Addr) {
	for _, w := range p.ways {
		all = append(all, w.addrs[i])
	}
	return all
}

// receive keeps the last arrival at one address until somebody wants it.
func (w *way) receive(i int) {
	b := make([]byte, 2048)
	for {
		n, _, err := w.sockets[i].ReadFromUDPAddrPort(b)
		if err != nil {
			return // closed
		}
		if !bytes.Contains(b[:n], []byte(mark)) {
			continue
		}
		now := time.Now()
		select {
		case w.arrived[i] <- now:
		default: // an older one is there
		}
	}
}

func (p *probe) close() {
	for _, w := range p.ways {
		for _, s := range w.sockets {
			if s != nil {
				s.Close()
			}
		}
	}
}

// drain forgets what has arrived.
func (p *probe) drain(i int) {
	for _, w := range p.ways {
		select {
		case <-w.arrived[i]:
		default:
		}
	}
}

// send sends packets until ctx ends. While there is no way into the overlay they
// are lost.
func (p *probe) send(ctx context.Context) {
	conns := make([]*net.UDPConn, len(p.ways))
	t := time.NewTicker(probeEvery)
	defer t.Stop()
	for ctx.Err() == nil {
		<-t.C
		for i, w := range p.ways {
			if conns[i] == nil {
				conns[i] = p.dial(w)
			}
			if conns[i] == nil {
				_ = field.Pause(ctx, time.Millisecond)
				continue
			}
			if _, err := conns[i].Write([]byte(mark)); err != nil {
				// Also a route that comes later gives it another source.
				conns[i].Close()
				conns[i] = nil
			}
		}
	}
	for _, c := range conns {
		if c != nil {
			c.Close()
		}
	}
}

// dial returns nil where there is no way.
func (p *probe) dial(w *way) (conn *net.UDPConn) {
	_ = p.host.Namespace().Do(func() (err error) {
		conn, err = net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(w.to))
		return err
	})
	return conn
}

// first returns when the first packet arrived, at either place.
func (p *probe) first(ctx context.Context, since time.Time) (last time.Time, err error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	p.drain(0)
	p.drain(1)
	go p.send(ctx)
	for _, w := range p.ways {
		var t time.Time
		select {
		case t = <-w.arrived[0]:
		case t = <-w.arrived[1]:
		case <-ctx.Done():
			return time.Time{}, fmt.Errorf("no packet came out of the tunnel to %v within %v: see %s", w.to, time.Since(since).Round(time.Second), p.host.Log())
		}
		if t.After(last) {
			last = t
		}
	}
	return last, nil
}

// measureChanges lets the first lease name the one and the other address by
// turns.
func (b *bench) measureChanges(ctx context.Context, p *probe) (changes, puts []time.Duration, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	events := b.client.Watch(ctx, b.key(first))
	go p.send(ctx)
	for n := range b.changes {
		to := (n + 1) % 2
		if err := field.Pause(ctx, 30*time.Millisecond); err != nil {
			return nil, nil, err
		}
		p.drain(to)
		if _, err := b.client.Put(ctx, b.key(first), b.value(p.at(to), first)); err != nil {
			return nil, nil, err
		}
		written := time.Now()
		told, arrived, err := p.both(ctx, events, to)
		if err != nil {
			return nil, nil, err
		}
		changes = append(changes, max(0, arrived.Sub(told)))
		puts = append(puts, max(0, arrived.Sub(written)))
	}
	return changes, puts, nil
}

// both returns when the watch told of a change, and when the first packet, of each
// family, arrived where it should.
func (p *probe) both(ctx context.Context, events clientv3.WatchChan, to int) (told, arrived time.Time, err error) {
	late := time.NewTimer(10 * time.Second)
	defer late.Stop()
	for told.IsZero() {
		select {
		case resp, ok := <-events:
			if !ok || resp.Err() != nil {
				return told, arrived, errors.Join(errors.New("the watch broke"), resp.Err())
			}
			told = time.Now()
		case <-late.C:
			return told, arrived, errNotApplied
		case <-ctx.Done():
			return told, arrived, ctx.Err()
		}
	}
	for _, w := range p.ways {
		select {
		case t := <-w.arrived[to]:
			if t.After(arrived) {
				arrived = t
			}
		case <-late.C:
			return told, arrived, errNotApplied
		case <-ctx.Done():
			return told, arrived, ctx.Err()
		}
	}
	return told, arrived, nil
}

var errNotApplied = errors.New("a change was not applied within 10 s")

// removeAll removes the files that a pattern names.
func removeAll(pattern string) error {
	names, err := filepath.Glob(pattern)
	for _, name := range names {
		err = errors.Join(err, os.Remove(name))
	}
	return err
}
