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

// probe sends packets into the overlay, to the host of the first lease, and
// takes what comes out of the tunnel at two addresses that the lease may name:
// the moment at which the first packet arrives at the other one is the moment
// at which the daemon has the change.
type probe struct {
	addrs   [2]netip.Addr
	sockets [2]*net.UDPConn
	arrived [2]chan time.Time
	host    *field.Host
}

// probeEvery is the time between two packets: what is measured may be that much
// too long. More of them would keep the processors busy that changes wait for.
const probeEvery = 500 * time.Microsecond

func newProbe(h *field.Host, f *field.Field) (*probe, error) {
	p := &probe{host: h}
	for i := range p.addrs {
		a, err := f.AddAddr(i)
		if err != nil {
			return nil, err
		}
		p.addrs[i] = a
		if p.sockets[i], err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(a, 8472))); err != nil {
			return nil, err
		}
		p.arrived[i] = make(chan time.Time, 1)
		go p.receive(i)
	}
	return p, nil
}

// receive keeps the last arrival at one address until somebody wants it.
func (p *probe) receive(i int) {
	b := make([]byte, 2048)
	for {
		n, _, err := p.sockets[i].ReadFromUDPAddrPort(b)
		if err != nil {
			return // closed
		}
		if !bytes.Contains(b[:n], []byte(mark)) {
			continue
		}
		now := time.Now()
		select {
		case p.arrived[i] <- now:
		default: // an older one is there
		}
	}
}

func (p *probe) close() {
	for _, s := range p.sockets {
		if s != nil {
			s.Close()
		}
	}
}

// drain forgets what has arrived.
func (p *probe) drain(i int) {
	select {
	case <-p.arrived[i]:
	default:
	}
}

// send sends packets until ctx ends. While there is no way into the overlay they
// are lost.
func (p *probe) send(ctx context.Context) {
	to := netip.AddrPortFrom(subnet(first).Addr().Next(), 9)
	var conn *net.UDPConn
	t := time.NewTicker(probeEvery)
	defer t.Stop()
	for ctx.Err() == nil {
		<-t.C
		if conn == nil {
			_ = p.host.Namespace().Do(func() (err error) {
				conn, err = net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(to))
				return err
			})
			if conn == nil {
				_ = pause(ctx, time.Millisecond)
				continue
			}
		}
		if _, err := conn.Write([]byte(mark)); err != nil {
			// Also a route that comes later gives it another source.
			conn.Close()
			conn = nil
		}
	}
	if conn != nil {
		conn.Close()
	}
}

// first returns when the first packet arrived, at either address.
func (p *probe) first(ctx context.Context, since time.Time) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	p.drain(0)
	p.drain(1)
	go p.send(ctx)
	for {
		select {
		case t := <-p.arrived[0]:
			return t, nil
		case t := <-p.arrived[1]:
			return t, nil
		case <-ctx.Done():
			return time.Time{}, fmt.Errorf("no packet came out of the tunnel within %v: see %s", time.Since(since).Round(time.Second), p.host.Log())
		}
	}
}

// measureChanges lets the first lease name the one and the other address by
// turns.
func (b *bench) measureChanges(ctx context.Context, p *probe) (changes, puts []time.Duration, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	events := b.client.Watch(ctx, key(first))
	go p.send(ctx)
	for n := range b.changes {
		to := (n + 1) % 2
		if err := pause(ctx, 30*time.Millisecond); err != nil {
			return nil, nil, err
		}
		p.drain(to)
		if _, err := b.client.Put(ctx, key(first), value(p.addrs[to], first)); err != nil {
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

// both returns when the watch told of a change, and when the first packet
// arrived where it should.
func (p *probe) both(ctx context.Context, events clientv3.WatchChan, to int) (told, arrived time.Time, err error) {
	late := time.NewTimer(10 * time.Second)
	defer late.Stop()
	for told.IsZero() || arrived.IsZero() {
		select {
		case resp, ok := <-events:
			if !ok || resp.Err() != nil {
				return told, arrived, errors.Join(errors.New("the watch broke"), resp.Err())
			}
			told = time.Now()
		case arrived = <-p.arrived[to]:
		case <-late.C:
			return told, arrived, errors.New("a change was not applied within 10 s")
		case <-ctx.Done():
			return told, arrived, ctx.Err()
		}
	}
	return told, arrived, nil
}

// removeAll removes the files that a pattern names.
func removeAll(pattern string) error {
	names, err := filepath.Glob(pattern)
	for _, name := range names {
		err = errors.Join(err, os.Remove(name))
	}
	return err
}
