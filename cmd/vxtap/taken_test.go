// SPDX-License-Identifier: Apache-2.0

package main

import (
	"log/slog"
	"net/netip"
	"testing"

	"vxtap/lease"
)

// While a host moves to another address, neither the old one nor the new one under
// its own key is somebody else's; a third one is.
func TestOwnLeaseWhileItMoves(t *testing.T) {
	ours := peer(t, 7)
	at := func(ip string, change func(*lease.Lease)) lease.Snapshot {
		l := ours
		l.Attrs.PublicIP = netip.MustParseAddr(ip)
		if change != nil {
			change(&l)
		}
		return lease.Snapshot{Leases: []lease.Lease{peer(t, 3), l}}
	}
	for _, tt := range []struct {
		name  string
		all   lease.Snapshot
		taken bool
	}{
		{"the address of before", at("192.0.2.7", nil), false},
		{"the address by now", at("192.0.2.77", nil), false},
		{"one that it had", at("192.0.2.70", nil), false},
		{"another host's", at("192.0.2.8", nil), true},
		{"of another MAC", at("192.0.2.77", func(l *lease.Lease) { l.Attrs.MAC[5]++ }), true},
		{"a key made anew", at("192.0.2.77", func(l *lease.Lease) { l.Created++ }), true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := &daemon{log: slog.New(slog.DiscardHandler)}
			d.home.Store(&home{vtep: netip.MustParseAddr("192.0.2.77")})
			s := &segment{d: d, log: d.log, live: live{had: []netip.Addr{netip.MustParseAddr("192.0.2.70"), ours.Attrs.PublicIP}}}
			s.own.Store(&ours)
			_, taken := tt.all.TakenBy(s.ownIn(tt.all))
			if taken != tt.taken {
				t.Errorf("taken %v, want %v", taken, tt.taken)
			}
		})
	}
}
