// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"vxtap/encap/ether"
	"vxtap/lease"
	"vxtap/tunnel/host"
)

// errElsewhere says that the host got another address while etcd was waited for:
// what was known before is to be looked for again.
var errElsewhere = errors.New("the host has another address now")

// askFrom waits for etcd as ask does, and follows the host meanwhile and once more
// when etcd has answered: a host that boots may get its address, or its link,
// only after vxtap has started. It returns errElsewhere where there was any to
// follow. Nothing is on the way yet, so that nothing has to be moved.
func (d *daemon) askFrom(ctx context.Context) (place, error) {
	if d.find == nil {
		return d.ask(ctx)
	}
	inner, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	var elsewhere bool
	wg.Go(func() {
		if elsewhere = d.awaitElsewhere(inner); elsewhere {
			cancel()
		}
	})
	at, err := d.ask(inner)
	cancel()
	wg.Wait()
	if elsewhere {
		return place{}, errElsewhere
	}
	if err == nil {
		err = d.relocateFirst(ctx)
	}
	return at, err
}

// awaitElsewhere reports whether the host has another address, which it waits for
// until ctx ends. As later, the other one must be there for a while.
func (d *daemon) awaitElsewhere(ctx context.Context) bool {
	var next host.Uplink
	var said bool
	for pause(ctx, homeAgain) == nil {
		at, now, err := d.whereNow()
		switch {
		case err != nil && !said:
			d.log.Warn("the tunnel's address is gone, waiting for one", "address", at.uplink.Addr, "error", err)
			said = true
		case err != nil:
		case now.uplink.Addr == at.uplink.Addr:
			d.home.Store(&now) // its link or its MTU may be another one
		case now.uplink == next:
			d.goTo(at, now)
			return true
		}
		next = now.uplink
	}
	return false
}

// relocateFirst is relocate before the first segment. It returns errElsewhere where
// the host has another address, and why it has none.
func (d *daemon) relocateFirst(ctx context.Context) error {
	for deadline := time.Now().Add(relocateWithin); ; {
		at, now, err := d.whereNow()
		if err == nil && now.uplink.Addr == at.uplink.Addr {
			d.home.Store(&now)
			return nil
		}
		if err == nil {
			d.goTo(at, now)
			return errElsewhere
		}
		if time.Now().After(deadline) || pause(ctx, relocateEvery) != nil {
			return err
		}
	}
}

// whereNow returns where the host was, and where it is by now, by the rules of
// followHome: as long as its address is on an interface that is up it stays.
func (d *daemon) whereNow() (at, now home, err error) {
	at = d.at()
	up, err := d.find(d.settings.uplink)
	mine, gone := d.find(host.Choice{Names: []string{at.uplink.Addr.String()}, PublicIPv6: d.publicIPv6})
	switch {
	case gone == nil && (err != nil || up.Addr != at.uplink.Addr && d.isUp(mine.Name)):
		up = mine
	case err != nil:
		return at, home{}, err
	case at.uplink.Addr == d.publicIP && up.Addr != d.publicIP:
		return at, home{}, fmt.Errorf("-public-ip=%s is on no interface any more", d.publicIP)
	}
	if r := d.refused6.Load(); r != nil && r.addr == up.Addr6 {
		up.Addr6 = netip.Addr{}
	}
	return at, *d.homeAt(up), nil
}

// goTo notes that the host is elsewhere. What a file says of a host at the address of
// before is not this host's by that alone: a copied machine may have had the
// address of the one that it was copied from for a moment. What a segment of this
// daemon had is.
func (d *daemon) goTo(at, now home) {
	if !d.lived {
		d.before, d.mac6, d.formerPath = lease.Lease{}, ether.MAC{}, ""
	} else if d.formerPath == "" {
		d.formerPath = d.memoryPathOf(at.vtep)
	}
	d.home.Store(&now)
	d.log.Warn("the tunnel's address is another one now, following", "address", now.uplink.Addr, "ipv6", now.uplink.Addr6,
		"interface", now.uplink.Name, "before", at.uplink.Addr, "vtep", now.vtep)
	d.redial() // etcd is asked from the old one
}

// strayed reports whether the host has another address than a segment was to be
// opened with, which may be why it was not: whoever opens one waits for etcd too.
func (d *daemon) strayed(ctx context.Context) bool {
	if d.find == nil || ctx.Err() != nil {
		return false
	}
	at, now, err := d.whereNow()
	if err != nil || now.uplink.Addr == at.uplink.Addr {
		return false
	}
	d.goTo(at, now)
	return true
}
