// SPDX-License-Identifier: Apache-2.0

package lease_test

import (
	"bytes"
	"log/slog"
	"net/netip"
	"strings"
	"testing"

	"vxtap/lease"
	"vxtap/lease/leasetest"
)

// Whoever reads the log of a host that moved is to see where to, in both families.
func TestLogSaysWhichAddressOfTheLeaseChanged(t *testing.T) {
	four, six := netip.MustParseAddr("192.168.0.77"), netip.MustParseAddr("fd01::77")
	for _, tt := range []struct {
		name      string
		network   func(testing.TB) lease.Config
		four, six bool // that change
		want      string
	}{
		{"neither", leasetest.DualNetwork, false, false, `msg="lease taken up again"`},
		{"IPv6 alone", leasetest.DualNetwork, false, true, `publicip=192.168.0.1,fd01::77 before=192.168.0.1,fd01::1`},
		{"IPv4 alone", leasetest.DualNetwork, true, false, `publicip=192.168.0.77,fd01::1 before=192.168.0.1,fd01::1`},
		{"both", leasetest.DualNetwork, true, true, `publicip=192.168.0.77,fd01::77 before=192.168.0.1,fd01::1`},
		{"the one that there is", leasetest.Network, true, false, `publicip=192.168.0.77 before=192.168.0.1`},
		{"one that is not used", leasetest.Network, false, true, `msg="lease taken up again"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, s *leasetest.Store) {
				var log bytes.Buffer
				o := firstFree()
				o.Log = slog.New(slog.NewTextHandler(&log, nil))
				r, q := lease.New(s, o), leasetest.DualHost(1)
				l, err := r.Acquire(t.Context(), tt.network(t), q)
				if err != nil {
					t.Fatal(err)
				}
				log.Reset()
				q.Before = l
				if tt.four {
					q.PublicIP = four
				}
				if tt.six {
					q.PublicIPv6 = six
				}
				if _, err := r.Acquire(t.Context(), tt.network(t), q); err != nil {
					t.Fatal(err)
				}
				if got := log.String(); !strings.Contains(got, tt.want) || strings.Count(got, "\n") != 1 {
					t.Errorf("got\n%swant %s", got, tt.want)
				}
			})
		})
	}
}
