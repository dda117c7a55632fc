// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"testing"
)

// fillEtcd writes until etcd raises its alarm.
func (h *testHost) fillEtcd() {
	h.Helper()
	h.eventually("etcd is full", func() error {
		cmd := exec.Command("etcdctl", "--endpoints="+etcdURL, "put", "/elsewhere")
		cmd.Stdin = strings.NewReader(strings.Repeat("x", 500_000))
		var said []byte
		err := h.ns.Do(func() (err error) { said, err = cmd.CombinedOutput(); return err })
		if err == nil || !strings.Contains(string(said), "space") {
			return fmt.Errorf("etcdctl says %q, error %w", said, errors.Join(err, errors.New("it is not full")))
		}
		return nil
	})
}

// makeRoom does what the daemon says is to be done.
func (h *testHost) makeRoom() {
	h.Helper()
	_, fields, _ := strings.Cut(h.etcdctl("endpoint", "status", "-w=json"), `"revision":`)
	revision, _, _ := strings.Cut(fields, ",")
	h.etcdctl("compact", "--physical", revision)
	h.etcdctl("defrag", "--cluster")
	h.etcdctl("alarm", "disarm")
}

func TestEtcdWithoutSpaceIsSaidAsItIs(t *testing.T) {
	h := newTestHost(t)
	h.startEtcd(netConfig, "--quota-backend-bytes=4000000")
	p := h.daemon(nil)
	h.ready(p)
	before := h.status()
	h.fillEtcd()
	h.etcdctl("del", "/coreos.com/network/"+before.Lease.Key) // which takes no space
	without := func() error {
		s, err := askDaemon(h.Context(), h.run, "")
		if err != nil {
			return errors.Join(err, p.died())
		}
		if !s.Etcd.Connected || !strings.Contains(s.Etcd.NoSpace, "etcdctl alarm disarm") || len(s.Warnings) == 0 || s.Warnings[len(s.Warnings)-1] != s.Etcd.NoSpace {
			return fmt.Errorf("got %+v and warnings %q", s.Etcd, s.Warnings)
		}
		if !strings.Contains(p.printed(), `msg="waiting for etcd to take writes again"`) {
			return errors.New(p.printed())
		}
		return p.died()
	}
	h.eventually("a daemon that has lost its lease says so", without)
	if got := h.status().State; got != string(phaseLost) {
		t.Errorf("got state %q, want the lease to be lost", got)
	}
	_, shown, _ := runVxtap(t, nil, "status", "-run-dir="+h.run)
	if strings.Contains(shown, "not connected") || !strings.Contains(shown, "connected, reads work, writes are refused for want of space") {
		t.Errorf("got %q", shown)
	}
	h.makeRoom()
	h.ready(p)
	if s := h.status(); s.Subnet != before.Subnet || s.Etcd.NoSpace != "" {
		t.Errorf("got %s and %q, want %s and space", s.Subnet, s.Etcd.NoSpace, before.Subnet)
	}
	p.stop(h)

	h.fillEtcd()
	h.etcdctl("del", "/coreos.com/network/"+before.Lease.Key)
	p = h.daemon(nil, "-state-dir=")
	h.eventually("a daemon that starts says so", without)
	metrics, err := h.get(healthURL + "/metrics")
	if err != nil || !strings.Contains(metrics, "\nvxtap_etcd_connected 1\n") || !strings.Contains(metrics, "\nvxtap_warnings 1\n") {
		t.Errorf("got metrics without a connection and 1 warning, error %v", err)
	}
	h.makeRoom()
	h.ready(p)
	p.stop(h)
	h.nothingLeft()
}
