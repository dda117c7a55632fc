// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// A daemon that waits for etcd, or for the network config, has no tunnel yet. Where
// its host is it looks for again: the link may be another one by then, too.
func TestDaemonThatWaitsFollowsTheHost(t *testing.T) {
	const anew = "ip link del u0; ip link add u0 mtu 1400 type bridge; ip address add %s/24 dev u0; ip link set u0 up"
	for _, tt := range []struct {
		name, change string
		waits        bool // until it has noticed
		mtu          int
	}{
		{"another address while it waits", "ip address del 192.0.2.1/24 dev u0; ip address add 192.0.2.9/24 dev u0", true, 1450},
		{"another address, and etcd answers at once", "ip address del 192.0.2.1/24 dev u0; ip address add 192.0.2.9/24 dev u0", false, 1450},
		{"another link too, and etcd answers at once", fmt.Sprintf(anew, "192.0.2.9"), false, 1350},
		{"another link with the same address", fmt.Sprintf(anew, hostAddr), false, 1350},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := newTestHost(t)
			h.startEtcd(netConfig)
			h.etcdctl("del", "/coreos.com/network/config")
			p := h.daemon(nil)
			says := func(what string) {
				t.Helper()
				h.eventually("the log says "+what, func() error {
					if !strings.Contains(p.printed(), what) {
						return errors.New(p.printed())
					}
					return p.died()
				})
			}
			says("waiting for the network config")
			h.shell(tt.change)
			if tt.waits {
				says("is another one now, following")
			}
			h.etcdctl("put", "/coreos.com/network/config", netConfig)
			h.ready(p)
			vtep := hostAddr
			if strings.Contains(tt.change, "192.0.2.9") {
				vtep = "192.0.2.9"
			}
			s := h.status()
			value := h.etcdctl("get", "--print-value-only", h.leases())
			if s.VTEP.String() != vtep || s.MTU != tt.mtu || !strings.Contains(value, fmt.Sprintf(`"PublicIP":%q`, vtep)) {
				t.Errorf("got VTEP %s, MTU %d and the lease %s", s.VTEP, s.MTU, value)
			}
			p.stop(h)
		})
	}
}

// The same where vxtap is told of no interface and the host has no address at all
// for a moment, with an etcd that is not there at the start.
func TestDaemonThatWaitsForEtcdFollowsTheHost(t *testing.T) {
	h := newTestHost(t)
	h.shell("ip route add default via 192.0.2.254")
	p := h.daemon(nil, "-iface=", "-iface-can-reach=198.51.100.1")
	h.eventually("it waits", func() error {
		if !strings.Contains(p.printed(), "waiting for etcd") {
			return errors.New(p.printed())
		}
		return p.died()
	})
	h.shell("ip link del u0; sleep 2; ip link add u1 type bridge; ip address add 203.0.113.7/24 dev u1; ip link set u1 up; ip route add default via 203.0.113.254")
	h.startEtcd(netConfig)
	h.ready(p)
	if s := h.status(); s.VTEP.String() != "203.0.113.7" || s.Lease.State != leaseHeld {
		t.Errorf("got VTEP %s and lease %+v", s.VTEP, s.Lease)
	}
	p.stop(h)
}
