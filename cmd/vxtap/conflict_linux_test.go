// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"
	"testing"
)

// A daemon on another host with our -public-ip writes its own MAC: whoever looks at
// the status or the metrics learns of it, not only who reads the log.
func TestDaemonWarnsOfAForeignValueInItsLease(t *testing.T) {
	h, p := newRunningHost(t, netConfig)
	if w := h.status().Warnings; len(w) > 0 && strings.Contains(strings.Join(w, "; "), "somebody with our PublicIP") {
		t.Errorf("got warnings %q before anything happened", w)
	}
	key := h.leases()
	h.etcdctl("put", key, leaseValue(hostAddr, "02:00:00:00:00:78"))
	h.eventually("the status warns of the other's value", func() error {
		s := h.status()
		if all := strings.Join(s.Warnings, "; "); !strings.Contains(all, "publishes MAC 02:00:00:00:00:78") {
			return fmt.Errorf("got warnings %q", s.Warnings)
		}
		return nil
	})
	p.stop(h)
}
