// SPDX-License-Identifier: Apache-2.0

package lease_test

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"vxtap/encap/ether"
	"vxtap/lease"
	"vxtap/lease/leasetest"
)

// What a dual-stack host of leasetest publishes behind its IPv4 half.
const ipv6Half = `,"BackendV6Data":{"VNI":1,"VtepMAC":"02:00:00:00:06:01"}}`

func firstFree() lease.Options { return lease.Options{Pick: func(int) int { return 0 }} }

func TestAcquireDual(t *testing.T) {
	const first = "10.5.1.0-24&fd00:5:0:1::-64"
	one, seven := lease.Request{PublicIP: leasetest.Host(1).PublicIP, MAC: leasetest.Host(1).MAC}, leasetest.Value(t, 7)
	dual := leasetest.DualHost(1)
	with := func(q lease.Request, v4, v6 string) lease.Request {
		q.Previous, q.PreviousIPv6 = prefix(v4), prefix(v6)
		return q
	}
	v4, both := leasetest.Network(t), leasetest.DualNetwork(t)
	for _, tt := range []struct {
		name string
		c    lease.Config
		q    lease.Request
		held map[string]string
		want string
	}{
		{"nothing there: the first of each", both, dual, nil, first},
		{"a host without IPv6", both, one, nil, "10.5.1.0-24"},
		{"a network without", v4, dual, nil, "10.5.1.0-24"},
		{"previous subnets", both, with(dual, "10.5.9.0/24", "fd00:5:0:8::/64"), nil, "10.5.9.0-24&fd00:5:0:8::-64"},
		{"a previous subnet that somebody has: each half by itself", both, with(dual, "10.5.9.0/24", "fd00:5:0:8::/64"),
			map[string]string{"10.5.9.0-24": seven}, "10.5.1.0-24&fd00:5:0:8::-64"},
		{"a previous IPv6 subnet that somebody has", both, with(dual, "10.5.9.0/24", "fd00:5:0:8::/64"),
			map[string]string{"10.5.7.0-24&fd00:5:0:8::-64": seven}, "10.5.9.0-24&fd00:5:0:1::-64"},
		{"a previous IPv6 subnet of another length", both, with(dual, "10.5.9.0/24", "fd00:5:0:8::/63"), nil, "10.5.9.0-24&fd00:5:0:1::-64"},
		{"a previous IPv6 subnet of another network", both, with(dual, "10.5.9.0/24", "fd00:6:0:8::/64"), nil, "10.5.9.0-24&fd00:5:0:1::-64"},
		{"taken halves are passed over", both, dual, map[string]string{"10.5.1.0-24&fd00:5:0:2::-64": seven, "10.5.2.0-24&fd00:5:0:1::-63": "{"}, "10.5.3.0-24&fd00:5:0:3::-64"},
		{"an IPv6 half that only flanneld believes in", both, dual, map[string]string{"x10.5.1.0-24&fd00:5:0:1::-64": seven}, "10.5.2.0-24&fd00:5:0:2::-64"},
		{"own lease of both halves", both, dual, map[string]string{"10.5.9.0-24&fd00:5:0:9::-64": dualValue(t, 1)}, "10.5.9.0-24&fd00:5:0:9::-64"},
		{"F11 own lease of IPv4 alone", both, dual, map[string]string{"10.5.9.0-24": leasetest.Value(t, 1)}, "10.5.9.0-24&fd00:5:0:1::-64"},
		{"F11 and its previous IPv6 subnet", both, with(dual, "10.5.4.0/24", "fd00:5:0:8::/64"), map[string]string{"10.5.9.0-24": leasetest.Value(t, 1)}, "10.5.9.0-24&fd00:5:0:8::-64"},
		{"F11 in reverse", v4, dual, map[string]string{"10.5.9.0-24&fd00:5:0:9::-64": dualValue(t, 1)}, "10.5.9.0-24"},
		{"IPv6 half of another network", both, dual, map[string]string{"10.5.9.0-24&fd00:6:0:9::-64": dualValue(t, 1)}, "10.5.9.0-24&fd00:5:0:1::-64"},
		{"IPv6 half of another length", both, dual, map[string]string{"10.5.9.0-24&fd00:5:0:8::-63": dualValue(t, 1)}, "10.5.9.0-24&fd00:5:0:1::-64"},
		{"below IPv6SubnetMin", both, dual, map[string]string{"10.5.9.0-24&fd00:5::-64": dualValue(t, 1)}, "10.5.9.0-24&fd00:5:0:1::-64"},
		{"IPv4 half of another network: the IPv6 one stays", both, dual, map[string]string{"10.6.9.0-24&fd00:5:0:9::-64": dualValue(t, 1)}, "10.5.1.0-24&fd00:5:0:9::-64"},
		{"a host without IPv6 keeps both halves of what it has", both, one, map[string]string{"10.5.9.0-24&fd00:5:0:9::-64": dualValue(t, 1)}, "10.5.9.0-24&fd00:5:0:9::-64"},
		{"a host without IPv6 does not keep a half that does not fit", both, one, map[string]string{"10.5.9.0-24&fd00:6:0:9::-64": dualValue(t, 1)}, "10.5.9.0-24"},
		{"a whole lease before one to be moved", both, dual, map[string]string{"10.5.8.0-24": leasetest.Value(t, 1), "10.5.9.0-24&fd00:5:0:9::-64": dualValue(t, 1)}, "10.5.9.0-24&fd00:5:0:9::-64"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, s *leasetest.Store) {
				grant, _, err := s.Grant(t.Context(), 24*time.Hour)
				if err != nil {
					t.Fatal(err)
				}
				for k, v := range tt.held {
					s.Force("subnets/"+k, v, grant)
				}
				l, err := lease.New(s, firstFree()).Acquire(t.Context(), tt.c, tt.q)
				if err != nil || l.Key != "subnets/"+tt.want || l.Reserved() {
					t.Fatalf("got %+v, %v, want %s", l, err, tt.want)
				}
				k, err := lease.ParseKey(tt.want)
				if err != nil || l.Subnet != k.IPv4 || l.IPv6Subnet != k.IPv6 || l.IPv6Fault != "" {
					t.Errorf("got %+v, %v, want the subnets of %s", l, err, tt.want)
				}
				want := leasetest.Value(t, 1)
				if k.IPv6.IsValid() {
					want = dualValue(t, 1)
				}
				if p, _ := leasetest.Get(t, s, l.Key); string(p.Value) != want || p.Grant == 0 {
					t.Errorf("got  %s with grant %d\nwant %s", p.Value, p.Grant, want)
				}
			})
		})
	}
}

// dualValue is leasetest.Value with both halves.
func dualValue(t *testing.T, n int) string {
	t.Helper()
	v := strings.Replace(leasetest.Value(t, n), `"PublicIPv6":null`, `"PublicIPv6":"`+leasetest.DualHost(n).PublicIPv6.String()+`"`, 1)
	return strings.TrimSuffix(v, "}") + strings.Replace(ipv6Half, ":01\"", ":0"+string(rune('0'+n))+"\"", 1)
}

// A daemon may end between creating a key and looking who had its halves before. Who
// starts then, or finds such a key for another reason, gives way as it would have.
func TestAcquireDualGivesWayLater(t *testing.T) {
	const ours = "10.5.9.0-24&fd00:5:0:9::-64"
	for _, tt := range []struct {
		name, earlier, value, want string
		reserved                   bool
	}{
		{"the IPv6 half is another's", "10.5.8.0-24&fd00:5:0:9::-64", dualValue(t, 7), "10.5.9.0-24&fd00:5:0:1::-64", false},
		{"it is inside another's", "10.5.8.0-24&fd00:5:0:8::-63", dualValue(t, 7), "10.5.9.0-24&fd00:5:0:1::-64", false},
		{"the IPv4 half is another's", "10.5.9.0-24", leasetest.Value(t, 7), "10.5.1.0-24&fd00:5:0:9::-64", false},
		{"neither is", "10.5.8.0-24&fd00:5:0:8::-64", dualValue(t, 7), ours, false},
		{"no host can have what looks like it", "x10.5.9.0-24&fd00:5:0:9::-64", dualValue(t, 7), ours, false},
		{"it is our own other key", "10.5.9.0-24", leasetest.Value(t, 1), ours, false},
		{"it is junk", "10.5.8.0-24&fd00:5:0:9::-64", "{", ours, false},
		{"an operator reserved it for us", "10.5.8.0-24&fd00:5:0:9::-64", dualValue(t, 7), ours, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, s *leasetest.Store) {
				grant, _, err := s.Grant(t.Context(), 24*time.Hour)
				if err != nil {
					t.Fatal(err)
				}
				s.Force("subnets/"+tt.earlier, tt.value, grant)
				if tt.reserved {
					grant = 0
				}
				s.Force("subnets/"+ours, dualValue(t, 1), grant)
				q := leasetest.DualHost(1)
				q.Previous, q.PreviousIPv6 = prefix("10.5.9.0/24"), prefix("fd00:5:0:9::/64")
				l, err := lease.New(s, firstFree()).Acquire(t.Context(), leasetest.DualNetwork(t), q)
				if err != nil || l.Key != "subnets/"+tt.want || l.Reserved() != tt.reserved {
					t.Errorf("got %+v, %v, want %s", l, err, tt.want)
				}
				if _, there := leasetest.Get(t, s, "subnets/"+ours); there != (tt.want == ours) {
					t.Errorf("our former key is there: %t", there)
				}
				if p, _ := leasetest.Get(t, s, "subnets/"+tt.earlier); string(p.Value) != tt.value {
					t.Errorf("the earlier key has %q", p.Value)
				}
			})
		})
	}
}

// A reservation stays one, whatever becomes of its IPv6 half, and is preferred.
func TestAcquireDualReservation(t *testing.T) {
	const byOperator = `{"PublicIP":"192.168.0.1"}`
	for _, tt := range []struct{ name, key, want string }{
		{"of both halves", "10.5.9.0-24&fd00:5:0:9::-64", "10.5.9.0-24&fd00:5:0:9::-64"},
		{"of IPv4 alone, beside a lease", "10.5.9.0-24", "10.5.9.0-24&fd00:5:0:1::-64"},
		{"with an IPv6 half that does not fit", "10.5.9.0-24&fd00:6:0:9::-64", "10.5.9.0-24&fd00:5:0:1::-64"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, s *leasetest.Store) {
				grant, _, err := s.Grant(t.Context(), 24*time.Hour)
				if err != nil {
					t.Fatal(err)
				}
				s.Force("subnets/10.5.4.0-24&fd00:5:0:4::-64", dualValue(t, 1), grant)
				s.Force("subnets/"+tt.key, byOperator, 0)
				l, err := lease.New(s, firstFree()).Acquire(t.Context(), leasetest.DualNetwork(t), leasetest.DualHost(1))
				p, _ := leasetest.Get(t, s, "subnets/"+tt.want)
				if err != nil || l.Key != "subnets/"+tt.want || !l.Reserved() || p.Grant != 0 || string(p.Value) != dualValue(t, 1) {
					t.Errorf("got %+v, %v and %s, want %s without a grant", l, err, p.Value, tt.want)
				}
			})
		})
	}
}

func TestAcquireDualRefuses(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*lease.Request)
		want   string
	}{
		{"an IPv4 address", func(q *lease.Request) { q.PublicIPv6 = netip.MustParseAddr("192.0.2.1") }, "is no IPv6 address"},
		{"an IPv4-compatible one", func(q *lease.Request) { q.PublicIPv6 = netip.MustParseAddr("::192.0.2.1") }, "is an IPv4 address written as an IPv6 one"},
		{"an IPv4-mapped one", func(q *lease.Request) { q.PublicIPv6 = netip.MustParseAddr("::ffff:192.0.2.1") }, "is no IPv6 address"},
		{"multicast", func(q *lease.Request) { q.PublicIPv6 = netip.MustParseAddr("ff02::1") }, "is no address of one host"},
		{"with a zone", func(q *lease.Request) { q.PublicIPv6 = netip.MustParseAddr("fe80::1%eth0") }, "is no IPv6 address"},
		{"inside the overlay", func(q *lease.Request) { q.PublicIPv6 = netip.MustParseAddr("fd00:5::1") }, "inside the overlay network"},
		{"no MAC", func(q *lease.Request) { q.IPv6MAC = ether.MAC{} }, "none that a VTEP can have"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, s *leasetest.Store) {
				q := leasetest.DualHost(1)
				tt.change(&q)
				_, err := lease.New(s, lease.Options{}).Acquire(t.Context(), leasetest.DualNetwork(t), q)
				if err == nil || !strings.Contains(err.Error(), tt.want) || s.Calls("Grant") != 0 {
					t.Errorf("got %v, want an error that says %q, before anything is written", err, tt.want)
				}
			})
		})
	}
}

// Out of IPv6 subnets: what the host holds stays.
func TestAcquireDualFull(t *testing.T) {
	bubble(t, func(t *testing.T, s *leasetest.Store) {
		c := leasetest.DualNetwork(t)
		c.IPv6SubnetMax = c.IPv6SubnetMin
		s.Force("subnets/10.5.7.0-24&fd00:5:0:1::-64", dualValue(t, 7), 0)
		old := leasetest.Acquire(t, lease.New(s, lease.Options{}), 1)
		_, err := lease.New(s, lease.Options{}).Acquire(t.Context(), c, leasetest.DualHost(1))
		if !errors.Is(err, lease.ErrFull) || !strings.Contains(err.Error(), "every /64 from fd00:5:0:1::") {
			t.Errorf("got %v, want ErrFull that says of what", err)
		}
		if p, ok := leasetest.Get(t, s, old.Key); !ok || p.Revision != old.Revision {
			t.Errorf("got %+v, want the lease as it was", p)
		}
	})
}

// Keys with and without an IPv6 half, or with different ones, do not keep each
// other from being created.
func TestAcquireDualGivesWay(t *testing.T) {
	for _, tt := range []struct{ name, other, want string }{
		{"IPv4 half, by a host without IPv6", "10.5.1.0-24", "10.5.2.0-24&fd00:5:0:1::-64"},
		{"IPv4 half, with another IPv6 half", "10.5.1.0-24&fd00:5:0:7::-64", "10.5.2.0-24&fd00:5:0:1::-64"},
		{"IPv6 half", "10.5.7.0-24&fd00:5:0:1::-64", "10.5.1.0-24&fd00:5:0:2::-64"},
		{"part of the IPv6 half", "10.5.7.0-24&fd00:5:0:1:8000::-65", "10.5.1.0-24&fd00:5:0:2::-64"},
	} {
		for _, had := range []bool{false, true} {
			t.Run(tt.name, func(t *testing.T) {
				bubble(t, func(t *testing.T, s *leasetest.Store) {
					if had { // and is to be moved
						q := leasetest.Host(1)
						q.Previous = prefix("10.5.1.0/24")
						if _, err := lease.New(s, firstFree()).Acquire(t.Context(), leasetest.Network(t), q); err != nil {
							t.Fatal(err)
						}
					}
					faster := false
					r := lease.New(s, lease.Options{Pick: func(int) int {
						if !faster {
							faster = true
							s.Force("subnets/"+tt.other, dualValue(t, 7), 0)
						}
						return 0
					}})
					l, err := r.Acquire(t.Context(), leasetest.DualNetwork(t), leasetest.DualHost(1))
					if err != nil || l.Key != "subnets/"+tt.want {
						t.Errorf("got %+v, %v, want %s", l, err, tt.want)
					}
					all, err := leasetest.List(t.Context(), s, "subnets")
					if err != nil || len(all.Pairs) != 2 {
						t.Errorf("got %+v, %v, want one key each", all.Pairs, err)
					}
					if !had && s.Grants() != 1 {
						t.Errorf("got %d grants, want one: the other key is a reservation", s.Grants())
					}
				})
			})
		}
	}
}

// The answer to a write got lost, and somebody had been faster: that the key is
// ours says nothing about its halves.
func TestAcquireDualGivesWayAfterALostAnswer(t *testing.T) {
	bubble(t, func(t *testing.T, s *leasetest.Store) {
		lost := false
		s.Hook(func(c leasetest.Call) error {
			if c.Op == "Put" && c.Done && !lost {
				lost = true
				return leasetest.ErrDown
			}
			return nil
		})
		faster := false
		r := lease.New(s, lease.Options{Pick: func(int) int {
			if !faster {
				faster = true
				s.Force("subnets/10.5.7.0-24&fd00:5:0:1::-64", dualValue(t, 7), 0)
			}
			return 0
		}})
		l, err := r.Acquire(t.Context(), leasetest.DualNetwork(t), leasetest.DualHost(1))
		if err != nil || l.Key != "subnets/10.5.1.0-24&fd00:5:0:2::-64" {
			t.Errorf("got %+v, %v, want another IPv6 half", l, err)
		}
	})
}

// A restart of a dual-stack host writes nothing.
func TestDualRestartChangesNothing(t *testing.T) {
	bubble(t, func(t *testing.T, s *leasetest.Store) {
		acquire := func() lease.Lease {
			l, err := lease.New(s, lease.Options{}).Acquire(t.Context(), leasetest.DualNetwork(t), leasetest.DualHost(1))
			if err != nil {
				t.Fatal(err)
			}
			return l
		}
		first, again := acquire(), acquire()
		if first.Key != again.Key || first.Revision != again.Revision || first.Grant != again.Grant || s.Calls("Put") != 1 {
			t.Errorf("got %+v after %+v", again, first)
		}
	})
}

// What stands under our key may be broken, or somebody else's, in its IPv6 half
// alone.
func TestKeepIPv6Half(t *testing.T) {
	for _, tt := range []struct {
		name, from, to string
		conflict       string
		mended         bool
	}{
		{"another address", `"fd01::1"`, `"fd01::2"`, "publishes PublicIPv6 fd01::2", false},
		{"another MAC", "06:01", "06:02", "publishes MAC for IPv6 02:00:00:00:06:02", false},
		{"no IPv6 half", `"fd01::1"`, `null`, "", true},
		{"a multicast MAC", "02:00:00:00:06:01", "01:00:00:00:06:01", "", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, s *leasetest.Store) {
				r := lease.New(s, lease.Options{})
				l, err := r.Acquire(t.Context(), leasetest.DualNetwork(t), leasetest.DualHost(1))
				if err != nil {
					t.Fatal(err)
				}
				out := leasetest.Keep(t, r, l)
				pass(time.Second)
				s.Force(l.Key, strings.Replace(dualValue(t, 1), tt.from, tt.to, 1), l.Grant)
				pass(time.Second)
				if got := r.Status().Conflict; tt.conflict == "" && got != "" || !strings.Contains(got, tt.conflict) {
					t.Errorf("got conflict %q, want it to say %q", got, tt.conflict)
				}
				p, _ := leasetest.Get(t, s, l.Key)
				if mended := string(p.Value) == dualValue(t, 1); mended != tt.mended || p.Grant != l.Grant {
					t.Errorf("got %s, want it put back: %v", p.Value, tt.mended)
				}
				assertKept(t, out)
			})
		})
	}
}
