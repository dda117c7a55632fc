// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// leaseValue returns the value that a host at publicIP would put.
func leaseValue(publicIP, mac string) string {
	return fmt.Sprintf(`{"PublicIP":%q,"PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":%q}}`, publicIP, mac)
}

func TestDaemonStartsAndStops(t *testing.T) {
	h := newTestHost(t)
	h.startEtcd(netConfig)
	systemd, path := listenSystemd(t)
	p := h.daemon([]string{"NOTIFY_SOCKET=" + path}, "-ip-masq")

	hear(t, systemd, "STATUS=waiting for etcd and the network config")
	ready := hear(t, systemd, "READY=1")
	s := h.status()
	if want := fmt.Sprintf("READY=1\nSTATUS=forwarding for %s, peers: 0", s.Subnet); ready != want {
		t.Errorf("systemd got %q, want %q", ready, want)
	}
	env, err := os.ReadFile(h.subnetFile) // there as soon as READY=1 is
	if err != nil {
		t.Fatal(err)
	}
	bridge := strings.TrimSuffix(s.Subnet.String(), "0/24") + "1/24"
	if want := "FLANNEL_NETWORK=10.5.0.0/16\nFLANNEL_SUBNET=" + bridge + "\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n"; string(env) != want {
		t.Errorf("got subnet file %q, want %q", env, want)
	}
	if s.State != "ready" || s.VTEP.String() != hostAddr || s.MTU != 1450 || !s.Etcd.Connected || s.PID != p.cmd.Process.Pid || s.Lease.Left < 86000 {
		t.Errorf("got status %+v", s)
	}
	if s.In.Received != s.In.Delivered+s.In.Dropped || s.Out.Received != s.Out.Delivered+s.Out.Dropped {
		t.Errorf("frames got lost without a reason: %+v, %+v", s.In, s.Out)
	}
	p.stop(h)
	if got, want := hear(t, systemd, "STOPPING=1"), "STOPPING=1\nSTATUS=stopping"; got != want {
		t.Errorf("systemd got %q, want %q", got, want)
	}
	h.nothingLeft()
	if !strings.Contains(h.leases(), strings.ReplaceAll(s.Subnet.String(), "/", "-")) {
		t.Errorf("the lease of %s is gone, there is %q", s.Subnet, h.leases())
	}

	again := h.daemon(nil)
	h.ready(again)
	if now := h.status(); now.Subnet != s.Subnet || now.MAC != s.MAC {
		t.Errorf("got %s and %s after a restart, want %s and %s as before", now.Subnet, now.MAC, s.Subnet, s.MAC)
	}
	again.stop(h)
}

func TestDaemonTellsOfItsPeers(t *testing.T) {
	h := newTestHost(t)
	h.startEtcd(netConfig)
	h.etcdctl("put", "/coreos.com/network/subnets/10.5.200.0-24", leaseValue("192.0.2.2", "02:00:00:00:00:02"))
	h.etcdctl("put", "/coreos.com/network/subnets/10.5.201.0-24", `{"PublicIP":"nowhere","BackendType":"vxlan"}`)
	h.etcdctl("put", "/coreos.com/network/subnets/10.5.202.0-24", `{"PublicIP":"192.0.2.3","PublicIPv6":null,"BackendType":"host-gw"}`)
	p := h.daemon(nil)
	h.ready(p)
	s := h.status()
	if len(s.Peers) != 1 {
		t.Fatalf("got peers %v as soon as the daemon was ready, want 1", s.Peers)
	}
	if len(s.Rejected) != 1 || s.Rejected[0].Key != "subnets/10.5.201.0-24" || s.OtherBackend != 1 {
		t.Errorf("got rejected %v and %d of another backend, want the broken value and 1", s.Rejected, s.OtherBackend)
	}
	if p := s.Peers[0]; p.Subnet.String() != "10.5.200.0/24" || p.VTEP.String() != "192.0.2.2" || p.MAC.String() != "02:00:00:00:00:02" {
		t.Errorf("got peer %+v", p)
	}
	metrics, err := h.get(healthURL + "/metrics")
	if err != nil || !strings.Contains(metrics, "\nvxtap_peers 1\n") || !strings.Contains(metrics, "\nvxtap_rejected_keys 1\n") {
		t.Errorf("got metrics without 1 peer and 1 rejected key, error %v", err)
	}
	h.etcdctl("del", "/coreos.com/network/subnets/10.5.200.0-24")
	h.eventually("the peer is gone", func() error {
		if s := h.status(); len(s.Peers) != 0 {
			return fmt.Errorf("got peers %v", s.Peers)
		}
		return nil
	})
	p.stop(h)
}

// etcd without authentication takes any login, so that this one gets as far as
// it can.
func TestDaemonKeepsThePasswordToItself(t *testing.T) {
	h := newTestHost(t)
	h.startEtcd(netConfig)
	p := h.daemon([]string{"VXTAP_ETCD_USERNAME=me", "VXTAP_ETCD_PASSWORD=hunter2"}, "-v=10")
	h.ready(p)
	metrics, err := h.get(healthURL + "/metrics")
	if err != nil {
		t.Error(err)
	}
	_, status, _ := runVxtap(t, nil, "status", "-run-dir="+h.run, "-o=json")
	p.stop(h)
	for where, text := range map[string]string{"log": p.printed(), "metrics": metrics, "status": status} {
		if text == "" || strings.Contains(text, "hunter2") {
			t.Errorf("%s is empty or has the password:\n%s", where, text)
		}
	}
}

// The device is made anew each time, with the lease and the MAC that it had;
// somebody who keeps deleting it does not keep the daemon busy.
func TestDaemonWhoseDeviceIsDeleted(t *testing.T) {
	h, p := newRunningHost(t, netConfig)
	leases, first := h.leases(), h.macOf(hostDevice)
	for range 7 { // two more than it does at once
		if err := h.ns.DeleteLink(hostDevice); err != nil {
			t.Fatal(err)
		}
		h.eventually("there is a new device", func() error {
			_, err := h.ns.Interface(hostDevice)
			return errors.Join(err, p.died())
		})
		h.ready(p)
	}
	if got := h.macOf(hostDevice); got != first {
		t.Errorf("got MAC %s, want %s: peers send to that", got, first)
	}
	if got := h.leases(); got != leases || got == "" {
		t.Errorf("got leases %q, want %q", got, leases)
	}
	if n := strings.Count(p.printed(), "somebody deleted the device"); n != 7 {
		t.Errorf("%d lines say so, want 7", n)
	}
	if strings.Contains(p.printed(), "level=ERROR") {
		t.Error("it was an error")
	}
	p.stop(h)
	h.nothingLeft()
}

func TestDaemonWaitsForEtcd(t *testing.T) {
	h := newTestHost(t)
	p := h.daemon(nil)
	h.eventually("the health server answers", func() error {
		body, err := h.get(healthURL + "/healthz")
		if err == nil && body != "vxtap is running\n" {
			err = errors.New(body)
		}
		return err
	})
	if body, err := h.get(healthURL + "/readyz"); err != nil || body != "vxtap is not ready: waiting for etcd and the network config\n" {
		t.Errorf("got %q and error %v from /readyz", body, err)
	}
	h.eventually("the log says what it waits for", func() error {
		if !strings.Contains(p.printed(), `msg="waiting for etcd"`) {
			return errors.New(p.printed())
		}
		return p.died()
	})
	p.stop(h)
	h.nothingLeft()
}

// The command line is of no namespace, so one test has all of the program.
func TestStatusOfARunningDaemon(t *testing.T) {
	h, p := newRunningHost(t, netConfig)
	status, stdout, stderr := runVxtap(t, nil, "status", "-run-dir="+h.run)
	if status != exitOK || !strings.HasPrefix(stdout, "flannel.1: ready\n") || stderr != "" {
		t.Errorf("got status %d, %q and %q", status, stdout, stderr)
	}
	status, stdout, _ = runVxtap(t, nil, "status", "-run-dir="+h.run, "-o=json")
	var s Status
	if err := json.Unmarshal([]byte(stdout), &s); err != nil || status != exitOK || s.Device != hostDevice {
		t.Errorf("got status %d and %q, error %v", status, stdout, err)
	}
	second := h.daemon(nil, "-healthz-port=0")
	if got := second.wait(h, 10*time.Second); got != exitError {
		t.Errorf("got status %d of a second daemon, want %d", got, exitError)
	}
	if want := fmt.Sprintf("(pid %d): stop it, or choose another VNI", p.cmd.Process.Pid); !strings.Contains(second.failure(h), want) {
		t.Errorf("got %q, want %q in it", second.failure(h), want)
	}
	if got := h.status(); got.PID != p.cmd.Process.Pid {
		t.Errorf("got an answer of pid %d, want the first daemon's still", got.PID)
	}
	p.stop(h)
	h.nothingLeft()
}
