// SPDX-License-Identifier: Apache-2.0

package lease_test

import (
	"strings"
	"testing"
	"time"

	"vxtap/lease"
	"vxtap/lease/leasetest"
)

// Whoever reads that something is not watched must be able to read when that is over.
func TestAnOutageHasAnAllClear(t *testing.T) {
	bubble(t, func(t *testing.T, s *leasetest.Store) {
		log, said := logTo()
		r := lease.New(s, lease.Options{Log: log})
		leasetest.Watch(t, r)
		leasetest.Keep(t, r, leasetest.Acquire(t, r, 1))
		pass(time.Minute)
		for outage := range 3 {
			if got := strings.Count(said.String(), "watched again"); got != 2*outage {
				t.Fatalf("got %d all-clears before outage %d, want %d: %s", got, outage, 2*outage, said)
			}
			s.Disconnect()
			pass(time.Minute)
			s.Connect()
			pass(time.Minute)
		}
		for _, task := range []string{"watch leases", "watch the own lease"} {
			got := 0
			for line := range strings.Lines(said.String()) {
				if strings.Contains(line, `level=INFO msg="watched again"`) && strings.Contains(line, task) {
					got++
				}
			}
			if got != 3 {
				t.Errorf("got %d all-clears of %q after three outages, want 3: %s", got, task, said)
			}
		}
	})
}
