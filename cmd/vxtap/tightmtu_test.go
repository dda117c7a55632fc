// SPDX-License-Identifier: Apache-2.0

package main

import (
	"net/netip"
	"strings"
	"testing"

	"vxtap/lease"
	"vxtap/tunnel/host"
)

// An MTU in the config that the link does not carry loses every large packet: it is
// a warning for as long as that is so, and in the log each time that it changes.
func TestMTUThatTheLinkDoesNotCarry(t *testing.T) {
	const warning = "network config: Backend.MTU is 9000, and the interface eth0 carries 1500"
	for _, tt := range []struct {
		name       string
		configured int
		links      []int // in turn
		warns      string
		logged     int
	}{
		{"none is configured", 0, []int{1500}, "", 0},
		{"less than the link carries", 1400, []int{1500}, "", 0},
		{"what the link carries", 1500, []int{1500}, "", 0},
		{"more than the link carries", 9000, []int{1500}, warning, 1},
		{"the link got smaller", 9000, []int{9000, 1500}, warning, 1},
		{"the link is looked at twice", 9000, []int{1500, 1500}, warning, 1},
		{"the link grew", 9000, []int{1500, 9000}, "", 1},
		{"the link grew, and got smaller again", 9000, []int{1500, 9000, 1500}, warning, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m, f := newMover(t, "")
			m.now.Store(&lease.Config{Backend: lease.Backend{MTU: tt.configured}})
			for i, mtu := range tt.links {
				up := host.Uplink{Name: "eth0", MTU: mtu, Addr: netip.MustParseAddr("192.0.2.1")}
				m.d.home.Store(m.d.homeAt(up))
				m.ipv4.mtu.Store(int32(m.ipv4.wantedMTU())) // as the device has it
				if i == 0 {
					m.warnOfMTU()
				} else {
					m.resize()
				}
			}
			if got := strings.Join(m.notices(), "\n"); (got == "") != (tt.warns == "") || !strings.Contains(got, tt.warns) {
				t.Errorf("got the notices %q, want %q", got, tt.warns)
			}
			if n := strings.Count(f.log.String(), "large packets"); n != tt.logged {
				t.Errorf("the log says it %d times, want %d:\n%s", n, tt.logged, &f.log)
			}
		})
	}
}

// The way for super-frames is proven with packets that such a link loses: no peer
// is to blame.
func TestMTUIsTheReasonForCutting(t *testing.T) {
	const silent = "none of the peers answers"
	for _, tt := range []struct {
		name       string
		configured int
		open       bool
		cut        int
		want       string
	}{
		{"the link carries it", 1500, false, 0, silent},
		{"the link does not", 9000, false, 0, "the interface eth0 carries 1500"},
		{"the link does not, and a host said why", 9000, false, 1, silent},
		{"the way is open all the same", 9000, true, 0, silent},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m, _ := newMover(t, "")
			m.now.Store(&lease.Config{Backend: lease.Backend{MTU: tt.configured}})
			if got := m.whyCut(silent, tt.open, tt.cut); !strings.Contains(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}
