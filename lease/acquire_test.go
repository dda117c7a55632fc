// SPDX-License-Identifier: Apache-2.0

package lease_test

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"vxtap/encap/ether"
	"vxtap/lease"
	"vxtap/lease/leasetest"
)

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

func TestAcquireChooses(t *testing.T) {
	bubble(t, func(t *testing.T, s *leasetest.Store) {
		var offered int
		r := lease.New(s, lease.Options{Pick: func(n int) int { offered = n; return n - 1 }})
		s.Force("subnets/10.5.1.0-24", leasetest.Value(t, 7), 0)
		l := leasetest.Acquire(t, r, 1)
		if offered != 100 || l.Subnet != prefix("10.5.101.0/24") {
			t.Errorf("got %v of %d, want the last of the first hundred that are free", l.Subnet, offered)
		}
		if time.Until(l.Expires) != 24*time.Hour || l.Created != l.Revision {
			t.Errorf("got %+v, want a day to live", l)
		}
	})
}

func TestAcquirePrevious(t *testing.T) {
	for _, tt := range []struct {
		name, previous, want string
	}{
		{"free: had again", "10.5.33.0/24", "10.5.33.0/24"},
		{"somebody else's", "10.5.44.0/24", "10.5.1.0/24"},
		{"somebody else's, whose value is broken", "10.5.55.0/24", "10.5.1.0/24"},
		{"under a key that only flanneld believes in", "10.5.66.0/24", "10.5.1.0/24"},
		{"of another network", "10.6.33.0/24", "10.5.1.0/24"},
		{"of another length", "10.5.33.0/25", "10.5.1.0/24"},
		{"below SubnetMin", "10.5.0.0/24", "10.5.1.0/24"},
		{"with host bits", "10.5.33.1/24", "10.5.1.0/24"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, s *leasetest.Store) {
				s.Force("subnets/10.5.44.0-24", leasetest.Value(t, 4), 0)
				s.Force("subnets/10.5.55.0-24", "{", 0)
				s.Force("subnets/x10.5.66.0-24", "", 0)
				q := leasetest.Host(1)
				q.Previous = prefix(tt.previous)
				r := lease.New(s, lease.Options{Pick: func(int) int { return 0 }})
				l, err := r.Acquire(t.Context(), leasetest.Network(t), q)
				if err != nil || l.Subnet != prefix(tt.want) {
					t.Errorf("got %v, %v, want %s", l.Subnet, err, tt.want)
				}
			})
		})
	}
}

func TestAcquireRefuses(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*lease.Request)
		want   string
	}{
		{"no public IP", func(q *lease.Request) { q.PublicIP = netip.Addr{} }, "is no IPv4 address"},
		{"IPv6 public IP", func(q *lease.Request) { q.PublicIP = netip.MustParseAddr("fd00::1") }, "is no IPv4 address"},
		{"loopback", func(q *lease.Request) { q.PublicIP = netip.MustParseAddr("127.0.0.1") }, "is no address of one host"},
		{"public IP inside the overlay", func(q *lease.Request) { q.PublicIP = netip.MustParseAddr("10.5.7.7") }, "inside the overlay network"},
		{"no MAC", func(q *lease.Request) { q.MAC = ether.MAC{} }, "none that a VTEP can have"},
		{"multicast MAC", func(q *lease.Request) { q.MAC[0] = 1 }, "none that a VTEP can have"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, s *leasetest.Store) {
				q := leasetest.Host(1)
				tt.change(&q)
				_, err := lease.New(s, lease.Options{}).Acquire(t.Context(), leasetest.Network(t), q)
				if err == nil || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("got %v, want an error that says %q", err, tt.want)
				}
			})
		})
	}
}

func TestAcquireFull(t *testing.T) {
	bubble(t, func(t *testing.T, s *leasetest.Store) {
		c := leasetest.Network(t)
		c.SubnetMax = netip.MustParseAddr("10.5.2.0")
		r := lease.New(s, lease.Options{})
		for n := 1; n <= 2; n++ {
			if _, err := r.Acquire(t.Context(), c, leasetest.Host(n)); err != nil {
				t.Fatal(err)
			}
		}
		_, err := r.Acquire(t.Context(), c, leasetest.Host(3))
		if !errors.Is(err, lease.ErrFull) || !strings.Contains(err.Error(), "/test/subnets/") {
			t.Errorf("got %v, want ErrFull that says where to look", err)
		}
		if s.Grants() != 2 {
			t.Errorf("got %d grants, want the two that are used", s.Grants())
		}
	})
}

// F3: somebody takes the very subnet that was chosen, again and again.
func TestF3LostRacesAreRunAgain(t *testing.T) {
	bubble(t, func(t *testing.T, s *leasetest.Store) {
		races := 0
		r := lease.New(s, lease.Options{Pick: func(int) int {
			if races++; races <= 5 {
				s.Force(fmt.Sprintf("subnets/10.5.%d.0-24", races), leasetest.Value(t, 100+races), 0)
			}
			return 0
		}})
		l := leasetest.Acquire(t, r, 1)
		if l.Subnet != prefix("10.5.6.0/24") {
			t.Errorf("got %v, want the first that nobody snatched", l.Subnet)
		}
		if s.Grants() != 1 || s.Calls("Grant") != 1 {
			t.Errorf("got %d grants of %d made, want one", s.Grants(), s.Calls("Grant"))
		}
		for n := 1; n <= 5; n++ {
			if p, _ := leasetest.Get(t, s, fmt.Sprintf("subnets/10.5.%d.0-24", n)); string(p.Value) != leasetest.Value(t, 100+n) {
				t.Errorf("host %d's key was overwritten with %s", 100+n, p.Value)
			}
		}
	})
}

func TestAcquireGivesUpAfterManyRaces(t *testing.T) {
	bubble(t, func(t *testing.T, s *leasetest.Store) {
		s.Hook(func(c leasetest.Call) error {
			if c.Op == "Put" {
				return lease.ErrConflict
			}
			return nil
		})
		_, err := lease.New(s, lease.Options{}).Acquire(t.Context(), leasetest.Network(t), leasetest.Host(1))
		if err == nil || !strings.Contains(err.Error(), "lost 100 races") {
			t.Errorf("got %v", err)
		}
		if s.Grants() != 0 {
			t.Error("an unused grant was left behind")
		}
	})
}

// The write was done but its answer got lost.
func TestAcquireAfterALostAnswer(t *testing.T) {
	bubble(t, func(t *testing.T, s *leasetest.Store) {
		lost := 0
		s.Hook(func(c leasetest.Call) error {
			if c.Op == "Put" && c.Done && lost < 1 {
				lost++
				return leasetest.ErrDown
			}
			return nil
		})
		l := leasetest.Acquire(t, lease.New(s, lease.Options{}), 1)
		all, err := leasetest.List(t.Context(), s, "subnets")
		if err != nil || len(all.Pairs) != 1 || all.Pairs[0].Key != l.Key || all.Pairs[0].Grant != l.Grant || s.Grants() != 1 {
			t.Errorf("got %+v and %d grants for %+v, %v", all.Pairs, s.Grants(), l, err)
		}
	})
}

// F4: reuse is a compare-and-swap too: what somebody writes between our look
// and our write stays.
func TestF4ReuseDoesNotOverwrite(t *testing.T) {
	bubble(t, func(t *testing.T, s *leasetest.Store) {
		const key = "subnets/10.5.9.0-24"
		s.Force(key, `{"PublicIP":"192.168.0.1"}`, 0) // ours, to be rewritten
		first := true
		s.Hook(func(c leasetest.Call) error {
			if c.Op == "Put" && c.Key == key && !c.Done && first {
				first = false
				return lease.ErrConflict // as if host 2 had been faster
			}
			return nil
		})
		r := lease.New(s, lease.Options{Pick: func(int) int { return 0 }})
		l := leasetest.Acquire(t, r, 1)
		if l.Key != key || s.Calls("List") < 2 {
			t.Errorf("got %+v after %d looks, want a second look", l, s.Calls("List"))
		}
	})
}

func TestUnfitLeaseIsReplaced(t *testing.T) {
	bubble(t, func(t *testing.T, s *leasetest.Store) {
		s.Force("subnets/10.5.9.0-25", leasetest.Value(t, 1), 0)
		s.Force("subnets/10.6.9.0-24", leasetest.Value(t, 1), 0)
		l := leasetest.Acquire(t, lease.New(s, lease.Options{}), 1)
		all, err := leasetest.List(t.Context(), s, "subnets")
		if err != nil || len(all.Pairs) != 1 || all.Pairs[0].Key != l.Key {
			t.Errorf("got %+v, %v, want the new key alone", all.Pairs, err)
		}
	})
}

// An unfit lease beside one that fits is somebody's business, not ours.
func TestFittingLeaseIsPreferred(t *testing.T) {
	bubble(t, func(t *testing.T, s *leasetest.Store) {
		s.Force("subnets/10.4.9.0-24", leasetest.Value(t, 1), 0)
		s.Force("subnets/10.5.9.0-24", leasetest.Value(t, 1), 0)
		l := leasetest.Acquire(t, lease.New(s, lease.Options{}), 1)
		if l.Subnet != prefix("10.5.9.0/24") {
			t.Errorf("got %v, want the one that fits", l.Subnet)
		}
	})
}

// A dual-stack lease of this host keeps both halves of key and value: flannel
// skips a peer with a key of two halves and a value of one.
func TestDualStackLeaseIsKept(t *testing.T) {
	bubble(t, func(t *testing.T, s *leasetest.Store) {
		const key = "subnets/10.5.9.0-24&fd00:0:0:9::-64"
		const v6 = `,"BackendV6Data":{"VNI":1,"VtepMAC":"02:00:00:00:06:01"}}`
		s.Force(key, `{"PublicIP":"192.168.0.1","PublicIPv6":"fd01::1","BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"02:00:00:00:00:77"}`+v6, 0)
		c, err := lease.ParseConfig([]byte(`{"EnableIPv6": true, "Network": "10.5.0.0/16", "IPv6Network": "fd00::/48", "Backend": {"Type": "vxlan"}}`))
		if err != nil {
			t.Fatal(err)
		}
		l, err := lease.New(s, lease.Options{}).Acquire(t.Context(), c, leasetest.Host(1))
		if err != nil || l.Key != key || l.Subnet != prefix("10.5.9.0/24") {
			t.Fatalf("got %+v, %v", l, err)
		}
		want := `{"PublicIP":"192.168.0.1","PublicIPv6":"fd01::1","BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"02:00:00:00:00:01"}` + v6
		if p, _ := leasetest.Get(t, s, key); string(p.Value) != want {
			t.Errorf("got  %s\nwant %s", p.Value, want)
		}
	})
}

func TestAnotherTTLTakesANewGrant(t *testing.T) {
	bubble(t, func(t *testing.T, s *leasetest.Store) {
		l := leasetest.Acquire(t, lease.New(s, lease.Options{TTL: time.Hour}), 1)
		again := leasetest.Acquire(t, lease.New(s, lease.Options{TTL: 2 * time.Hour}), 1)
		if again.Subnet != l.Subnet || again.Grant == l.Grant || time.Until(again.Expires) != 2*time.Hour {
			t.Errorf("got %+v after %+v, want the same subnet for two hours", again, l)
		}
	})
}

// The grant of our lease ended between two looks: a new one, by
// compare-and-swap on the key, if that is still there.
func TestReuseWithAnEndedGrant(t *testing.T) {
	bubble(t, func(t *testing.T, s *leasetest.Store) {
		l := leasetest.Acquire(t, lease.New(s, lease.Options{}), 1)
		s.Hook(func(c leasetest.Call) error {
			if c.Op == "KeepAlive" {
				return lease.ErrNoGrant
			}
			return nil
		})
		again := leasetest.Acquire(t, lease.New(s, lease.Options{}), 1)
		if again.Subnet != l.Subnet || again.Grant == l.Grant || again.Created != l.Created {
			t.Errorf("got %+v after %+v, want the same key with another grant", again, l)
		}
	})
}

func TestAcquireWaitsForTheStore(t *testing.T) {
	bubble(t, func(t *testing.T, s *leasetest.Store) {
		s.Disconnect()
		time.AfterFunc(time.Hour, s.Connect)
		start := time.Now()
		leasetest.Acquire(t, lease.New(s, lease.Options{}), 1)
		if took := time.Since(start); took < time.Hour || took > time.Hour+3*time.Second {
			t.Errorf("took %v, want as long as the store was away", took)
		}
	})
}

func TestAcquireBesideAKeyOfTheWholeNetwork(t *testing.T) {
	for _, key := range []string{"foo-0.0.0.0-0", "0.0.0.0-0", "10.0.0.0-8", "10.5.0.0-16", "x10.5.0.0-16"} {
		t.Run(key, func(t *testing.T) {
			bubble(t, func(t *testing.T, s *leasetest.Store) {
				s.Force("subnets/"+key, leasetest.Value(t, 9), 0)
				leasetest.Acquire(t, lease.New(s, lease.Options{}), 1)
			})
		})
	}
}

func TestAcquireFullNamesTheWidestKey(t *testing.T) {
	bubble(t, func(t *testing.T, s *leasetest.Store) {
		s.Force("subnets/10.5.0.0-17", leasetest.Value(t, 7), 0)
		s.Force("subnets/foo-10.5.128.0-17", leasetest.Value(t, 8), 0)
		s.Force("subnets/0.0.0.0-0", leasetest.Value(t, 9), 0) // blocks nothing
		_, err := lease.New(s, lease.Options{}).Acquire(t.Context(), leasetest.Network(t), leasetest.Host(1))
		if !errors.Is(err, lease.ErrFull) || !strings.Contains(err.Error(), `"/test/subnets/10.5.0.0-17"`) {
			t.Errorf("got %v, want ErrFull that names the widest key", err)
		}
	})
}
