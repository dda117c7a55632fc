// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"vxtap/encap/ether"
	"vxtap/lease"
	"vxtap/lease/leasetest"
)

// oneSubnet is a network with room for a single host.
const oneSubnet = `{"Network": "10.5.0.0/28", "SubnetLen": 30, "SubnetMin": "10.5.0.4", "SubnetMax": "10.5.0.4", "Backend": {"Type": "vxlan"}}`

const otherHost = `{"PublicIP":"192.0.2.2","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"02:00:00:00:00:02"}}`

// holding returns a segment with nothing but a lease, as it is in hold. It
// belongs into a synctest bubble.
func holding(t *testing.T, store *leasetest.Store, log *bytes.Buffer) *segment {
	t.Helper()
	store.Force("config", oneSubnet, 0)
	d := &daemon{
		log:      slog.New(slog.NewTextHandler(log, nil)),
		registry: lease.New(store, lease.Options{}),
	}
	d.home.Store(&home{vtep: netip.MustParseAddr("192.0.2.1")})
	d.phase.Store(phaseReady)
	config, err := d.registry.Config(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s := &segment{d: d, log: d.log, config: config}
	s.ipv4 = s.addSide(ipv4, "flannel.1")
	s.ipv4.mac = ether.MAC{0x02, 0, 0, 0, 0, 1}
	own, err := d.registry.Acquire(t.Context(), config, lease.Request{PublicIP: d.at().vtep, MAC: s.ipv4.mac})
	if err != nil {
		t.Fatal(err)
	}
	s.own.Store(&own)
	d.setSegment(s)
	return s
}

// wantLease checks what others are told of the lease.
func wantLease(t *testing.T, s *segment, state string, daemon phase) {
	t.Helper()
	var st Status
	st.addLease(s)
	st.addRegistry(s.d, time.Now())
	held := state == leaseHeld
	if st.Lease.State != state || (st.Lease.Expires != nil) != held || (st.Lease.Left > 86000) != held {
		t.Errorf("got lease %+v, want %s", st.Lease, state)
	}
	if got := s.d.state(); got != daemon {
		t.Errorf("got state %q, want %q", got, daemon)
	}
}

// A host that forwards frames must not die of what passes.
func TestHoldOutlivesWhatKeepsTheLeaseAway(t *testing.T) {
	tests := []struct {
		name string
		harm func(store *leasetest.Store, key string)
		mend func(store *leasetest.Store, key string)
		want string // in the log
	}{
		{
			name: "out of subnets",
			harm: func(store *leasetest.Store, key string) { store.Force(key, otherHost, 0) },
			mend: func(store *leasetest.Store, key string) { store.Forget(key) },
			want: "out of subnets",
		},
		{
			name: "a config that no longer parses",
			harm: func(store *leasetest.Store, key string) {
				store.Force("config", `{"Network": `, 0)
				store.Force(key, otherHost, 0)
			},
			mend: func(store *leasetest.Store, key string) {
				store.Force("config", oneSubnet, 0)
				store.Forget(key)
			},
			want: "network config is not JSON",
		},
		{
			name: "a config in whose network this host's own address lies",
			harm: func(store *leasetest.Store, key string) {
				store.Force("config", `{"Network": "192.0.2.0/24", "Backend": {"Type": "vxlan"}}`, 0)
				store.Force(key, otherHost, 0)
			},
			mend: func(store *leasetest.Store, key string) {
				store.Force("config", oneSubnet, 0)
				store.Forget(key)
			},
			want: "lies inside the overlay's Network 192.0.2.0/24",
		},
		{
			name: "etcd refuses",
			harm: func(store *leasetest.Store, key string) {
				store.Force(key, otherHost, 0)
				store.Hook(func(leasetest.Call) error { return fmt.Errorf("login: %w", lease.ErrRefused) })
			},
			mend: func(store *leasetest.Store, key string) {
				store.Hook(func(leasetest.Call) error { return nil })
				store.Forget(key)
			},
			want: "login: ",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var log bytes.Buffer
				store := leasetest.New()
				defer store.Close()
				s := holding(t, store, &log)
				before := s.own.Load()
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan error, 1)
				go func() { done <- s.hold(ctx) }()
				synctest.Wait()

				tt.harm(store, before.Key)
				time.Sleep(95 * time.Second)
				synctest.Wait()
				select {
				case err := <-done:
					t.Fatalf("hold ended, with error %v", err)
				default:
				}
				if got := strings.Count(log.String(), "lease not acquired again"); got != 4 || !strings.Contains(log.String(), tt.want) {
					t.Errorf("got %d lines in 95 s, want 4 with %q:\n%s", got, tt.want, &log)
				}

				wantLease(t, s, leaseLost, phaseLost)

				tt.mend(store, before.Key)
				time.Sleep(regainEvery + time.Second)
				synctest.Wait()
				if now := s.own.Load(); now == before || now.Subnet != before.Subnet {
					t.Errorf("got lease %+v, want %s anew", now, before.Subnet)
				}
				wantLease(t, s, leaseHeld, phaseReady)
				cancel()
				if err := <-done; err != nil {
					t.Errorf("got error %v at the end, want none", err)
				}
			})
		})
	}
}

func TestHoldEndsWhereItWasTold(t *testing.T) {
	tests := []struct {
		name string
		harm func(store *leasetest.Store, key string)
		want string
	}{
		{"the key is deleted", func(s *leasetest.Store, key string) { s.Forget(key) }, "was deleted, or its time ran out"},
		{"another host takes it", func(s *leasetest.Store, key string) { s.Force(key, otherHost, 0) }, "somebody wrote PublicIP 192.0.2.2"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var log bytes.Buffer
				store := leasetest.New()
				defer store.Close()
				s := holding(t, store, &log)
				s.d.onLeaseLost = lostExit
				key, writes := s.own.Load().Key, store.Calls("Put")
				done := make(chan error, 1)
				go func() { done <- s.hold(t.Context()) }()
				synctest.Wait()
				tt.harm(store, key)
				err := <-done
				if !errors.Is(err, errLostExit) || !errors.Is(err, lease.ErrLost) || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("got %v, want the reason %q", err, tt.want)
				}
				wantLease(t, s, leaseLost, phaseLost)
				if store.Calls("Put") != writes {
					t.Error("it wrote to the store afterwards")
				}
			})
		})
	}
}
