// SPDX-License-Identifier: Apache-2.0

package main

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"vxtap/lease"
	"vxtap/tunnel/host"
)

// With DirectRouting what a peer sends may come another way than the answers go.
func TestStrictReversePathFilterIsNamed(t *testing.T) {
	const all, tap, eth0 = "net/ipv4/conf/all/rp_filter", "net/ipv4/conf/flannel.1/rp_filter", "net/ipv4/conf/eth0/rp_filter"
	tests := []struct {
		name    string
		direct  bool
		sysctls map[string]string
		want    []string // what the warnings set
	}{
		{"off", true, map[string]string{all: "0", tap: "0", eth0: "0"}, nil},
		{"strict for all", true, map[string]string{all: "1", tap: "0", eth0: "0"}, []string{tap + "=2", eth0 + "=2"}},
		{"strict for one", true, map[string]string{all: "0", tap: "1", eth0: "0"}, []string{tap + "=2"}},
		{"strict for all but one", true, map[string]string{all: "1", tap: "1", eth0: "2"}, []string{tap + "=2"}},
		{"loose for all", true, map[string]string{all: "2", tap: "1", eth0: "1"}, nil},
		{"another system", true, nil, nil},
		{"without DirectRouting", false, map[string]string{all: "1"}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := &side{
				segment: &segment{d: homeOn("eth0"), config: lease.Config{Network: netip.MustParsePrefix("10.5.0.0/16"), Backend: lease.Backend{DirectRouting: tt.direct}}},
				device:  "flannel.1",
			}
			var got []string
			for _, w := range s.routeWarnings(sysctlsIn(t, tt.sysctls)) {
				got = append(got, w[strings.LastIndex(w, " ")+1:])
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// Whoever sets a thousand routes does not get a thousand warnings.
func TestForeignRoutesAreNamed(t *testing.T) {
	s := &side{segment: &segment{d: &daemon{}}}
	if got := s.routeWarnings(t.TempDir()); len(got) != 0 {
		t.Errorf("before the first look: %q", got)
	}
	s.routes.report.Store(&host.RouteReport{Notes: []string{"1", "2", "3", "4", "5", "6", "7"}})
	want := []string{"1", "2", "3", "4", "5", "somebody else's routes lead to 2 peers more"}
	if got := s.routeWarnings(t.TempDir()); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestFirstOf(t *testing.T) {
	for want, all := range map[string][]string{
		"":                         nil,
		"a, b":                     {"a", "b"},
		"a, b, c, d, e":            {"a", "b", "c", "d", "e"},
		"a, b, c, d, e and 2 more": {"a", "b", "c", "d", "e", "f", "g"},
	} {
		if got := firstOf(all); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// homeOn returns a daemon whose tunnel an interface carries.
func homeOn(name string) *daemon {
	d := &daemon{}
	d.home.Store(&home{uplink: host.Uplink{Name: name}})
	return d
}
