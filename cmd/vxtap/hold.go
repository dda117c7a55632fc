// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"vxtap/lease"
)

// place is a host's place in the network, for which a segment is opened.
type place struct {
	config lease.Config
	made   lease.Lease   // that was created for it; the zero Lease: none
	known  *lease.Memory // to go by until etcd answers; nil: etcd is asked first
	gains  bool          // an IPv6 side, with which the host can go on without
}

// movedError says that this host's place in the network is another one now: a
// segment has to be opened for it.
type movedError struct{ place }

func (e *movedError) Error() string { return "the lease or the network config changed" }

// What -on-lease-lost may be.
const (
	lostReacquire = "reacquire"
	lostExit      = "exit"
)

// errLostExit is what a daemon ends with that was told to. flanneld ends with
// status 0 then, so that systemd's Restart=on-failure does not start it again
// and the host stays cut off.
var errLostExit = errors.New("the lease is lost, and -on-lease-lost=exit was given")

// lostFor is how long a lost lease stays lost. Whoever deletes a lease means
// it: every peer is to see it go, and traffic to this host to stop, before the
// daemon, which lives, takes its place again. flanneld is gone for good then.
const lostFor = 3 * time.Second

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// hold keeps the lease until ctx ends. A lease that is lost is acquired again,
// where flanneld exits (and this daemon, if it is told to): as long as the subnet
// stays the same, nothing else needs to change and traffic goes on.
func (s *segment) hold(ctx context.Context) error {
	// Whoever keeps deleting our key must not make us write to etcd all day.
	again := rate.NewLimiter(rate.Every(10*time.Second), 3)
	if err := s.confirm(ctx); err != nil {
		return err
	}
	for {
		err := s.holdHere(ctx)
		if err == nil && ctx.Err() == nil {
			continue
		}
		if !errors.Is(err, lease.ErrLost) {
			return err
		}
		s.lost.Store(true)
		if s.d.onLeaseLost == lostExit {
			return fmt.Errorf("%w: %w", errLostExit, err)
		}
		s.log.Warn("lease lost, acquiring again soon", "subnet", s.own.Load().Subnet, "error", err, "after", lostFor)
		if pause(ctx, lostFor) != nil || again.Wait(ctx) != nil {
			return nil // ctx ended
		}
		if err := s.regain(ctx, s.acquireAgain); err != nil {
			return err
		}
	}
}

// holdHere has the lease say where this host is, and keeps it until it has to say
// otherwise (nil), is lost, or ctx ends (nil). Whether the lease is still there is
// looked at with each change of it: what is lost in that moment is lost as well.
func (s *segment) holdHere(ctx context.Context) error {
	if addr := s.gains.Swap(nil); addr != nil {
		if err := s.gainIPv6(ctx, *addr); err != nil || ctx.Err() != nil {
			return err
		}
	}
	own := *s.own.Load()
	if !s.isHere(own) {
		return s.regain(ctx, s.moveLease)
	}
	return s.keep(ctx, own)
}

// isHere reports whether own says where this host is.
func (s *segment) isHere(own lease.Lease) bool {
	return own.Attrs.PublicIP == s.ipv4.vtep() && (s.ipv6 == nil || own.Attrs.PublicIPv6 == s.ipv6.vtep())
}

// keep keeps the lease until it has to be moved to another address of the host
// (nil), is lost, or ctx ends (nil).
func (s *segment) keep(ctx context.Context, own lease.Lease) error {
	inner, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() {
		select {
		case <-s.moved:
			cancel()
		case <-inner.Done():
		}
	})
	return s.d.registry.Keep(inner, own)
}

// regainEvery is how long to wait after acquiring the lease again has failed.
const regainEvery = 10 * time.Second

// regain acquires the lease again, by acquire, until that works, a movedError
// says that it cannot work here, the lease turns out to be lost, or ctx ends (nil).
// Nothing else ends it: what it fails by, a config that somebody is half way
// through with or a network that is full, passes, and the host's traffic goes on
// without it for as long as peers send any. Only a first start fails at once.
func (s *segment) regain(ctx context.Context, acquire func(context.Context) error) error {
	say := rate.Sometimes{First: 1, Interval: 30 * time.Second}
	for {
		err := acquire(ctx)
		if _, moved := errors.AsType[*movedError](err); err == nil || moved || errors.Is(err, lease.ErrLost) {
			return err
		}
		if ctx.Err() != nil {
			return nil //nolint:nilerr // whatever failed, failed because of that
		}
		if errors.Is(err, lease.ErrFull) { // what confirm has taken for ours is not
			s.lost.Store(true)
		}
		say.Do(func() { s.log.Error("lease not acquired again, trying on", "error", err, "every", regainEvery) })
		if pause(ctx, regainEvery) != nil {
			return nil
		}
	}
}

// acquireAgain acquires under the config that there is by now: a host that lost
// its lease has lost its place, and one that was started by what it knew may have.
// If that differs in what cannot change under traffic, the host starts afresh.
func (s *segment) acquireAgain(ctx context.Context) error {
	config, err := s.d.registry.Config(ctx)
	if err != nil {
		return err
	}
	// Not as far as to end what forwards, for a config that this host cannot start
	// with: somebody mends it.
	if err := s.d.outside(config); err != nil {
		return err
	}
	if !s.fits(config) {
		s.log.Warn("the network config changed, starting afresh")
		return &movedError{place{config: config}}
	}
	if s.owesIPv6() {
		s.log.Info("etcd can be asked for an IPv6 subnet now, starting afresh")
		return &movedError{place{config: config}}
	}
	err = s.takeUp(ctx, config, false)
	if errors.Is(err, lease.ErrNoIPv6) { // a start goes on without
		return &movedError{place{config: config}}
	}
	return err
}

// moveLease publishes the host's present address in its lease. The host's place
// stays, and so does the config that it goes by, whatever etcd has. A lease that
// is not the host's any more is lost, which is hold's affair: it may have to end.
func (s *segment) moveLease(ctx context.Context) error { return s.takeUp(ctx, *s.current(), true) }

// takeUp acquires the lease; holding says that nothing but the one that there is
// will do.
func (s *segment) takeUp(ctx context.Context, config lease.Config, holding bool) error {
	before := s.own.Load()
	held, _, err := s.d.registry.Own(ctx, s.d.at().vtep)
	if err != nil {
		return err
	}
	q := s.request(lease.SubnetEnv{Subnet: before.Subnet, IPv6Subnet: before.IPv6Subnet}, *before)
	q.Holding = holding
	own, err := s.d.registry.Acquire(ctx, config, q)
	if err != nil {
		return err
	}
	if own.Subnet != before.Subnet || own.IPv6Subnet != before.IPv6Subnet {
		s.log.Warn("the subnet is another one now, starting afresh", "subnet", subnetName(own), "before", subnetName(*before))
		moved := &movedError{place{config: config}}
		if own.Subnet != before.Subnet && created(held, own) { // held is nothing where the address is another one
			moved.made = own
		}
		return moved
	}
	s.own.Store(&own)
	s.lost.Store(false)
	if own.Attrs != before.Attrs {
		s.republish()
	}
	poke(s.fresh)
	s.log.Info("lease acquired again", "subnet", subnetName(own), "publicip", own.Attrs.Addresses())
	return nil
}

// fits reports whether the segment can go on under config.
func (s *segment) fits(config lease.Config) bool { return len(s.config.Fixed(config)) == 0 }
