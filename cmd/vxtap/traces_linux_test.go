// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"testing"
)

// The theft itself cannot be told from a restart behind NAT: the lease is taken,
// and the log says what it may be.
func TestDaemonWarnsOfALeaseThatMayBeAnothers(t *testing.T) {
	const risk = "this lease may be another living host's"
	for _, tt := range []struct {
		name, publicIP string
		lease          bool
		want           bool
	}{
		{"another host's address, mistyped", "192.0.2.77", true, true},
		{"an address behind NAT for the first time", "192.0.2.77", false, false},
		{"an address of ours, without state", hostAddr, true, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := newTestHost(t)
			h.startEtcd(netConfig)
			if tt.lease {
				h.etcdctl("put", "/coreos.com/network/subnets/10.5.40.0-24", leaseValue(tt.publicIP, "02:00:00:00:00:78"))
			}
			for _, run := range []string{"the first start", "the next one"} {
				p := h.daemon(nil, "-public-ip="+tt.publicIP)
				h.ready(p)
				p.stop(h)
				want := tt.want && run == "the first start"
				if got := strings.Contains(p.printed(), risk); got != want {
					t.Errorf("%s: the log says it: %v, want %v:\n%s", run, got, want, p.printed())
				}
			}
		})
	}
}
