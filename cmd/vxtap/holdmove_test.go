// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"vxtap/lease"
	"vxtap/lease/leasetest"
)

// The lease follows the host's address, on the same key, and that is neither a
// hijack nor a loss, whatever happens to the store meanwhile; but what is another
// host's by then stays so.
func TestHoldMovesTheLease(t *testing.T) {
	for _, tt := range []struct {
		name   string
		before func(s *leasetest.Store, key string)
		after  func(s *leasetest.Store, key string)
		keeps  bool
		writes int // of our own
	}{
		{name: "etcd answers", keeps: true, writes: 1},
		{
			name: "etcd is away for an hour", keeps: true, writes: 1,
			before: func(s *leasetest.Store, _ string) { s.Disconnect() },
			after:  func(s *leasetest.Store, _ string) { s.Connect() },
		},
		{
			name: "the answer to the write is lost", keeps: true, writes: 2,
			before: func(s *leasetest.Store, _ string) {
				lost := false
				s.Hook(func(c leasetest.Call) error {
					if c.Op == "Put" && c.Done && !lost {
						lost = true
						return leasetest.ErrDown
					}
					return nil
				})
			},
		},
		{
			name: "etcd refuses for a while", keeps: true, writes: 1,
			before: func(s *leasetest.Store, _ string) {
				s.Hook(func(leasetest.Call) error { return fmt.Errorf("login: %w", lease.ErrRefused) })
			},
			after: func(s *leasetest.Store, _ string) { s.Hook(func(leasetest.Call) error { return nil }) },
		},
		{name: "another host has taken the key", before: func(s *leasetest.Store, key string) {
			s.Disconnect()
			s.Force(key, otherHost, 0)
			s.Connect()
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, store *leasetest.Store, log *bytes.Buffer) {
				s := holding(t, store, log)
				s.live = newLive()
				own := *s.own.Load()
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan error, 1)
				go func() { done <- s.hold(ctx) }()
				time.Sleep(time.Minute)
				synctest.Wait()
				puts := store.Calls("Put")
				if tt.before != nil {
					tt.before(store, own.Key)
				}
				s.d.home.Store(&home{vtep: netip.MustParseAddr("192.0.2.77")})
				poke(s.moved)
				if tt.after != nil {
					time.Sleep(time.Hour)
					tt.after(store, own.Key)
				}
				time.Sleep(time.Minute)
				synctest.Wait()
				p, _ := leasetest.Get(t, store, own.Key)
				if !tt.keeps {
					if string(p.Value) != otherHost || !s.lost.Load() {
						t.Errorf("the key is %s, lost %v; want it to be the other host's", p.Value, s.lost.Load())
					}
				} else {
					now := s.own.Load()
					if now.Subnet != own.Subnet || now.Created != own.Created || now.Attrs.PublicIP != s.d.at().vtep || now.Attrs.MAC != own.Attrs.MAC {
						t.Errorf("holds %+v, want %+v moved", now, own)
					}
					if a, err := lease.ParseAttrs(p.Value); err != nil || a.PublicIP != s.d.at().vtep || p.Grant != own.Grant {
						t.Errorf("published %s, %v", p.Value, err)
					}
					if n := store.Calls("Put") - puts; n != tt.writes {
						t.Errorf("%d writes, want %d", n, tt.writes)
					}
					wantLease(t, s, leaseHeld, phaseReady)
				}
				if tt.keeps && strings.Contains(log.String(), "lease lost") {
					t.Errorf("its own move was taken for a loss:\n%s", log)
				}
				cancel()
				if err := <-done; err != nil {
					t.Errorf("got error %v at the end, want none", err)
				}
			})
		})
	}
}

// A host that moves goes on by the config that it goes by, though another waits
// for its restart; one that has lost its lease starts afresh by that.
func TestMovingIsNoRestart(t *testing.T) {
	inBubble(t, func(t *testing.T, store *leasetest.Store, log *bytes.Buffer) {
		s := holding(t, store, log)
		s.live = newLive()
		own := *s.own.Load()
		store.Force("config", strings.Replace(oneSubnet, `"vxlan"`, `"vxlan", "VNI": 7`, 1), 0)
		done := make(chan error, 1)
		go func() { done <- s.hold(t.Context()) }()
		s.d.home.Store(&home{vtep: netip.MustParseAddr("192.0.2.77")})
		poke(s.moved)
		time.Sleep(time.Minute)
		synctest.Wait()
		if now := s.own.Load(); now.Attrs.PublicIP != s.d.at().vtep || now.Attrs.VNI != own.Attrs.VNI {
			t.Errorf("holds %+v", now)
		}
		store.Forget(own.Key)
		moved, ok := errors.AsType[*movedError](<-done)
		if !ok || moved.config.Backend.VNI != 7 {
			t.Errorf("got %+v after the lease was lost, want a start by the new config", moved)
		}
	})
}
