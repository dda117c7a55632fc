// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"testing"
)

// With another network card and another address at once a host cannot be told from a
// copy of it, whose original is switched off: it leaves the lease of before alone,
// and its MAC, until an operator says whose the subnet is.
func TestDaemonWithAnotherCardAndAddress(t *testing.T) {
	const dir = "/coreos.com/network/"
	h := newTestHost(t)
	h.startEtcd(netConfig)
	p := h.daemon(nil)
	h.ready(p)
	was := h.status()
	h.remembered(1)
	p.stop(h)
	value := h.etcdctl("get", "--print-value-only", dir+was.Lease.Key)

	h.shell("ip link del u0; ip link add u0 address 02:11:22:33:44:55 type bridge; ip address add 192.0.2.9/24 dev u0; ip link set u0 up")
	p = h.daemon(nil)
	h.ready(p)
	if s := h.status(); s.Subnet == was.Subnet || s.MAC == was.MAC || !strings.Contains(h.leases(), was.Lease.Key) {
		t.Errorf("got %s with MAC %s, and keys %q: it had %s and %s", s.Subnet, s.MAC, h.leases(), was.Subnet, was.MAC)
	}
	if now := h.etcdctl("get", "--print-value-only", dir+was.Lease.Key); now != value || !strings.Contains(now, hostAddr) {
		t.Errorf("the lease of before is %s, and was %s", now, value)
	}

	for _, line := range []string{"lease release " + was.Subnet.String() + " -force", "lease reserve " + was.Subnet.String() + " -public-ip=192.0.2.9"} {
		if status, out := h.operate(strings.Fields(line)...); status != exitOK {
			t.Fatalf("%s: got status %d and %q", line, status, out)
		}
	}
	p.stop(h)
	p = h.daemon(nil)
	h.ready(p)
	if s := h.status(); s.Subnet != was.Subnet || s.Lease.State != leaseReserved {
		t.Errorf("got %s with lease %+v, want %s, which is reserved", s.Subnet, s.Lease, was.Subnet)
	}
	p.stop(h)
}
