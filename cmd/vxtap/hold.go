// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/time/rate"

	"vxtap/lease"
)

// place is a host's place in the network, for which a segment is opened.
type place struct {
	config lease.Config
	made   lease.Lease   // that was created for it; the zero Lease: none
	known  *lease.Memory // to go by until etcd answers; nil: etcd is asked first
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
// where flanneld exits (and this daemon, if it is told to): as long as the subnet stays the same, nothing else
// needs to change and traffic goes on.
func (s *segment) hold(ctx context.Context) error {
	// Whoever keeps deleting our key must not make us write to etcd all day.
	again := rate.NewLimiter(rate.Every(10*time.Second), 3)
	if err := s.confirm(ctx); err != nil {
		return err
	}
	for {
		own := *s.own.Load()
		err := s.d.registry.Keep(ctx, own)
		if !errors.Is(err, lease.ErrLost) {
			return err
		}
		s.lost.Store(true)
		if s.d.onLeaseLost == lostExit {
			return fmt.Errorf("%w: %w", errLostExit, err)
		}
		s.log.Warn("lease lost, acquiring again soon", "subnet", own.Subnet, "error", err, "after", lostFor)
		if pause(ctx, lostFor) != nil || again.Wait(ctx) != nil {
			return nil // ctx ended
		}
		if err := s.regain(ctx); err != nil {
			return err
		}
	}
}

// regainEvery is how long to wait after acquiring the lease again has failed.
const regainEvery = 10 * time.Second

// regain acquires the lease again until that works, a movedError says that it
// cannot work here, or ctx ends (nil). Nothing else ends it: what the lease
// fails by, a config that somebody is half way through with or a network that
// is full, passes, and the host's traffic goes on without it for as long as
// peers send any. Only a first start fails at once.
func (s *segment) regain(ctx context.Context) error {
	say := rate.Sometimes{First: 1, Interval: 30 * time.Second}
	for {
		err := s.acquireAgain(ctx)
		if _, moved := errors.AsType[*movedError](err); err == nil || moved {
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

func (s *segment) acquireAgain(ctx context.Context) error {
	before := s.own.Load()
	config, err := s.d.registry.Config(ctx)
	if err != nil {
		return err
	}
	if !s.fits(config) {
		s.log.Warn("the network config changed, starting afresh")
		return &movedError{place{config: config}}
	}
	held, _, err := s.d.registry.Own(ctx, s.d.vtep)
	if err != nil {
		return err
	}
	own, err := s.d.registry.Acquire(ctx, config, s.request(lease.SubnetEnv{Subnet: before.Subnet, IPv6Subnet: before.IPv6Subnet}))
	if err != nil {
		return err
	}
	if own.Subnet != before.Subnet || own.IPv6Subnet != before.IPv6Subnet {
		s.log.Warn("the subnet is another one now, starting afresh", "subnet", subnetName(own), "before", subnetName(*before))
		moved := &movedError{place{config: config}}
		if created(held, own) {
			moved.made = own
		}
		return moved
	}
	s.own.Store(&own)
	s.lost.Store(false)
	s.log.Info("lease acquired again", "subnet", own.Subnet)
	return nil
}

// fits reports whether the segment can go on under config.
func (s *segment) fits(config lease.Config) bool {
	return config.Network == s.config.Network && config.Backend == s.config.Backend &&
		config.EnableIPv6 == s.config.EnableIPv6 && config.IPv6Network == s.config.IPv6Network
}
