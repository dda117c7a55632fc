// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

// Whoever sets the network of a host up anew may take its address and the TAP away
// in the same moment.
func TestDaemonWhoseDeviceAndAddressAreDeletedAtOnce(t *testing.T) {
	h, p := newRunningHost(t, netConfig)
	key, mac := h.leases(), h.macOf(hostDevice)
	h.shell("ip address del 192.0.2.1/24 dev u0; ip address add 192.0.2.9/24 dev u0; ip link del " + hostDevice)
	h.eventually("the tunnel is at the other address", func() error {
		s, err := askDaemon(t.Context(), h.run, "")
		if err == nil && (s.State != "ready" || s.VTEP != netip.MustParseAddr("192.0.2.9") || s.Lease.State != leaseHeld) {
			err = fmt.Errorf("got state %s, VTEP %s and lease %+v", s.State, s.VTEP, s.Lease)
		}
		if value := h.etcdctl("get", "--print-value-only", key); !strings.Contains(value, `"PublicIP":"192.0.2.9"`) {
			err = errors.Join(err, fmt.Errorf("the lease says %s", value))
		}
		return errors.Join(err, p.died())
	})
	if got := h.macOf(hostDevice); got != mac || h.leases() != key {
		t.Errorf("got MAC %s and leases %q, want %s and %q", got, h.leases(), mac, key)
	}

	h.shell("ip address del 192.0.2.9/24 dev u0; ip link del " + hostDevice + "; sleep 1; ip address add 192.0.2.9/24 dev u0")
	h.eventually("the tunnel is back where it was", func() error {
		s, err := askDaemon(t.Context(), h.run, "")
		if err == nil && (s.State != "ready" || s.Lease.State != leaseHeld) {
			err = fmt.Errorf("got state %s and lease %+v", s.State, s.Lease)
		}
		return errors.Join(err, p.died())
	})
	p.stop(h)
	h.shell("ip address add 192.0.2.1/24 dev u0") // at which nothingLeft looks
	h.nothingLeft()
}

// The same for the IPv6 address alone.
func TestDaemonWhoseDeviceAndIPv6AddressAreDeletedAtOnce(t *testing.T) {
	h := newTestHost(t)
	h.shell("ip -6 address add 2001:db8::1/64 dev u0 nodad")
	h.startEtcd(`{"Network": "10.5.0.0/16", "EnableIPv6": true, "IPv6Network": "fd00:5::/48", "Backend": {"Type": "vxlan"}}`)
	p := h.daemon(nil)
	h.ready(p)
	key := h.leases()
	h.shell("ip -6 address del 2001:db8::1/64 dev u0; ip -6 address add 2001:db8::9/64 dev u0 nodad; ip link del " + hostDevice)
	h.eventually("the lease says the other address", func() error {
		s, err := askDaemon(t.Context(), h.run, "")
		if err == nil && (s.State != "ready" || s.VTEP != netip.MustParseAddr(hostAddr) || s.Lease.State != leaseHeld) {
			err = fmt.Errorf("got state %s, VTEP %s and lease %+v", s.State, s.VTEP, s.Lease)
		}
		if value := h.etcdctl("get", "--print-value-only", key); !strings.Contains(value, `"PublicIPv6":"2001:db8::9"`) {
			err = errors.Join(err, fmt.Errorf("the lease says %s", value))
		}
		return errors.Join(err, p.died())
	})
	p.stop(h)
	h.nothingLeft()
}
