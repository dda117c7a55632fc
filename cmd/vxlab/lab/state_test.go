// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"encoding/json"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"vxtap/encap/ether"
)

func sample() state {
	return state{
		Options: Options{Name: "t", Vxtap: "/bin/vxtap", Vxlab: "/bin/vxlab", Args: []string{"-v=1"}}.withDefaults(),
		Boot:    "b",
		Owner:   identity{100, 1},
		Etcd:    identity{101, 2},
		Hosts: []hostState{
			{Daemon: identity{102, 3}, Subnet: netip.MustParsePrefix("172.30.4.0/24"), MTU: 1450, MAC: ether.MAC{2, 0, 0, 0, 0, 1}},
			{Bare: true},
		},
	}
}

func TestStateRoundTrip(t *testing.T) {
	want := sample()
	b, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := parseState("t", b)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Prefix{})); diff != "" {
		t.Error(diff)
	}
}

func TestHostileRecords(t *testing.T) {
	change := func(f func(*state)) string {
		s := sample()
		f(&s)
		b, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	for _, tt := range []struct{ name, records, want string }{
		{"empty", "", "JSON"},
		{"cut short", change(func(*state) {})[:100], "JSON"},
		{"another lab's", change(func(s *state) { s.Options.Name = "u" }), `of a lab "u"`},
		{"a name that leaves the directory", change(func(s *state) { s.Options.Name = "../t" }), "of a lab"},
		{"every process but ours", change(func(s *state) { s.Etcd.PID = -1 }), "process number"},
		{"init", change(func(s *state) { s.Hosts[0].Daemon.PID = 1 }), "process number"},
		{"a start time without a process", change(func(s *state) { s.Owner = identity{0, 5} }), "process number"},
		{"a subnet with host bits", change(func(s *state) { s.Hosts[0].Subnet = netip.MustParsePrefix("172.30.4.1/24") }), "not a subnet"},
		{"a subnet without a host", change(func(s *state) { s.Hosts[0].Subnet = netip.MustParsePrefix("255.255.255.255/32") }), "not a subnet"},
		{"more hosts than fit", change(func(s *state) { s.Hosts = make([]hostState, 300) }), "300 hosts"},
		{"an underlay of IPv6", change(func(s *state) { s.Options.Underlay = netip.MustParsePrefix("fd00::/64") }), "IPv4"},
		{"too long", `{"x":"` + strings.Repeat("x", maxState) + `"}`, "longer"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := parseState("t", []byte(tt.records)); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func FuzzParseState(f *testing.F) {
	b, err := json.Marshal(sample())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte(`{"options":{"Name":"t"},"hosts":[{"daemon":{"pid":2}}]}`))
	f.Add([]byte(`{"options":{"Name":"t","Underlay":"0.0.0.0/0","Network":"::/0"},"hosts":[{"subnet":"1.2.3.0/24"}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := parseState("t", b)
		if err != nil {
			return
		}
		l := newLab(s)
		for i, h := range l.Hosts() {
			if !h.VTEP.IsValid() || s.Hosts[i].Daemon.PID < 0 || s.Hosts[i].Daemon.PID == 1 {
				t.Errorf("host %d: %+v", i+1, h)
			}
		}
		if s.Options.Name != "t" {
			t.Errorf("got the records of %q", s.Options.Name)
		}
	})
}

func TestParseStat(t *testing.T) {
	const rest = " S 1 2 3 0 -1 4194560 1 0 0 0 1 2 0 0 20 0 1 0 98765 1 2 3"
	for _, tt := range []struct {
		name, stat string
		want       uint64
		ok         bool
	}{
		{"plain", "7 (sh)" + rest, 98765, true},
		{"a name like fields", "7 (a) R 1 2 (x)" + rest, 98765, true},
		{"cut short", "7 (sh) S 1 2", 0, false},
		{"no name", "7 sh", 0, false},
		{"no number", "7 (sh)" + strings.Replace(rest, "98765", "x", 1), 0, false},
		{"empty", "", 0, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			start, state, err := parseStat([]byte(tt.stat))
			if start != tt.want || (err == nil) != tt.ok || tt.ok && state != 'S' {
				t.Errorf("got %d, %c, %v", start, state, err)
			}
		})
	}
}

func TestAReusedNumberIsAnotherProcess(t *testing.T) {
	id, err := identify(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if !id.alive() {
		t.Error("this process is not alive")
	}
	id.Start--
	if id.alive() {
		t.Error("a process with another start time is taken for the same")
	}
	id.signal(os.Kill) // must not hit us
}

func TestLastLines(t *testing.T) {
	in := "one\n\n  two  \nthree \x1b[31mred\x1b[0m\xff\nfour"
	got := lastLines([]byte(in), 3)
	if diff := cmp.Diff([]string{"two", "three ?[31mred?[0m?", "four"}, got); diff != "" {
		t.Error(diff)
	}
	if got := lastLines(nil, 3); len(got) != 0 {
		t.Errorf("of nothing: got %q", got)
	}
}
