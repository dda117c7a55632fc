// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
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

// listenSystemd is the other end of sd_notify(3).
func listenSystemd(t *testing.T) (*net.UnixConn, string) {
	t.Helper()
	path := filepath.Join(runDir(t), "notify")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c, path
}

// hear returns the next message that begins with a line.
func hear(t *testing.T, c *net.UnixConn, line string) string {
	t.Helper()
	for {
		got := receive(t, c)
		if first, _, _ := strings.Cut(got, "\n"); first == line {
			return got
		}
	}
}

func receive(t *testing.T, c *net.UnixConn) string {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 256)
	n, err := c.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return string(b[:n])
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

func TestDaemonAcquiresALostLeaseAgain(t *testing.T) {
	h := newTestHost(t)
	h.startEtcd(netConfig)
	p := h.daemon(nil)
	h.ready(p)
	before, index := h.status(), h.tapIndex()
	key := "/coreos.com/network/" + before.Lease.Key

	// Without a config nobody can acquire: on a busy machine the seconds for which
	// a lease stays lost may be over before anybody looks.
	h.etcdctl("del", "/coreos.com/network/config")
	h.etcdctl("del", key)
	h.eventually("the daemon says that the lease is lost", func() error {
		s := h.status()
		if s.State != string(phaseLost) || s.Lease.State != leaseLost || s.Lease.Expires != nil {
			return fmt.Errorf("got %s and lease %+v", s.State, s.Lease)
		}
		return nil
	})
	h.etcdctl("put", "/coreos.com/network/config", netConfig)
	h.eventually("the lease is back", func() error {
		if s := h.status(); h.leases() != key || s.State != "ready" || s.Lease.State != leaseHeld {
			return fmt.Errorf("there is %q, the daemon is %s with lease %+v", h.leases(), s.State, s.Lease)
		}
		return nil
	})
	if now := h.status(); now.Subnet != before.Subnet || now.MAC != before.MAC || h.tapIndex() != index || now.State != "ready" {
		t.Errorf("got %s, %s, %s, index %d, want nothing changed from %s, %s, index %d",
			now.State, now.Subnet, now.MAC, h.tapIndex(), before.Subnet, before.MAC, index)
	}

	// Somebody else takes the key over: this host has to move.
	h.etcdctl("put", key, leaseValue("192.0.2.2", "02:00:00:00:00:02"))
	h.eventually("the host has moved", func() error {
		s, err := askDaemon(t.Context(), h.run, "")
		if err == nil && (s.Subnet == before.Subnet || s.State != "ready") {
			err = fmt.Errorf("still %s with subnet %s", s.State, s.Subnet)
		}
		return errors.Join(err, p.died())
	})
	now := h.status()
	if now.MAC != before.MAC || now.State != "ready" || now.PID != before.PID {
		t.Errorf("got %s and %s, want ready and the same MAC and process", now.State, now.MAC)
	}
	env, err := os.ReadFile(h.subnetFile)
	if err != nil || !strings.Contains(string(env), strings.TrimSuffix(now.Subnet.String(), "0/24")+"1/24") {
		t.Errorf("got subnet file %q and error %v, want %s", env, err, now.Subnet)
	}
	h.eventually("the new owner is a peer", func() error {
		if s := h.status(); len(s.Peers) != 1 || s.Peers[0].Subnet != before.Subnet {
			return fmt.Errorf("got peers %v", s.Peers)
		}
		return nil
	})
	p.stop(h)
	h.nothingLeft()
}

// A lease that was made for a move must not stay when the move fails: the host
// would use up a subnet each time.
func TestDaemonThatCannotMoveReleasesItsNewLease(t *testing.T) {
	h := newTestHost(t)
	h.startEtcd(netConfig)
	p := h.daemon(nil)
	h.ready(p)
	key := "/coreos.com/network/" + h.status().Lease.Key
	if err := errors.Join(os.Remove(h.subnetFile), os.Mkdir(h.subnetFile, 0o700)); err != nil {
		t.Fatal(err)
	}
	h.etcdctl("put", key, leaseValue("192.0.2.2", "02:00:00:00:00:02"))
	if got := p.wait(h, 15*time.Second); got != exitError {
		t.Errorf("got status %d, want %d", got, exitError)
	}
	if got, want := p.failure(h), "vxtap: write subnet file: "; !strings.HasPrefix(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := h.leases(); got != key {
		t.Errorf("got leases %q, want only the other host's, %s", got, key)
	}
	h.nothingLeft()
}

// A daemon that hangs must not need SIGKILL: reading a named pipe that nobody
// writes to heeds no context.
func TestSecondSIGTERMEndsAHangingDaemon(t *testing.T) {
	h := newTestHost(t)
	pipe := filepath.Join(runDir(t), "ca.pem")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	p := h.daemon(nil, "-etcd-endpoints=https://127.0.0.1:2379", "-etcd-cafile="+pipe)
	h.eventually("the daemon runs", func() error { // it listens from just before it hangs
		c, err := h.ns.DialContext(t.Context(), "tcp", strings.TrimPrefix(healthURL, "http://"))
		if err == nil {
			c.Close()
		}
		return errors.Join(err, p.died())
	})
	h.eventually("the daemon has ended", func() error {
		if p.died() != nil {
			return nil
		}
		if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
			return nil //nolint:nilerr // it has ended just now
		}
		return errors.New("still running")
	})
	<-p.ended
	if ws := p.cmd.ProcessState.Sys().(syscall.WaitStatus); !ws.Signaled() || ws.Signal() != syscall.SIGTERM {
		t.Errorf("got %v, want it to be ended by the second SIGTERM", p.cmd.ProcessState)
	}
}

// Signals that come again at once, as service managers send them, and a terminal
// that closes must not cut the shutdown short.
func TestDaemonEndsInGoodOrder(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGHUP} {
		t.Run(sig.String(), func(t *testing.T) {
			h := newTestHost(t)
			h.startEtcd(netConfig)
			p := h.daemon(nil)
			h.ready(p)
			for p.died() == nil {
				if err := p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
					t.Fatal(err)
				}
			}
			if got := p.cmd.ProcessState.ExitCode(); got != exitOK {
				t.Errorf("got %v, want status 0", p.cmd.ProcessState)
			}
			h.nothingLeft()
		})
	}
}

// The log may go to a pipe whose reader ends first.
func TestDaemonOutlivesTheReaderOfItsLog(t *testing.T) {
	h := newTestHost(t)
	h.startEtcd(netConfig)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	cmd := exec.Command("/proc/self/exe", h.daemonArgs()...)
	cmd.Env = append(os.Environ(), asVxtap+"=1")
	cmd.Stdout, cmd.Stderr = w, w
	p := h.start(cmd)
	w.Close()
	h.ready(p)
	p.stop(h)
	h.nothingLeft()
}

// The device is made anew each time, with the lease and the MAC that it had;
// somebody who keeps deleting it does not keep the daemon busy.
func TestDaemonWhoseDeviceIsDeleted(t *testing.T) {
	h := newTestHost(t)
	h.startEtcd(netConfig)
	p := h.daemon(nil)
	h.ready(p)
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

func TestDaemonStopsWhileEtcdIsDown(t *testing.T) {
	h := newTestHost(t)
	etcd := h.startEtcd(netConfig)
	p := h.daemon(nil)
	h.ready(p)
	if err := etcd.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-etcd.ended
	h.eventually("the daemon notices", func() error {
		if s := h.status(); s.Etcd.Connected || s.State != "ready" {
			return fmt.Errorf("got connected %v and state %s", s.Etcd.Connected, s.State)
		}
		return p.died()
	})
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

func TestDaemonThatCannotStartLeavesNothing(t *testing.T) {
	tests := []struct {
		name   string
		config string
		setup  func(h *testHost) error
		args   []string
		want   string // in the error
	}{
		{name: "no such interface", args: []string{"-iface=eth9"}, want: "no interface has the name or address eth9: this host has lo (127.0.0.1), u0 (192.0.2.1)"},
		{name: "config that is not JSON", config: `{"Network": `, want: "network config is not JSON"},
		{name: "another backend", config: `{"Network": "10.5.0.0/16", "Backend": {"Type": "udp"}}`, want: `Type is "udp"`},
		{name: "the tunnel would carry itself", config: `{"Network": "192.0.0.0/16", "Backend": {"Type": "vxlan"}}`, want: "lies inside the overlay's Network 192.0.0.0/16"},
		{name: "VNI too long for a device name", config: `{"Network": "10.5.0.0/16", "Backend": {"Type": "vxlan", "VNI": 16777215}}`, want: "flannel.16777215 is too long for the name of a device"},
		{name: "device name taken", setup: func(h *testHost) error { return h.ns.AddBridge(hostDevice, 0) }, want: "device flannel.1 is there already, of type bridge"},
		{name: "UDP port taken", setup: takePort, want: fmt.Sprintf("(pid %d): stop it, or set Backend.Port", os.Getpid())},
		{name: "health port taken", args: []string{"-healthz-port=2379"}, want: "open the health port, see -healthz-ip and -healthz-port: "},
		{name: "route taken", setup: takeRoute, want: "route 10.5.0.0/16 is there already, on device br0"},
		{name: "subnet file is a directory", args: []string{"-subnet-file=/proc/self"}, want: "write subnet file: "},
		{name: "run directory is a file", args: []string{"-run-dir=/proc/version"}, want: "make run directory: "},
		{name: "no such certificate", args: []string{"-etcd-cafile=/none.pem", "-etcd-endpoints=https://127.0.0.1:2379"}, want: "/none.pem"},
		{name: "out of subnets", config: `{"Network": "10.5.0.0/28", "SubnetLen": 30, "SubnetMin": "10.5.0.4", "SubnetMax": "10.5.0.4", "Backend": {"Type": "vxlan"}}`, setup: takeOnlySubnet, want: "out of subnets"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := newTestHost(t)
			if tt.config == "" {
				tt.config = netConfig
			}
			h.startEtcd(tt.config)
			if tt.setup != nil {
				if err := tt.setup(h); err != nil {
					t.Fatal(err)
				}
			}
			leases, index := h.leases(), h.tapIndex()
			p := h.daemon(nil, tt.args...)
			if got := p.wait(h, 10*time.Second); got != exitError {
				t.Errorf("got status %d, want %d", got, exitError)
			}
			if got := p.failure(h); !strings.HasPrefix(got, "vxtap: ") || !strings.Contains(got, tt.want) {
				t.Errorf("got %q, want %q in it", got, tt.want)
			}
			if got := h.leases(); got != leases {
				t.Errorf("got leases %q, want %q as before", got, leases)
			}
			if h.tapIndex() != index {
				t.Errorf("%s is not as before", hostDevice)
			}
			if entries, err := os.ReadDir(h.run); err == nil && len(entries) > 0 {
				t.Errorf("the run directory still has %v", entries)
			}
			if _, err := os.Stat(h.subnetFile); err == nil {
				t.Error("the subnet file was written")
			}
		})
	}
}

func takePort(h *testHost) error {
	return h.ns.Do(func() error {
		c, err := net.ListenPacket("udp", hostAddr+":8472")
		if err == nil {
			h.Cleanup(func() { c.Close() })
		}
		return err
	})
}

func takeRoute(h *testHost) error {
	return errors.Join(
		h.ns.AddBridge("br0", 1500),
		h.ns.AddAddr("br0", netip.MustParsePrefix("10.5.0.1/16")),
		h.ns.SetUp("br0"),
	)
}

func takeOnlySubnet(h *testHost) error {
	h.etcdctl("put", "/coreos.com/network/subnets/10.5.0.4-30", leaseValue("192.0.2.2", "02:00:00:00:00:02"))
	return nil
}

// The command line is of no namespace, so one test has all of the program.
func TestStatusOfARunningDaemon(t *testing.T) {
	h := newTestHost(t)
	h.startEtcd(netConfig)
	p := h.daemon(nil)
	h.ready(p)
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
