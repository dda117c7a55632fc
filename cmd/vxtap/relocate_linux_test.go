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
	h := newTestHost(t)
	h.startEtcd(netConfig)
	p := h.daemon(nil)
	h.ready(p)
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
