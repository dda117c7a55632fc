// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"vxtap/lease"
	"vxtap/lease/leasetest"
)

// knowing returns a segment as holding does, with a directory to remember in,
// that knows of a peer as well.
func knowing(t *testing.T, store *leasetest.Store, log *bytes.Buffer, config string) *segment {
	t.Helper()
	s := holding(t, store, log)
	if config != oneSubnet {
		store.Forget(s.own.Load().Key)
		store.Force("config", config, 0)
		at, err := s.d.ask(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		// A random one would now and then be a peer's.
		own, err := s.d.registry.Acquire(t.Context(), at.config, lease.Request{PublicIP: s.d.at().vtep, MAC: s.ipv4.mac, Previous: netip.MustParsePrefix("10.5.72.0/24")})
		if err != nil {
			t.Fatal(err)
		}
		s.config = at.config
		s.own.Store(&own)
	}
	s.d.stateDir = t.TempDir()
	s.fresh = make(chan struct{}, 1)
	tell(s, lease.Snapshot{Leases: []lease.Lease{*s.own.Load(), peer(t, 2)}, Revision: 9})
	return s
}

// peer returns the lease of another host.
func peer(t *testing.T, n byte) lease.Lease {
	t.Helper()
	a, err := lease.ParseAttrs([]byte(strings.ReplaceAll(otherHost, "192.0.2.2", fmt.Sprintf("192.0.2.%d", n))))
	if err != nil {
		t.Fatal(err)
	}
	subnet := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 5, n, 0}), 24)
	return lease.Lease{Key: fmt.Sprintf("subnets/10.5.%d.0-24", n), Subnet: subnet, Attrs: a, Grant: 1, Created: int64(n), Revision: int64(n)}
}

// tell is what hear does without a switch.
func tell(s *segment, all lease.Snapshot) {
	s.told.Store(&all)
	select {
	case s.fresh <- struct{}{}:
	default:
	}
}

// onDisk writes what s knows, and returns a daemon that starts with it.
func onDisk(t *testing.T, s *segment) *daemon {
	t.Helper()
	if w := (&rememberer{segment: s, path: s.d.memoryPath()}); !w.write() || w.failed {
		t.Fatal("nothing was written")
	}
	// Of how long the machine has run the clock of a bubble knows nothing.
	m, err := lease.ReadMemory(s.d.memoryPath())
	m.Uptime = lease.Uptime{}
	if err := errors.Join(err, m.WriteFile(s.d.memoryPath())); err != nil {
		t.Fatal(err)
	}
	d := &daemon{settings: s.d.settings, log: s.d.log, registry: s.d.registry}
	d.home.Store(s.d.home.Load())
	d.phase.Store(phaseWaiting)
	return d
}

// beginCase is something that a daemon meets when it starts.
type beginCase struct {
	name   string
	harm   func(*testing.T, *daemon, *leasetest.Store)
	known  bool   // what was known is gone by, within a second
	waits  bool   // until etcd has been mended
	before bool   // MAC and subnet are known in any case
	said   string // in the log
	err    error
}

func beginCases() []beginCase {
	none := func(*testing.T, *daemon, *leasetest.Store) {}
	down := func(_ *testing.T, _ *daemon, store *leasetest.Store) { store.Disconnect() }
	spoil := func(text string) func(*testing.T, *daemon, *leasetest.Store) {
		return func(t *testing.T, d *daemon, store *leasetest.Store) {
			store.Disconnect()
			if err := os.WriteFile(d.memoryPath(), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	return []beginCase{
		{name: "etcd answers", harm: none, before: true},
		{name: "etcd is down", harm: down, known: true, before: true, said: "etcd does not answer: going by what was last known"},
		{
			name: "etcd is down for whoever asks, and slow to say so", known: true, before: true, said: "etcd does not answer",
			harm: func(_ *testing.T, _ *daemon, store *leasetest.Store) {
				store.Hook(func(leasetest.Call) error { return leasetest.ErrDown })
			},
		},
		{
			name: "etcd has no config", waits: true, before: true,
			harm: func(_ *testing.T, _ *daemon, store *leasetest.Store) { store.Forget("config") },
		},
		{
			name: "etcd refuses", before: true, err: lease.ErrRefused,
			harm: func(_ *testing.T, _ *daemon, store *leasetest.Store) {
				store.Hook(func(leasetest.Call) error { return lease.ErrRefused })
			},
		},
		{name: "nothing is remembered", waits: true, harm: func(_ *testing.T, d *daemon, store *leasetest.Store) {
			d.stateDir = ""
			store.Disconnect()
		}},
		{name: "there is no file", waits: true, harm: func(t *testing.T, d *daemon, store *leasetest.Store) {
			d.stateDir = t.TempDir()
			store.Disconnect()
		}},
		{name: "the file is empty", waits: true, harm: spoil(""), said: "not JSON"},
		{name: "the file is another program's", waits: true, harm: spoil(`{"version": 3}`), said: "format 0"},
		{
			name: "the file is another host's", waits: true, said: "about the host 192.0.2.1",
			harm: func(t *testing.T, d *daemon, store *leasetest.Store) {
				store.Disconnect()
				theirs := d.memoryPath()
				d.home.Store(&home{vtep: netip.MustParseAddr("192.0.2.9")})
				if err := os.Rename(theirs, d.memoryPath()); err != nil {
					t.Fatal(err)
				}
			},
		},
		{
			name: "the lease has ended", waits: true, before: true, said: "too old to go by",
			harm: func(_ *testing.T, _ *daemon, store *leasetest.Store) {
				store.Disconnect()
				time.Sleep(24 * time.Hour)
			},
		},
	}
}

func TestBegin(t *testing.T) {
	for _, tt := range beginCases() {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var log bytes.Buffer
				store := leasetest.New()
				defer store.Close()
				d := onDisk(t, knowing(t, store, &log, leasetest.Config))
				log.Reset()
				tt.harm(t, d, store)

				start := time.Now()
				type outcome struct {
					at  place
					err error
				}
				done := make(chan outcome, 1)
				go func() {
					at, err := d.begin(t.Context())
					done <- outcome{at, err}
				}()
				time.Sleep(askFor + 100*time.Millisecond)
				synctest.Wait()
				if waits := len(done) == 0; waits != tt.waits {
					t.Fatalf("waits: %v, want %v; log:\n%s", waits, tt.waits, &log)
				}
				time.Sleep(time.Minute)
				store.Connect()
				if tt.waits {
					store.Force("config", leasetest.Config, 0)
				}
				got := <-done
				if !errors.Is(got.err, tt.err) || (got.at.known != nil) != tt.known {
					t.Errorf("got %+v, %v after %v", got.at, got.err, time.Since(start))
				}
				if tt.err == nil && got.at.config.Network.String() != "10.5.0.0/16" {
					t.Errorf("got config %+v", got.at.config)
				}
				if tt.known && (len(got.at.known.All.Leases) != 2 || got.at.known.Own.Attrs.PublicIP != d.at().vtep) {
					t.Errorf("got %+v, want the two hosts", got.at.known)
				}
				if d.before.Attrs.MAC.IsZero() == tt.before || d.before.Subnet.IsValid() != tt.before {
					t.Errorf("got %+v from the last time, want it: %v", d.before, tt.before)
				}
				if !strings.Contains(log.String(), tt.said) || strings.Count(log.String(), "of no use") > 1 {
					t.Errorf("want a line with %q, and one about the file at most:\n%s", tt.said, &log)
				}
			})
		})
	}
}

// A segment that was opened by what was known asks etcd when that is back.
func TestConfirm(t *testing.T) {
	tests := []struct {
		name   string
		config string
		harm   func(store *leasetest.Store, key string) // while etcd is away
		moved  bool
		made   bool // a lease, for where it moves to
		lost   bool
		writes int
	}{
		{name: "all is the same", config: leasetest.Config, harm: func(*leasetest.Store, string) {}},
		{name: "the lease has ended and nobody has the subnet", config: leasetest.Config, harm: func(store *leasetest.Store, key string) { store.Forget(key) }, writes: 1},
		{name: "somebody else has the subnet", config: leasetest.Config, harm: func(store *leasetest.Store, key string) { store.Force(key, otherHost, 0) }, moved: true, made: true, lost: true, writes: 1},
		{name: "somebody else has the last subnet", config: oneSubnet, harm: func(store *leasetest.Store, key string) { store.Force(key, otherHost, 0) }, lost: true},
		{
			name: "another config", config: leasetest.Config, moved: true, lost: true,
			harm: func(store *leasetest.Store, _ string) {
				store.Force("config", strings.Replace(leasetest.Config, `"vxlan"`, `"vxlan", "VNI": 7`, 1), 0)
			},
		},
		{
			name: "it was made a reservation", config: leasetest.Config,
			harm: func(store *leasetest.Store, key string) {
				store.Force(key, strings.NewReplacer("192.0.2.2", "192.0.2.1", "00:02", "00:01").Replace(otherHost), 0)
			},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var log bytes.Buffer
				store := leasetest.New()
				defer store.Close()
				s := knowing(t, store, &log, tt.config)
				before := s.own.Load()
				s.known = s.knows()
				tt.harm(store, before.Key)
				store.Disconnect()
				writes := store.Calls("Put")

				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				done := make(chan error, 1)
				go func() { done <- s.hold(ctx) }()
				time.Sleep(time.Minute)
				synctest.Wait()
				if s.d.state() != phaseReady || s.confirmed.Load() || len(done) != 0 {
					t.Errorf("without etcd: state %q, confirmed %v, ended %v", s.d.state(), s.confirmed.Load(), len(done) != 0)
				}
				store.Connect()
				time.Sleep(5 * time.Second)
				synctest.Wait()
				if got := store.Calls("Put") - writes; got != tt.writes {
					t.Errorf("got %d writes, want %d", got, tt.writes)
				}
				if s.lost.Load() != tt.lost || s.confirmed.Load() == tt.lost {
					t.Errorf("lost %v, confirmed %v, want lost %v:\n%s", s.lost.Load(), s.confirmed.Load(), tt.lost, &log)
				}
				if !tt.moved {
					if now := s.own.Load(); len(done) != 0 || now.Subnet != before.Subnet {
						t.Errorf("got %+v, ended %v, want %s still", now, len(done) != 0, before.Subnet)
					}
					return
				}
				moved, ok := errors.AsType[*movedError](<-done)
				if !ok || moved.known != nil || (moved.made.Key != "") != tt.made || moved.made.Key == before.Key {
					t.Errorf("got %+v", moved)
				}
			})
		})
	}
}

// A host that had no IPv6 when it ran last, and has it now, was started by an IPv4
// lease: when etcd is back it asks for the other half, as status says.
func TestConfirmAsksForTheIPv6Half(t *testing.T) {
	const dual = `{"EnableIPv6": true, "Network": "10.5.0.0/16", "IPv6Network": "fd00:5::/48", "Backend": {"Type": "vxlan"}}`
	for _, tt := range []struct {
		name  string
		addr6 string
		moved bool
	}{
		{"the host has IPv6", "2001:db8::1", true},
		{"the host has none still", "", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, store *leasetest.Store, log *bytes.Buffer) {
				s := knowing(t, store, log, dual)
				s.known, s.live = s.knows(), newLive()
				at := eth0
				if tt.addr6 != "" {
					at.Addr6 = netip.MustParseAddr(tt.addr6)
				}
				s.d.home.Store(s.d.homeAt(at))
				s.addIPv6()
				if s.ipv6 != nil {
					t.Fatal("it has an IPv6 side without a lease for it")
				}
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				done := make(chan error, 1)
				go func() { done <- s.hold(ctx) }()
				time.Sleep(time.Minute)
				synctest.Wait()
				if len(done) == 0 {
					if tt.moved {
						t.Fatal("goes on without IPv6")
					}
					return
				}
				moved, ok := errors.AsType[*movedError](<-done)
				if !ok || !tt.moved || moved.known != nil || moved.made.Key != "" || !moved.config.EnableIPv6 {
					t.Errorf("got %+v", moved)
				}
			})
		})
	}
}
