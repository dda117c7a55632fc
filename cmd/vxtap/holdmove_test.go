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

	"vxtap/encap/ether"
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

// A lease whose IPv6 half had to change is the host's old one all the same, whatever
// address it has by now: a segment that cannot be opened must not give it back.
func TestOldLeaseIsNotTakenForANewOne(t *testing.T) {
	const dual = `{"EnableIPv6": true, "Network": "10.5.0.0/16", "IPv6Network": "fd00:5::/48", "IPv6SubnetLen": 64, "IPv6SubnetMin": "%s", "Backend": {"Type": "vxlan"}}`
	for _, tt := range []struct {
		name string
		vtep string
	}{
		{"the address stays", "192.0.2.1"},
		{"the address changes too", "192.0.2.77"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, store *leasetest.Store, log *bytes.Buffer) {
				s := knowing(t, store, log, fmt.Sprintf(dual, "fd00:5:0:1::"))
				s.live = newLive()
				at := &home{vtep: netip.MustParseAddr("192.0.2.1"), vtep6: netip.MustParseAddr("2001:db8::1")}
				s.d.home.Store(at)
				s.ipv6 = s.addSide(ipv6, "flannel-v6.1")
				s.ipv6.mac = ether.MAC{0x02, 0, 0, 0, 0, 6}
				own, err := s.d.registry.Acquire(t.Context(), s.config, s.request(lease.SubnetEnv{}, *s.own.Load()))
				if err != nil || !own.IPv6Subnet.IsValid() {
					t.Fatalf("got %+v, %v", own, err)
				}
				s.own.Store(&own)
				store.Force("config", fmt.Sprintf(dual, "fd00:5:0:8000::"), 0)
				s.d.home.Store(&home{vtep: netip.MustParseAddr(tt.vtep), vtep6: at.vtep6})
				moved, ok := errors.AsType[*movedError](s.acquireAgain(t.Context()))
				if !ok || moved.made.Key != "" {
					t.Errorf("got %+v, want a start afresh that owns what it has", moved)
				}
			})
		})
	}
}

// What becomes of the lease in the very moment in which it is to have another
// address, or its IPv6 half, is what it would be at any other time: a loss is one,
// and ends a daemon that was told to; junk is none.
func TestLeaseLostInTheMomentOfAMove(t *testing.T) {
	const dual = `{"EnableIPv6": true, "Network": "10.5.0.0/16", "IPv6Network": "fd00:5::/48", "IPv6SubnetLen": 64, "Backend": {"Type": "vxlan"}}`
	taken := func(s *leasetest.Store, key string) { s.Force(key, otherHost, 0) }
	deleted := func(s *leasetest.Store, key string) { s.Forget(key) }
	remade := func(s *leasetest.Store, key string) {
		s.Forget(key)
		s.Force(key, strings.Replace(otherHost, "192.0.2.2", "192.0.2.1", 1), 0)
	}
	junk := func(s *leasetest.Store, key string) { s.Force(key, "{", 0) }
	moves := func(s *segment) { s.d.home.Store(&home{vtep: netip.MustParseAddr("192.0.2.77")}) }
	gains := func(s *segment) {
		addr := netip.MustParseAddr("2001:db8::1")
		s.gains.Store(&addr)
	}
	for _, tt := range []struct {
		name  string
		event func(s *segment)
		harm  func(s *leasetest.Store, key string)
		lost  string // why; "": it is not
	}{
		{"deleted, and it moves", moves, deleted, "was deleted, or its time ran out"},
		{"another host's, and it moves", moves, taken, "somebody wrote PublicIP 192.0.2.2"},
		{"made anew, and it moves", moves, remade, "was made anew, or by another daemon"},
		{"junk, and it moves", moves, junk, ""},
		{"deleted, and it gains IPv6", gains, deleted, "was deleted, or its time ran out"},
		{"another host's, and it gains IPv6", gains, taken, "somebody wrote PublicIP 192.0.2.2"},
		{"junk, and it gains IPv6", gains, junk, ""},
	} {
		for _, mode := range []string{lostExit, lostReacquire} {
			t.Run(tt.name+"/"+mode, func(t *testing.T) {
				inBubble(t, func(t *testing.T, store *leasetest.Store, log *bytes.Buffer) {
					s := knowing(t, store, log, dual)
					s.live = newLive()
					s.d.onLeaseLost = mode
					own := *s.own.Load()
					ctx, cancel := context.WithCancel(t.Context())
					done := make(chan error, 1)
					go func() { done <- s.hold(ctx) }()
					time.Sleep(time.Minute)
					synctest.Wait()
					store.Disconnect()
					tt.harm(store, own.Key)
					tt.event(s)
					poke(s.moved)
					time.Sleep(time.Minute)
					puts := store.Calls("Put") + store.Calls("Move")
					store.Connect()
					time.Sleep(lostFor)
					synctest.Wait()
					writes := store.Calls("Put") + store.Calls("Move") - puts
					if tt.lost == "" {
						if s.lost.Load() || writes == 0 {
							t.Errorf("lost %v, %d writes, want the lease back", s.lost.Load(), writes)
						}
						list, err := leasetest.List(t.Context(), store, own.Key)
						if err != nil || len(list.Pairs) != 1 || list.Pairs[0].Grant != own.Grant {
							t.Errorf("got %+v, %v, want one key with the lease's own grant %d", list.Pairs, err, own.Grant)
						}
					} else if mode == lostExit {
						err := errors.New("nothing yet")
						select {
						case err = <-done:
							done <- nil
						default:
						}
						if !errors.Is(err, errLostExit) || !errors.Is(err, lease.ErrLost) || !strings.Contains(err.Error(), tt.lost) || writes != 0 {
							t.Errorf("got %v after %d writes, want the reason %q and none", err, writes, tt.lost)
						}
					} else if !s.lost.Load() && writes != 0 {
						t.Errorf("lost %v, %d writes, want it lost for a while", s.lost.Load(), writes)
					}
					time.Sleep(time.Minute)
					cancel()
					if err := <-done; err != nil {
						t.Log(err) // it starts afresh, where its place is another one now
					}
					// Not before: hold writes there.
					if mode == lostReacquire && !strings.Contains(log.String(), tt.lost) {
						t.Errorf("the log does not say %q:\n%s", tt.lost, log)
					}
				})
			})
		}
	}
}
