// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"vxtap/test/field"
	"vxtap/test/traffic"
)

const (
	// settleWithin bounds the time until every host holds a lease again: three
	// seconds that a lost one stays lost, ten between two attempts where it was
	// lost several times, and the rest.
	settleWithin = 20 * time.Second
	// quietFor is how long is looked at least: after grace everything is judged.
	quietFor = 5 * time.Second
	pings    = 20
)

// quiet ends a round: the last fault, and what must come after it.
func (r *run) quiet(ctx context.Context) error {
	if err := r.clear(ctx); err != nil {
		return fmt.Errorf("delete the strangers' keys: %w", err)
	}
	if err := r.awaitMembers(); err != nil {
		return err
	}
	over := time.Now()
	r.locked(func() { r.judge.quiet(over) })
	r.say("quiet")
	if err := field.Pause(ctx, grace); err != nil {
		return nil //nolint:nilerr // the run ends
	}
	r.pingPairs(ctx)
	if err := r.settled(ctx, settleWithin); err != nil {
		return err
	}
	took := time.Since(over)
	r.say("every host holds a lease %v after the last fault", took.Round(time.Millisecond))
	r.locked(func() { r.figures.whole = max(r.figures.whole, took) })
	_ = field.Pause(ctx, time.Until(over.Add(quietFor)))
	r.locked(func() {
		r.figures.converged = max(r.figures.converged, r.judge.longest())
		r.judge.loud()
	})
	return nil
}

// awaitMembers returns when each member answers for the majority.
func (r *run) awaitMembers() error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for i, m := range r.field.Members {
		for {
			_, err := r.recorder.askOnce(ctx, i)
			if err == nil {
				break
			}
			if ctx.Err() != nil {
				return fmt.Errorf("%s does not answer: %w", m.Name, err)
			}
			_ = field.Pause(ctx, 50*time.Millisecond)
		}
	}
	return nil
}

// settled returns when every host is ready and holds the lease that it claims.
func (r *run) settled(ctx context.Context, limit time.Duration) error {
	since := time.Now()
	for {
		var missing error
		r.locked(func() {
			for h, s := range r.latest {
				claims := s.claims()
				if s.start.Before(since) || s.status.State != field.StateReady || !r.holds(h, claims) {
					missing = fmt.Errorf("%s says %q, holds %v (%s)", r.field.Hosts[h].Name, s.status.State, claims, s.status.Lease.State)
				}
			}
		})
		if missing == nil {
			return nil
		}
		if time.Since(since) > limit {
			return fmt.Errorf("not every host is ready and holds a lease %v after the last fault: %w", limit, missing)
		}
		if err := field.Pause(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
}

// holds reports whether what a host claims is all that it should have, and its own
// in etcd. The caller holds the lock.
func (r *run) holds(h int, claims []netip.Prefix) bool {
	if want := 1 + r.more(); len(claims) != want {
		return false
	}
	for _, k := range r.judge.history.now().keys {
		if k.owner == r.judge.hosts[h] && k.subnet == claims[0] {
			return k.whole && (!r.dual || k.six.whole && k.six.subnet == claims[1])
		}
	}
	return false
}

// more is how many families there are beside IPv4.
func (r *run) more() int {
	if r.dual {
		return 1
	}
	return 0
}

// pingPairs sends real packets between hosts whose leases live: (c).
func (r *run) pingPairs(ctx context.Context) {
	rnd := rand.New(rand.NewPCG(r.seed, uint64(time.Since(r.began)))) // which pairs is no fault
	for range pings {
		a := rnd.IntN(r.hosts)
		b := (a + 1 + rnd.IntN(r.hosts-1)) % r.hosts
		from, ok := r.lease(a)
		to, okay := r.lease(b)
		if !ok || !okay || !r.settledFor(from) || !r.settledFor(to) {
			continue
		}
		for i := range 1 + r.more() {
			r.ping(ctx, traffic.End{Namespace: r.field.Hosts[a].Namespace(), Addr: from.halves()[i].subnet.Addr()},
				traffic.End{Namespace: r.field.Hosts[b].Namespace(), Addr: to.halves()[i].subnet.Addr()}, from, to)
		}
	}
}

// ping sends one packet between two hosts, which have these leases.
func (r *run) ping(ctx context.Context, a, b traffic.End, from, to holding) {
	if !a.Addr.IsValid() || !b.Addr.IsValid() {
		return // one of them has a lease without IPv6 as yet: settled waits for it
	}
	one, cancel := context.WithTimeout(ctx, time.Second)
	err := traffic.Ping(one, a, b, 1)
	cancel()
	if ctx.Err() != nil {
		return
	}
	r.locked(func() {
		keys := r.judge.history.now().keys
		if keys[from.key].created != from.created || keys[to.key].created != to.created {
			return // no longer the leases that they were
		}
		r.figures.pings++
		if err != nil {
			r.judge.violate(time.Now(), routable, "%v does not reach %v: %v", a.Addr, b.Addr, err)
		}
	})
}

// settledFor reports whether a lease has been what it is for grace: a host that
// has just got it may still be about to say so.
func (r *run) settledFor(k holding) (ok bool) {
	r.locked(func() {
		now := time.Now()
		for _, s := range r.judge.history.between(now.Add(-grace), now) {
			was := s.keys[k.key]
			if !was.whole || was.created != k.created || was.host != k.host || was.six != k.six || r.dual && !was.six.whole {
				return
			}
		}
		ok = true
	})
	return ok
}

// finish takes what the judge has.
func (r *run) finish() {
	r.locked(func() {
		r.figures.took = time.Since(r.began)
		r.figures.checks, r.figures.excused = r.judge.checks, r.judge.excused
		r.figures.violations = r.judge.violations
		r.figures.mib = 0
	})
	for _, h := range r.field.Hosts {
		if n, err := h.Memory(); err == nil {
			r.figures.mib = max(r.figures.mib, float64(n)/(1<<20))
		}
	}
}

// keep leaves beside the logs what every daemon said last, and says where all of
// it is.
func (r *run) keep() error {
	var errs []error
	r.locked(func() {
		for h, s := range r.latest {
			text, err := json.MarshalIndent(s.status, "", "  ")
			if err == nil {
				err = os.WriteFile(filepath.Join(r.field.Dir, r.field.Hosts[h].Name+".json"), text, 0o644)
			}
			errs = append(errs, err)
		}
		for _, v := range r.judge.violations[:min(10, len(r.judge.violations))] {
			fmt.Fprintln(r.progress, v)
		}
	})
	fmt.Fprintf(r.progress, "events, logs and the last status of every daemon are in %s; the same faults again: %s\n", r.field.Dir, r.again())
	return errors.Join(errs...)
}
