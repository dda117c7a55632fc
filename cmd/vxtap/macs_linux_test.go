// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"testing"
)

// The MACs of a host are its own, of IPv6 as of IPv4: whatever VNI it is moved to
// and back, over a network without IPv6 too, and whether its lease is there or not.
func TestMACsOutliveOtherNetworks(t *testing.T) {
	const prefix, dual = "/coreos.com/network/", `{"Network": "10.5.0.0/16", "EnableIPv6": true, "IPv6Network": "fd00:5::/48", "Backend": {"Type": "vxlan", "VNI": %d}}`
	const alone = `{"Network": "10.5.0.0/16", "Backend": {"Type": "vxlan", "VNI": 7}}`
	for _, tt := range []struct {
		name string
		args []string
		next string
		move func(h *testHost, p *process, config string) *process
	}{
		{"restarted with another VNI, without IPv6", nil, alone, func(h *testHost, p *process, config string) *process {
			p.stop(h)
			h.etcdctl("put", prefix+"config", config)
			return h.daemon(nil)
		}},
		{"the same, and its lease is gone", nil, alone, func(h *testHost, p *process, config string) *process {
			p.stop(h)
			h.etcdctl("del", "--prefix", prefix+"subnets")
			h.etcdctl("put", prefix+"config", config)
			return h.daemon(nil)
		}},
		{"its lease is deleted while it runs, and nothing is on a disk", []string{"-state-dir=none"}, fmt.Sprintf(dual, 7), lostAndMoved},
		{"the same, without IPv6", []string{"-state-dir=none"}, alone, lostAndMoved},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := newTestHost(t)
			h.shell("ip -6 address add 2001:db8::1/64 dev u0 nodad")
			h.startEtcd(fmt.Sprintf(dual, 1))
			p := h.daemon(nil, tt.args...)
			h.ready(p)
			before := h.status()
			p = tt.move(h, p, tt.next)
			h.eventually("it is at VNI 7", func() error { return forwardsFor(t, h, p, 7) })
			if got := h.status().MAC; got != before.MAC {
				t.Errorf("got MAC %s with VNI 7, was %s", got, before.MAC)
			}
			p = tt.move(h, p, fmt.Sprintf(dual, 1))
			h.eventually("it is back", func() error { return forwardsFor(t, h, p, 1) })
			now := h.status()
			if now.MAC != before.MAC || now.IPv6 == nil || now.IPv6.MAC != before.IPv6.MAC {
				t.Errorf("got MACs %s and %+v, were %s and %s", now.MAC, now.IPv6, before.MAC, before.IPv6.MAC)
			}
			p.stop(h)
		})
	}
}

// lostAndMoved has a daemon start afresh by another config.
func lostAndMoved(h *testHost, p *process, config string) *process {
	h.etcdctl("put", "/coreos.com/network/config", config)
	h.etcdctl("del", "--prefix", "/coreos.com/network/subnets")
	return p
}

// forwardsFor says why p does not forward for a VNI; nil if it does.
func forwardsFor(t *testing.T, h *testHost, p *process, vni int) error {
	t.Helper()
	if err := p.died(); err != nil {
		return err
	}
	s, err := askDaemon(t.Context(), h.run, "")
	if err == nil && (s.State != string(phaseReady) || s.Device != fmt.Sprintf("flannel.%d", vni)) {
		err = fmt.Errorf("%s with %s", s.State, s.Device)
	}
	return err
}
