// SPDX-License-Identifier: Apache-2.0

package lease_test

import (
	"errors"
	"testing"

	"vxtap/lease"
	"vxtap/lease/leasetest"
)

// A reservation says what an operator wants. That its IPv6 half is missing, or too
// much, is no reason to give its IPv4 half up to a key that it goes before today.
func TestReservationOutlivesItsIPv6Half(t *testing.T) {
	const byOperator, v4, both = `{"PublicIP":"192.168.0.1"}`, "10.5.9.0-24", "10.5.9.0-24&fd00:5:0:9::-64"
	for _, tt := range []struct {
		name     string
		c        lease.Config
		reserved string
		before   string // somebody else's key, older than the reservation
		after    string // and one that is younger
		between  string // and one that is made right before the reservation gets another key
		want     string // the key of the lease; "": no IPv6 half
	}{
		{name: "nobody else: it gains its half", c: leasetest.DualNetwork(t), reserved: v4, want: "10.5.9.0-24&fd00:5:0:1::-64"},
		{name: "nobody else: it drops its half", c: leasetest.Network(t), reserved: both, want: v4},
		{name: "a younger key with the same IPv4 half", c: leasetest.DualNetwork(t), reserved: v4, after: "10.5.9.0-24&fd00:5:0:7::-64"},
		{name: "an older one", c: leasetest.DualNetwork(t), reserved: v4, before: "10.5.9.0-24&fd00:5:0:7::-64"},
		{name: "a younger one with a part of it", c: leasetest.DualNetwork(t), reserved: v4, after: "10.5.9.128-25"},
		{name: "a younger one with more", c: leasetest.DualNetwork(t), reserved: v4, after: "10.5.8.0-22"},
		{name: "one that is made in between", c: leasetest.DualNetwork(t), reserved: v4, between: "10.5.9.0-24&fd00:5:0:7::-64"},
		{name: "one of another subnet in between", c: leasetest.DualNetwork(t), reserved: v4, between: "10.5.7.0-24&fd00:5:0:1::-64", want: "10.5.9.0-24&fd00:5:0:2::-64"},
		{name: "a younger key, and an IPv6 half that does not fit", c: leasetest.DualNetwork(t), reserved: "10.5.9.0-24&fd00:6:0:9::-64", after: v4},
		{name: "a younger key, and no IPv6 any more", c: leasetest.Network(t), reserved: both, after: v4, want: both},
		{name: "a key of the whole network, which is nobody's", c: leasetest.DualNetwork(t), reserved: v4, after: "10.5.0.0-16", want: "10.5.9.0-24&fd00:5:0:1::-64"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, s *leasetest.Store) {
				for _, k := range []struct{ key, value string }{{tt.before, dualValue(t, 7)}, {tt.reserved, byOperator}, {tt.after, dualValue(t, 7)}} {
					if k.key != "" {
						s.Force("subnets/"+k.key, k.value, 0)
					}
				}
				r := lease.New(s, lease.Options{Pick: func(int) int {
					if tt.between != "" {
						s.Force("subnets/"+tt.between, dualValue(t, 7), 0)
						tt.between = ""
					}
					return 0
				}})
				q := leasetest.DualHost(1)
				l, err := r.Acquire(t.Context(), tt.c, q)
				if tt.want == "" {
					if !errors.Is(err, lease.ErrNoIPv6) {
						t.Fatalf("got %+v, %v, want no IPv6 half", l, err)
					}
					if p, _ := leasetest.Get(t, s, "subnets/"+tt.reserved); string(p.Value) != byOperator || p.Grant != 0 {
						t.Errorf("got %s with grant %d, want the reservation as it was", p.Value, p.Grant)
					}
					q = leasetest.Host(1) // which does without
					tt.want = tt.reserved
					if tt.reserved != v4 {
						return // without IPv6 the half that does not fit is given up, or not, as above
					}
					l, err = r.Acquire(t.Context(), tt.c, q)
				}
				if err != nil || l.Key != "subnets/"+tt.want || !l.Reserved() || l.Subnet != prefix("10.5.9.0/24") {
					t.Errorf("got %+v, %v, want %s, reserved", l, err, tt.want)
				}
			})
		})
	}
}

// Where no younger key is in the way any more the IPv6 half is there.
func TestReservationGainsItsIPv6HalfLater(t *testing.T) {
	bubble(t, func(t *testing.T, s *leasetest.Store) {
		const other = "subnets/10.5.9.0-24&fd00:5:0:7::-64"
		s.Force("subnets/10.5.9.0-24", leasetest.Value(t, 1), 0)
		s.Force(other, dualValue(t, 7), 0)
		r := lease.New(s, firstFree())
		if _, err := r.Acquire(t.Context(), leasetest.DualNetwork(t), leasetest.DualHost(1)); !errors.Is(err, lease.ErrNoIPv6) {
			t.Errorf("got %v, want no IPv6 half", err)
		}
		s.Forget(other)
		if l, err := r.Acquire(t.Context(), leasetest.DualNetwork(t), leasetest.DualHost(1)); err != nil || l.Key != "subnets/10.5.9.0-24&fd00:5:0:1::-64" || !l.Reserved() {
			t.Errorf("got %+v, %v, want the reservation with its half", l, err)
		}
	})
}

// The IPv4 half of what a host has is reserved by hand, under a key of its own.
func TestReservationOfTheIPv4HalfOfALease(t *testing.T) {
	bubble(t, func(t *testing.T, s *leasetest.Store) {
		r := lease.New(s, firstFree())
		c, q := leasetest.DualNetwork(t), leasetest.DualHost(1)
		before, err := r.Acquire(t.Context(), c, q)
		if err != nil {
			t.Fatal(err)
		}
		s.Force("subnets/10.5.1.0-24", leasetest.Value(t, 1), 0)
		l, err := r.Acquire(t.Context(), c, q)
		if _, there := leasetest.Get(t, s, "subnets/10.5.1.0-24"); err != nil || l.Key != before.Key || !there {
			t.Errorf("got %+v, %v, and the reservation there: %v; want both", l, err, there)
		}
		s.Forget(before.Key)
		if l, err := r.Acquire(t.Context(), c, q); err != nil || l.Key != before.Key || !l.Reserved() {
			t.Errorf("got %+v, %v, want the reservation with its half", l, err)
		}
	})
}

// A host that moves to an address for which another subnet is reserved keeps the
// one that its containers live in, as one does for whose own address another is
// reserved while it runs. When it is next started it takes the reservation.
func TestReservationIsTakenAtAStart(t *testing.T) {
	for _, tt := range []struct {
		name    string
		at      int // the host whose address it has by then
		holding bool
		takes   bool
	}{
		{"it moves", 2, true, false},
		{"it stays, and runs", 1, true, false},
		{"it is started with the other address", 2, false, true},
		{"it is started again", 1, false, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, s *leasetest.Store) {
				r := lease.New(s, firstFree())
				before := leasetest.Acquire(t, r, 1)
				const reserved = "subnets/10.5.77.0-24"
				b := leasetest.Host(tt.at).PublicIP.String()
				s.Force(reserved, `{"PublicIP":"`+b+`","PublicIPv6":null}`, 0)
				q := lease.Request{PublicIP: leasetest.Host(tt.at).PublicIP, MAC: before.Attrs.MAC, Previous: before.Subnet, Before: before, Holding: tt.holding}
				l, err := r.Acquire(t.Context(), leasetest.Network(t), q)
				if err != nil || (l.Key == reserved) != tt.takes || !tt.takes && (l.Subnet != before.Subnet || l.Attrs.PublicIP != q.PublicIP) {
					t.Fatalf("got %+v, %v, want the reservation: %v", l, err, tt.takes)
				}
				if tt.takes {
					return
				}
				if p, there := leasetest.Get(t, s, reserved); !there || p.Grant != 0 {
					t.Errorf("got %+v, want the reservation as it was", p)
				}
				q.Before, q.Holding = l, false
				if l, err := r.Acquire(t.Context(), leasetest.Network(t), q); err != nil || l.Key != reserved {
					t.Errorf("got %+v, %v at the next start, want the reservation", l, err)
				}
			})
		})
	}
}

// What the host lives on is no longer its own: it is told so and gets nothing else.
func TestHoldingWhatIsLost(t *testing.T) {
	bubble(t, func(t *testing.T, s *leasetest.Store) {
		r := lease.New(s, lease.Options{})
		before := leasetest.Acquire(t, r, 1)
		q := lease.Request{PublicIP: leasetest.Host(2).PublicIP, MAC: before.Attrs.MAC, Before: before, Holding: true}
		s.Expire(before.Grant)
		if l, err := r.Acquire(t.Context(), leasetest.Network(t), q); !errors.Is(err, lease.ErrLost) || s.Grants() != 0 {
			t.Errorf("got %+v, %v and %d grants, want ErrLost", l, err, s.Grants())
		}
	})
}
