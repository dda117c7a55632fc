// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"vxtap/test/field"
)

// story is a recorded history that is told to a judge. Moments are seconds.
type story struct {
	*judge
	rev int64
}

func begin() *story {
	return &story{judge: newJudge([2]netip.Prefix{netip.MustParsePrefix("172.30.0.0/18")}, []netip.Addr{addr(1), addr(2), addr(3)})}
}

// second 0 is in the middle of some day.
func at(second float64) time.Time {
	return time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC).Add(time.Duration(second * float64(time.Second)))
}

func addr(n int) netip.Addr { return netip.AddrFrom4([4]byte{10, 77, 1, byte(n)}) }

func mac(n int) string { return fmt.Sprintf("02:00:00:00:00:%02x", n) }

// value is the lease of host n.
func value(n int) string {
	return fmt.Sprintf(`{"PublicIP":"%s","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"%s"}}`, addr(n), mac(n))
}

// put is a write by the host that the value names, or by a fault.
func (s *story) put(second float64, key, value, fault string) {
	s.rev++
	s.event(event{rev: s.rev, at: at(second), key: "subnets/" + key, value: value, grant: 7, fault: fault})
}

func (s *story) del(second float64, key, fault string) {
	s.rev++
	s.event(event{rev: s.rev, at: at(second), key: "subnets/" + key, deleted: true, fault: fault})
}

// says is what host n says: the lease's state and end, its subnet, and peers as
// "third byte=host".
func (s *story) says(second float64, n int, state string, expires float64, subnet int, peers ...string) {
	st := field.Status{State: field.StateReady, Subnet: netip.PrefixFrom(netip.AddrFrom4([4]byte{172, 30, byte(subnet), 0}), 24)}
	st.Lease.State = state
	end := at(expires)
	st.Lease.Expires = &end
	for _, p := range peers {
		var third, host int
		if _, err := fmt.Sscanf(p, "%d=%d", &third, &host); err != nil {
			panic(err)
		}
		st.Peers = append(st.Peers, field.Peer{
			Subnet: netip.PrefixFrom(netip.AddrFrom4([4]byte{172, 30, byte(third), 0}), 24), VTEP: addr(host), MAC: mac(host),
		})
	}
	s.sample(sample{host: n - 1, start: at(second), end: at(second + 0.01), status: st})
}

// begins is host n saying that it has a subnet, and no peers yet.
func (s *story) begins(second float64, n, subnet int) {
	st := field.Status{State: "setting up", Subnet: netip.PrefixFrom(netip.AddrFrom4([4]byte{172, 30, byte(subnet), 0}), 24)}
	s.sample(sample{host: n - 1, start: at(second), end: at(second + 0.01), status: st})
}

// settled is a network of three hosts, whose subnets have their numbers.
func settled() *story {
	s := begin()
	for n := 1; n <= 3; n++ {
		s.put(float64(n)/10, fmt.Sprintf("172.30.%d.0-24", n), value(n), "")
	}
	return s
}

// well is every host saying what is right there, at some moment.
func (s *story) well(second float64) {
	s.says(second, 1, "held", second+8, 1, "2=2", "3=3")
	s.says(second, 2, "held", second+8, 2, "1=1", "3=3")
	s.says(second, 3, "held", second+8, 3, "1=1", "2=2")
}

// told is one story, and what is wrong in it.
type told struct {
	name  string
	story func(s *story)
	want  invariant // "": nothing is wrong
	text  string
}

func ownerStories() []told {
	return []told{
		{"a host claims what another one has", func(s *story) {
			s.well(5)
			s.says(6, 1, "held", 14, 2, "3=3")
		}, oneOwner, "has not been its own"},
		{"two hosts claim one subnet", func(s *story) {
			s.says(6, 2, "held", 14, 2, "1=1", "3=3")
			s.says(6, 1, "held", 14, 2, "3=3")
		}, oneOwner, "10.77.1.1 claims 172.30.2.0/24 and 10.77.1.2 claims 172.30.2.0/24"},
		{"the same, but one cannot know", func(s *story) {
			s.block(0)
			s.del(5, "172.30.1.0-24", "key deleted")
			s.put(5.1, "172.30.1.0-24", value(2), "")
			s.says(9, 2, "held", 14, 1, "3=3")
			s.says(9, 1, "held", 14, 1, "2=2", "3=3")
		}, "", ""},
		{"the same, and it could know again", func(s *story) {
			s.block(0)
			s.del(5, "172.30.1.0-24", "key deleted")
			s.put(5.1, "172.30.1.0-24", value(2), "")
			s.unblock(0, at(6), time.Second)
			s.says(9.5, 1, "held", 14, 1, "3=3")
		}, oneOwner, "has not been its own"},
		{"a claim whose time is over is none", func(s *story) {
			s.block(0)
			s.del(5, "172.30.1.0-24", "key deleted")
			s.put(5.1, "172.30.1.0-24", value(2), "")
			s.unblock(0, at(6), time.Second)
			s.says(9.5, 1, "held", 9, 1)
		}, "", ""},
		{"a claim outlives the lease in etcd", func(s *story) {
			s.block(0)
			s.del(5, "172.30.1.0-24", "")
			s.says(5.5, 1, "held", 7, 1, "2=2", "3=3")
		}, oneOwner, "its time was over in etcd"},
		{"the same, where a fault has shortened it", func(s *story) {
			s.block(0)
			s.put(5, "172.30.1.0-24", value(1), string(shortened))
			s.del(6, "172.30.1.0-24", "")
			s.says(6.5, 1, "held", 14, 1, "2=2", "3=3")
		}, "", ""},
		{"a host creates a lease inside another's", func(s *story) {
			s.put(5, "172.30.2.128-25", value(1), "")
		}, oneOwner, "created subnets/172.30.2.128-25"},
		{"a stranger does", func(s *story) {
			s.put(5, "172.30.2.128-25", value(9), "junk key")
		}, "", ""},
	}
}

func forwardingStories() []told {
	return []told{
		{"a host forwards for a subnet that was taken", func(s *story) {
			s.put(5, "172.30.1.0-24", value(9), "key hijacked")
			s.says(8, 1, "lost", 0, 1, "2=2", "3=3")
		}, noForwarding, "forwards for 172.30.1.0/24"},
		{"it stops in time", func(s *story) {
			s.put(5, "172.30.1.0-24", value(9), "key hijacked")
			s.says(6.5, 1, "lost", 0, 1, "2=2", "3=3")
			s.says(8, 1, "lost", 0, 1)
		}, "", ""},
		{"a host forwards for a subnet that was deleted and is nobody's", func(s *story) {
			s.del(5, "172.30.1.0-24", "key deleted")
			s.says(8, 1, "lost", 0, 1, "2=2", "3=3")
		}, "", ""},
	}
}

func routeStories() []told {
	return []told{
		{"a peer is missing", func(s *story) { s.says(5, 1, "held", 13, 1, "2=2") }, routable, "does not know that 172.30.3.0/24 is at 10.77.1.3"},
		{"a peer is new", func(s *story) {
			s.put(5, "172.30.4.0-24", value(9), "junk key")
			s.says(6.5, 1, "held", 13, 1, "2=2", "3=3")
		}, "", ""},
		{"a peer is gone and still there", func(s *story) {
			s.del(5, "172.30.3.0-24", "key deleted")
			s.says(8, 1, "held", 13, 1, "2=2", "3=3")
		}, routable, "sends for 172.30.3.0/24 to 10.77.1.3"},
		{"a peer has another address", func(s *story) { s.says(5, 1, "held", 13, 1, "2=2", "3=2") }, routable, "sends for 172.30.3.0/24 to 10.77.1.2"},
		{"a host opens another subnet", func(s *story) {
			s.begins(5, 1, 1)
			s.begins(6.5, 1, 1)
			s.says(6.8, 1, "held", 14, 1, "2=2", "3=3")
			s.begins(9, 1, 1)
		}, "", ""},
		{"it goes on opening", func(s *story) {
			s.begins(5, 1, 1)
			s.begins(7.1, 1, 1)
		}, routable, "does not know that 172.30.2.0/24"},
		{"nobody could know", func(s *story) {
			s.block(0)
			s.says(5, 1, "held", 13, 1, "2=2")
		}, "", ""},
		{"there was trouble, and it is over", func(s *story) {
			s.trouble(0, at(4), 16*time.Second)
			s.quiet(at(5))
			s.says(7.5, 1, "held", 13, 1, "2=2")
		}, routable, "does not know"},
		{"an overlapping lease that came later is a peer", func(s *story) {
			s.put(3, "172.30.3.0-25", value(9), "junk key")
			s.says(6, 1, "held", 13, 1, "2=2", "3=9")
		}, routable, "sends for 172.30.3.0/24 to 10.77.1.9"},
	}
}

func overwriteStories() []told {
	return []told{
		{"a host writes over another's key", func(s *story) { s.put(5, "172.30.2.0-24", value(1), "") }, noOverwrite, "of 10.77.1.2 was overwritten by 10.77.1.1"},
		{"a host writes over a stranger's key", func(s *story) {
			s.put(5, "172.30.4.0-24", value(9), "junk key")
			s.put(6, "172.30.4.0-24", value(1), "")
		}, noOverwrite, "was overwritten by 10.77.1.1"},
		{"a host writes over what took its own key", func(s *story) {
			s.put(5, "172.30.1.0-24", value(9), "key hijacked")
			s.put(6, "172.30.1.0-24", value(1), "")
		}, noOverwrite, "was overwritten by 10.77.1.1"},
		{"a host writes over junk in its own key", func(s *story) {
			s.put(5, "172.30.1.0-24", "{}", "junk over a lease")
			s.put(6, "172.30.1.0-24", value(1), "")
		}, "", ""},
		{"a fault writes over a key", func(s *story) { s.put(5, "172.30.2.0-24", value(9), "key hijacked") }, "", ""},
		{"a stranger's key that has no end is gone", func(s *story) {
			s.rev++
			s.event(event{rev: s.rev, at: at(5), key: "subnets/172.30.4.0-24", value: value(9), fault: "junk key"})
			s.del(6, "172.30.4.0-24", "")
		}, noOverwrite, "it is no host's"},
	}
}

// Each invariant is broken in some story, and each story with a harmless twin
// beside it: a judge that finds nothing, or everything, is found out.
func TestJudge(t *testing.T) {
	tests := slices.Concat(ownerStories(), forwardingStories(), routeStories(), overwriteStories(),
		[]told{{name: "all is well", story: func(s *story) { s.well(5) }}})
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { tt.judge(t, settled()) })
	}
}

// judge tells the story, which goes on from what s was told, and compares.
func (tt told) judge(t *testing.T, s *story) {
	t.Helper()
	tt.story(s)
	if tt.want == "" && len(s.violations) > 0 {
		t.Errorf("got %v, want nothing", s.violations)
	}
	found := false
	for _, v := range s.violations {
		found = found || v.what == tt.want && strings.Contains(v.text, tt.text)
	}
	if tt.want != "" && !found {
		t.Errorf("got %v, want %s: %s", s.violations, tt.want, tt.text)
	}
}

func TestTablesAreTimedAfterTheLastFault(t *testing.T) {
	s := settled()
	s.quiet(at(10))
	s.says(9.9, 1, "held", 20, 1, "2=2", "3=3") // before
	s.says(10.2, 1, "held", 20, 1, "2=2")
	s.says(10.8, 1, "held", 20, 1, "2=2", "3=3")
	s.says(11.2, 1, "held", 20, 1, "2=2", "3=3")
	s.says(10.3, 2, "held", 20, 2, "1=1", "3=3")
	if got := s.longest(); got != 810*time.Millisecond {
		t.Errorf("got %v, want 0.81 s, of the first host", got)
	}
}
