// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// A host whose reservation cannot gain an IPv6 half, since it would lose its IPv4
// one by that, goes on with IPv4 alone, and says what is in the way.
func TestDaemonWhoseReservationIsContested(t *testing.T) {
	const dir, reserved, other = "/coreos.com/network/subnets/", "10.5.9.0-24", "10.5.9.0-24&fd00:5:0:7::-64"
	h := newTestHost(t)
	h.shell("ip -6 address add 2001:db8::1/64 dev u0 nodad")
	h.startEtcd(`{"Network": "10.5.0.0/16", "EnableIPv6": true, "IPv6Network": "fd00:5::/48", "Backend": {"Type": "vxlan"}}`)
	h.etcdctl("put", dir+reserved, `{"PublicIP":"192.0.2.1"}`)
	h.etcdctl("put", dir+other, leaseValue("192.0.2.2", "02:00:00:00:00:02"))
	p := h.daemon(nil)
	h.ready(p)
	s := h.status()
	why := strings.Join(s.Warnings, " ")
	if s.Lease.Key != "subnets/"+reserved || s.Lease.Expires != nil || s.Subnet.String() != "10.5.9.0/24" || !strings.Contains(why, "be younger than the key "+dir+other+", a reservation of 192.0.2.2: release that first") {
		t.Errorf("got lease %+v and warnings %q", s.Lease, why)
	}
	if got := h.leases(); !strings.Contains(got, dir+reserved+"\n") || !strings.Contains(got, dir+other) {
		t.Errorf("got keys %q", got)
	}
	p.stop(h)

	h.etcdctl("del", dir+other)
	p = h.daemon(nil)
	h.eventually("it has both halves", func() error {
		if keys := h.leases(); !strings.HasPrefix(keys, dir+reserved+"&fd00:5:0:") || strings.Contains(keys, "\n\n"+dir) {
			return fmt.Errorf("got keys %q", keys)
		}
		return errors.Join(p.died())
	})
	h.ready(p)
	if s := h.status(); s.Lease.Expires != nil || s.Subnet.String() != "10.5.9.0/24" || len(s.Warnings) > 0 && strings.Contains(strings.Join(s.Warnings, " "), "IPv6 half") {
		t.Errorf("got lease %+v and warnings %q", s.Lease, s.Warnings)
	}
	p.stop(h)
}
