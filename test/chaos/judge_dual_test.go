// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"vxtap/test/field"
)

// settledDual is a network of three hosts, whose subnets have their numbers in both
// families.
func settledDual() *story {
	s := begin()
	s.history = newHistory([2]netip.Prefix{netip.MustParsePrefix("172.30.0.0/18"), netip.MustParsePrefix("fd30::/58")})
	for n := 1; n <= 3; n++ {
		s.put(float64(n)/10, dualKey(n, n), dualValue(n), "")
	}
	return s
}

func dualKey(four, six int) string { return fmt.Sprintf("172.30.%d.0-24&fd30:0:0:%x::-64", four, six) }

func mac6(n int) string { return fmt.Sprintf("02:00:00:00:06:%02x", n) }

// dualValue is the lease of host n.
func dualValue(n int) string {
	return fmt.Sprintf(`{"PublicIP":"%s","PublicIPv6":"%s","BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"%s"},"BackendV6Data":{"VNI":1,"VtepMAC":"%s"}}`,
		addr(n), field.IPv6Of(addr(n)), mac(n), mac6(n))
}

// saysBoth is what host n says: the lease's state, its subnets, and in each family
// the hosts that are its peers, whose subnets have their numbers. A six of 0 is a
// host without IPv6.
func (s *story) saysBoth(second float64, n int, state string, four, six int, peers, peers6 []int) {
	st := field.Status{State: field.StateReady, Subnet: subnet4(four)}
	st.Lease.State = state
	end := at(second + 8)
	st.Lease.Expires = &end
	for _, p := range peers {
		st.Peers = append(st.Peers, field.Peer{Subnet: subnet4(p), VTEP: addr(p), MAC: mac(p)})
	}
	st.IPv6 = &field.IPv6{}
	if six != 0 {
		st.IPv6.Subnet = subnetOf6(six)
	}
	for _, p := range peers6 {
		st.IPv6.Peers = append(st.IPv6.Peers, field.Peer{Subnet: subnetOf6(p), VTEP: field.IPv6Of(addr(p)), MAC: mac6(p)})
	}
	s.sample(sample{host: n - 1, start: at(second), end: at(second + 0.01), status: st})
}

func subnet4(n int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{172, 30, byte(n), 0}), 24)
}

func subnetOf6(n int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom16([16]byte{0: 0xfd, 1: 0x30, 7: byte(n)}), 64)
}

func dualOwnerStories() []told {
	return []told{
		{"a host claims an IPv6 subnet that another one has", func(s *story) {
			s.saysBoth(5, 1, "held", 1, 2, []int{2, 3}, []int{3})
		}, oneOwner, "10.77.1.1 claims fd30:0:0:2::/64, which in etcd has not been its own"},
		{"two hosts claim one IPv6 subnet", func(s *story) {
			s.saysBoth(5, 2, "held", 2, 2, []int{1, 3}, []int{1, 3})
			s.saysBoth(5.1, 1, "held", 1, 2, []int{2, 3}, []int{3})
		}, oneOwner, "10.77.1.1 claims fd30:0:0:2::/64 and 10.77.1.2 claims fd30:0:0:2::/64"},
		{"a host keeps a key with another's IPv6 half", func(s *story) {
			s.del(5, dualKey(1, 1), string(keyDeleted))
			s.put(6, dualKey(1, 2), dualValue(1), "")
			s.saysBoth(8.5, 3, "held", 3, 3, []int{1, 2}, []int{2})
		}, oneOwner, "created subnets/172.30.1.0-24&fd30:0:0:2::-64 over subnets/172.30.2.0-24&fd30:0:0:2::-64 of 10.77.1.2, and has it still"},
		{"it gives way", func(s *story) {
			s.del(5, dualKey(1, 1), string(keyDeleted))
			s.put(6, dualKey(1, 2), dualValue(1), "")
			s.del(6.1, dualKey(1, 2), "")
			s.saysBoth(8.5, 3, "held", 3, 3, []int{2}, []int{2})
		}, "", ""},
		{"a host cannot know that it should give way", func(s *story) {
			s.del(5, dualKey(1, 1), string(keyDeleted))
			s.put(6, dualKey(1, 2), dualValue(1), "")
			s.block(0)
			s.saysBoth(8.5, 3, "held", 3, 3, []int{1, 2}, []int{2})
		}, "", ""},
		{"a claim of an IPv6 subnet outlives the lease in etcd", func(s *story) {
			s.block(0)
			s.del(5, dualKey(1, 1), "")
			s.saysBoth(5.5, 1, "held", 1, 1, []int{2, 3}, []int{2, 3})
		}, oneOwner, "claims fd30:0:0:1::/64 until"},
		{"a lease moves to another key in one step", func(s *story) {
			s.del(5, dualKey(1, 1), "")
			s.rev--
			s.put(5, dualKey(1, 4), dualValue(1), "")
			s.saysBoth(5.5, 1, "held", 1, 1, []int{2, 3}, []int{2, 3})
		}, "", ""},
		{"the same, told in the other order", func(s *story) {
			s.put(5, dualKey(1, 4), dualValue(1), "")
			s.rev--
			s.del(5, dualKey(1, 1), "")
			s.saysBoth(5.5, 1, "held", 1, 1, []int{2, 3}, []int{2, 3})
		}, "", ""},
	}
}

func dualForwardingStories() []told {
	hijack := func(s *story) {
		s.del(5, dualKey(1, 1), string(halfHijacked))
		s.rev--
		s.put(5, dualKey(9, 1), dualValue(9), string(halfHijacked))
	}
	return []told{
		{"a host forwards for an IPv6 subnet that was taken", func(s *story) {
			hijack(s)
			s.saysBoth(8, 1, "lost", 1, 1, []int{2, 3, 9}, []int{2, 3})
		}, noForwarding, "forwards for fd30:0:0:1::/64"},
		{"it stops in time", func(s *story) {
			hijack(s)
			s.saysBoth(6.5, 1, "lost", 1, 1, []int{2, 3, 9}, []int{2, 3})
			s.saysBoth(8, 1, "lost", 1, 1, nil, nil)
		}, "", ""},
		{"it has the same IPv4 subnet again a moment later", func(s *story) {
			hijack(s)
			s.put(8.5, dualKey(1, 4), dualValue(1), "")
			s.saysBoth(8, 1, "lost", 1, 1, nil, nil)
		}, "", ""},
		{"another key has the same IPv6 half and came later", func(s *story) {
			s.put(5, dualKey(9, 1), dualValue(9), string(halfHijacked))
			s.saysBoth(8, 1, "held", 1, 1, []int{2, 3, 9}, []int{2, 3})
		}, "", ""},
	}
}

func dualRouteStories() []told {
	without := func(s *story, second float64) {
		s.saysBoth(second, 1, "held", 1, 0, []int{2, 3}, nil)
	}
	return []told{
		{"all is well in both families", func(s *story) {
			s.saysBoth(5, 1, "held", 1, 1, []int{2, 3}, []int{2, 3})
		}, "", ""},
		{"an IPv6 peer is missing", func(s *story) {
			s.saysBoth(5, 1, "held", 1, 1, []int{2, 3}, []int{2})
		}, routable, "does not know that fd30:0:0:3::/64 is at fd77::1:3"},
		{"a peer with a broken IPv6 half is still there", func(s *story) {
			s.put(4, dualKey(3, 3), value(3), string(halfSpoilt))
			s.saysBoth(7, 1, "held", 1, 1, []int{2, 3}, []int{2, 3})
		}, routable, "sends for fd30:0:0:3::/64 to fd77::1:3"},
		{"it is gone, and its IPv4 half is not", func(s *story) {
			s.put(4, dualKey(3, 3), value(3), string(halfSpoilt))
			s.saysBoth(7, 1, "held", 1, 1, []int{2, 3}, []int{2})
		}, "", ""},
		{"a later key takes an IPv6 half from an earlier one", func(s *story) {
			s.put(4, dualKey(9, 3), dualValue(9), string(halfHijacked))
			s.saysBoth(7, 1, "held", 1, 1, []int{2, 3, 9}, []int{2})
		}, routable, "does not know that fd30:0:0:3::/64 is at fd77::1:3"},
		{"a host has no IPv6 side", func(s *story) { without(s, 5) }, routable, "does not know that fd30:0:0:2::/64"},
		{"since it has no IPv6 address", func(s *story) {
			s.homeless(0)
			without(s, 5)
		}, "", ""},
		{"the same, and its IPv4 peers are missing", func(s *story) {
			s.homeless(0)
			s.saysBoth(5, 1, "held", 1, 0, []int{2}, nil)
		}, routable, "does not know that 172.30.3.0/24"},
		{"the address has been back for a while", func(s *story) {
			s.homeless(0)
			s.housed(0, at(4), 2*time.Second)
			without(s, 7.9)
			without(s, 8.1)
		}, routable, "does not know that fd30:0:0:2::/64"},
		{"it has just come back", func(s *story) {
			s.homeless(0)
			s.housed(0, at(4), 2*time.Second)
			without(s, 7.9)
		}, "", ""},
		{"it came back, and there is quiet", func(s *story) {
			s.homeless(0)
			s.housed(0, at(4), 2*time.Second)
			s.quiet(at(4.5))
			without(s, 6.6)
		}, routable, "does not know that fd30:0:0:2::/64"},
	}
}

func TestJudgeOfBothFamilies(t *testing.T) {
	for _, tt := range append(append(dualOwnerStories(), dualForwardingStories()...), dualRouteStories()...) {
		t.Run(tt.name, func(t *testing.T) { tt.judge(t, settledDual()) })
	}
}

func TestKeysOfTwoHalves(t *testing.T) {
	four, six := netip.MustParsePrefix("172.30.1.0/24"), netip.MustParsePrefix("fd30:0:0:1::/64")
	none := netip.Prefix{}
	for _, tt := range []struct {
		key       string
		four, six netip.Prefix
	}{
		{"subnets/172.30.1.0-24", four, none},
		{"subnets/172.30.1.0-24&fd30:0:0:1::-64", four, six},
		{"subnets/172.30.1.0-24&fd30:0:0:1::-200", none, none},
		{"subnets/172.30.1.0-24&garbage", none, none},
		{"subnets/172.30.1.0-24&", none, none},
		{"subnets/172.30.1.0-24&172.30.2.0-24", none, none},
		{"subnets/fd30:0:0:1::-64", none, none},
		{"subnets/172.30.1.0-024", none, none},
		{"subnets-old/172.30.1.0-24", none, none},
	} {
		if a, b := readKey(tt.key); a != tt.four || b != tt.six {
			t.Errorf("%s: got %v, %v, want %v, %v", tt.key, a, b, tt.four, tt.six)
		}
		if tt.four.IsValid() && keyOf(tt.four, tt.six) != tt.key {
			t.Errorf("got %s, want %s", keyOf(tt.four, tt.six), tt.key)
		}
	}
}
