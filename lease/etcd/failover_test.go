// SPDX-License-Identifier: Apache-2.0

//go:build unix

package etcd

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"vxtap/lease"
	"vxtap/lease/leasetest"
	"vxtap/test/stall"
)

// Every call ends in bounded time when etcd swallows all that it is sent,
// whether it ever answered or not.
func TestTimeouts(t *testing.T) {
	calls := []struct {
		name  string
		limit time.Duration
		do    func(context.Context, *Store) error
	}{
		{"List", listTimeout, func(ctx context.Context, s *Store) error {
			_, err := leasetest.List(ctx, s, "subnets")
			return err
		}},
		{"Put", callTimeout, func(ctx context.Context, s *Store) error { _, err := s.Put(ctx, "x", nil, 0, 0); return err }},
		{"Delete", callTimeout, func(ctx context.Context, s *Store) error { return s.Delete(ctx, "x", 1) }},
		{"Grant", callTimeout, func(ctx context.Context, s *Store) error { _, _, err := s.Grant(ctx, time.Minute); return err }},
		{"KeepAlive", callTimeout, func(ctx context.Context, s *Store) error { _, err := s.KeepAlive(ctx, 1); return err }},
		{"Left", callTimeout, func(ctx context.Context, s *Store) error { _, err := s.Left(ctx, 1); return err }},
		{"Revoke", callTimeout, func(ctx context.Context, s *Store) error { return s.Revoke(ctx, 1) }},
		{"Watch", callTimeout, func(ctx context.Context, s *Store) error {
			return s.Watch(ctx, "subnets", 1, func(lease.Batch) {})
		}},
	}
	srv := startServer(t, "http")
	var all sync.WaitGroup // they wait, all of them: side by side, whatever the number of processors
	defer all.Wait()
	for _, tt := range calls {
		all.Go(func() {
			limit := firstTimeout
			if tt.name == "Watch" {
				limit = callTimeout // it has no first one: a List always goes before it
			}
			assertEnds(t, srv, tt.name+" at first", limit, false, tt.do)
		})
		all.Go(func() { assertEnds(t, srv, tt.name+" later", tt.limit, true, tt.do) })
	}
}

// assertEnds makes a call through a black hole, of a store that srv has
// answered before or not.
func assertEnds(t *testing.T, srv *server, name string, limit time.Duration, reached bool, do func(context.Context, *Store) error) {
	t.Helper()
	way := startRelay(t, srv.client)
	s, err := Open(t.Context(), Config{Endpoints: []string{"http://" + way.addr}, Prefix: "/net"}, nil)
	if err != nil {
		t.Error(err)
		return
	}
	defer s.Close()
	if reached {
		if _, err := leasetest.List(t.Context(), s, "x"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	way.swallow(true)
	ctx, cancel := context.WithTimeout(t.Context(), 80*time.Second)
	defer cancel()
	clock := stall.Start()
	err = do(ctx, s)
	took, most := clock.Took(), limit+probeTimeout+time.Second
	if err == nil || ctx.Err() != nil || took > most {
		t.Errorf("%s: got %v after %v, want an error within %v", name, err, took, most)
	}
}

// One endpoint of three swallows all that it is sent. At the start nobody
// notices; later, calls that it got end in time, and those that follow go to
// the others.
func TestBlackHoleAmongEndpoints(t *testing.T) {
	for _, tt := range []struct {
		name    string
		atStart bool
		users   bool
		within  time.Duration // that a new host is learnt
	}{
		{"first in the list, from the start", true, false, time.Second},
		{"first in the list, from the start, with a login", true, true, time.Second},
		{"first in the list, while it is in use", false, false, pingEvery + pingTimeout + 2*time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var srv *server
			c := Config{Prefix: "/net"}
			if tt.users {
				srv = startAuth(t)
				c.Username, c.Password = "node", secret
			} else {
				srv = startServer(t, "http")
			}
			ways := []*relay{startRelay(t, srv.client), startRelay(t, srv.client), startRelay(t, srv.client)}
			for _, w := range ways {
				c.Endpoints = append(c.Endpoints, "http://"+w.addr)
			}
			ways[0].swallow(tt.atStart)
			direct := c
			direct.Endpoints = []string{srv.url("http")}
			clock := stall.Start()
			r := lease.New(openStore(t, c), lease.Options{})
			w := leasetest.Watch(t, r)
			l := leasetest.Acquire(t, r, 1)
			lost := leasetest.Keep(t, r, l)
			w.Until(t, "our own lease", func(s lease.Snapshot) bool { return len(s.Leases) == 1 })
			if took := clock.Took(); took > 2*time.Second {
				t.Errorf("had a lease after %v", took)
			}
			ways[0].swallow(true)
			clock = stall.Start()
			put(t, openStore(t, direct), "subnets/10.5.250.0-24", leasetest.Value(t, 2))
			w.Until(t, "the new host", func(s lease.Snapshot) bool { return len(s.Leases) == 2 })
			took := clock.Took()
			t.Logf("learnt after %v", took)
			if took > tt.within {
				t.Errorf("learnt after %v, want %v", took, tt.within)
			}
			if err := r.Release(t.Context(), l); err != nil && !errors.Is(err, lease.ErrNoGrant) {
				t.Logf("release: %v", err) // one of the first calls may have gone to the hole
			}
			select {
			case err := <-lost:
				if err != nil && !errors.Is(err, lease.ErrLost) {
					t.Errorf("the lease ended: %v", err)
				}
			default:
			}
		})
	}
}

// A member that hangs while it is in use costs a call or two, and not every
// third one for as long as it hangs: its kernel goes on acknowledging, so that
// nobody but us finds out.
func TestHangingMemberIsLeft(t *testing.T) {
	t.Parallel()
	srv := startServer(t, "http")
	c := Config{Prefix: "/net"}
	var ways []*relay
	for range 3 {
		w := startRelay(t, srv.client)
		ways, c.Endpoints = append(ways, w), append(c.Endpoints, "http://"+w.addr)
	}
	s := openStore(t, c)
	for range 30 { // until all three are in use
		if _, err := leasetest.List(t.Context(), s, "x"); err != nil {
			t.Fatal(err)
		}
		each := time.NewTimer(10 * time.Millisecond)
		<-each.C
	}
	ways[1].swallow(true)
	lost, inARow := 0, 0
	pause := time.NewTicker(time.Second) // calls are rare: what never rests is found out by gRPC's pings, too
	defer pause.Stop()
	for start := time.Now(); inARow < 12 && time.Since(start) < 45*time.Second; {
		<-pause.C
		for range 3 {
			if _, _, err := s.Grant(t.Context(), time.Minute); err != nil {
				lost, inARow = lost+1, 0
				continue
			}
			inARow++
		}
	}
	t.Logf("%d calls were lost, and then %d were not", lost, inARow)
	if lost == 0 || lost > 3 || inARow < 12 {
		t.Error("want one to three lost, and then twelve that are not")
	}
}
