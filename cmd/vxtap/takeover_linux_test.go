// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"vxtap/lease"
	"vxtap/tunnel/host"
)

// kernelMAC is what a flanneld has given its device, and its lease.
const kernelMAC = "02:00:00:00:00:77"

// leaveVXLAN leaves on the host what a flanneld leaves: the device, with a
// neighbour, a forwarding entry and a route to a peer, and the subnet file.
func (h *testHost) leaveVXLAN() {
	h.Helper()
	h.shell("ip link add flannel.1 address " + kernelMAC + " type vxlan id 1 dstport 8472 local " + hostAddr + " dev u0 nolearning")
	h.shell("ip addr add 10.5.40.0/32 dev flannel.1")
	h.shell("ip link set flannel.1 up")
	h.shell("ip neigh add 10.5.41.0 lladdr 02:00:00:00:00:41 dev flannel.1 nud permanent")
	h.shell("ip route add 10.5.41.0/24 via 10.5.41.0 dev flannel.1 onlink")
	env := "FLANNEL_NETWORK=10.5.0.0/16\nFLANNEL_SUBNET=10.5.40.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=false\n"
	if err := os.WriteFile(h.subnetFile, []byte(env), 0o644); err != nil {
		h.Fatal(err)
	}
}

func TestDaemonTakesOver(t *testing.T) {
	const key = "/coreos.com/network/subnets/10.5.40.0-24"
	tests := []struct {
		name, lease string // lease: that flanneld left; "": it has ended
		mac         string
		log         string
	}{
		{"its lease", leaseValue(hostAddr, kernelMAC), kernelMAC, `msg="the kernel's vxlan device is replaced"`},
		{"only its subnet file", "", kernelMAC, `msg="the kernel's vxlan device is replaced"`},
		{"a lease with another MAC, which peers go by", leaseValue(hostAddr, "02:00:00:00:00:78"), "02:00:00:00:00:78", "has another MAC than the lease"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := newTestHost(t)
			h.startEtcd(netConfig)
			h.leaveVXLAN()
			if tt.lease != "" {
				h.etcdctl("put", key, tt.lease)
			}
			p := h.daemon(nil, "-takeover")
			h.ready(p)
			s := h.status()
			if s.Subnet.String() != "10.5.40.0/24" || s.MAC.String() != tt.mac {
				t.Errorf("got %s and %s, want 10.5.40.0/24 and %s", s.Subnet, s.MAC, tt.mac)
			}
			if got := h.leases(); got != key {
				t.Errorf("got leases %q, want %q", got, key)
			}
			if got := h.shell("ip -d link show flannel.1"); !strings.Contains(got, "tun type tap") || !strings.Contains(got, tt.mac) {
				t.Errorf("got device %q, want a TAP with %s", got, tt.mac)
			}
			if got := h.shell("ip route show") + h.shell("ip neigh show dev flannel.1"); strings.Contains(got, "10.5.41.0") {
				t.Errorf("a route or neighbour of the kernel's device is left:\n%s", got)
			}
			p.stop(h)
			if !strings.Contains(p.printed(), tt.log) {
				t.Errorf("the log lacks %q:\n%s", tt.log, p.printed())
			}
		})
	}
}

// The kernel forwards until there is something to put in its place.
func TestTakeoverWaitsForEtcd(t *testing.T) {
	h := newTestHost(t)
	etcd := h.startEtcd(netConfig)
	h.leaveVXLAN()
	p := h.daemon(nil, "-takeover", "-lease-ttl=24h")
	h.ready(p)
	p.stop(h) // and it remembers
	h.leaveVXLAN()
	if err := etcd.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-etcd.ended

	p = h.daemon(nil, "-takeover")
	h.eventually("the daemon does without its memory", func() error {
		if !strings.Contains(p.printed(), errForwards.Error()) {
			return errors.New(p.printed())
		}
		return p.died()
	})
	if got := h.shell("ip -d link show flannel.1"); !strings.Contains(got, "vxlan id 1") {
		t.Errorf("the kernel's device is gone while etcd is down:\n%s", got)
	}
	h.startEtcd(netConfig)
	h.ready(p)
	if s := h.status(); s.Subnet.String() != "10.5.40.0/24" || s.MAC.String() != kernelMAC {
		t.Errorf("got %s and %s, want what the host had", s.Subnet, s.MAC)
	}
	p.stop(h)
}

func TestDaemonRefusesToTakeOver(t *testing.T) {
	const others = "/coreos.com/network/subnets/10.5.41.0-24"
	tests := []struct {
		name  string
		setup func(h *testHost)
		args  []string
		want  string
	}{
		{"without the flag", (*testHost).leaveVXLAN, nil, "start with -takeover"},
		{"another VNI", func(h *testHost) {
			h.shell("ip link add flannel.1 type vxlan id 7 dstport 8472 local " + hostAddr + " dev u0")
		}, []string{"-takeover"}, "has VNI 7, and this network has 1"},
		{"a flanneld runs", func(h *testHost) {
			h.leaveVXLAN()
			h.runFlanneld()
		}, []string{"-takeover"}, "stop it first"},
		{"a network that is full", func(h *testHost) {
			h.leaveVXLAN()
			h.etcdctl("put", "/coreos.com/network/config", `{"Network":"10.5.0.0/16","SubnetMin":"10.5.41.0","SubnetMax":"10.5.41.0","Backend":{"Type":"vxlan"}}`)
			h.etcdctl("put", others, leaseValue("192.0.2.41", "02:00:00:00:00:41"))
		}, []string{"-takeover"}, "acquire lease: "},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := newTestHost(t)
			h.startEtcd(netConfig)
			tt.setup(h)
			p := h.daemon(nil, tt.args...)
			if got := p.wait(h, 5*time.Second); got != exitError {
				t.Errorf("got status %d, want %d", got, exitError)
			}
			if got := p.failure(h); !strings.Contains(got, tt.want) || strings.Contains(got, "cut off") {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			if got := h.shell("ip -d link show flannel.1"); !strings.Contains(got, "vxlan id") {
				t.Errorf("the kernel's device is gone:\n%s", got)
			}
			if got := h.leases(); got != "" && got != others {
				t.Errorf("got leases %q, want none of this host", got)
			}
		})
	}
}

// Between the deletion and the TAP somebody may take the name: flannel as a part
// of another program makes its device again as soon as that is gone.
func TestTakeoverThatIsCutShortSaysWhatIsLost(t *testing.T) {
	s := &segment{device: hostDevice}
	s.sides = []*side{{segment: s, takeover: takeover{deleted: time.Now()}}}
	got := s.afterTakeover(errors.New("device flannel.1 is there already")).Error()
	const want = "device flannel.1 is there already; the kernel's flannel.1 was deleted before, so that this host is cut off: start vxtap again, or flanneld, which makes a new one"
	if got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// Two vxtaps are started in the same moment, both to replace the kernel's device.
// The second one names the first, and does not say that the host is cut off.
func TestTakeoverBesideAnotherVxtap(t *testing.T) {
	h := newTestHost(t)
	h.startEtcd(netConfig)
	h.leaveVXLAN()
	var kernel host.KernelVXLAN
	local := netip.MustParseAddrPort(hostAddr + ":8472")
	err := h.ns.Do(func() (err error) {
		kernel, _, err = host.FindKernelVXLAN(hostDevice, 1, local)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	first := h.daemon(nil, "-takeover")
	h.ready(first)
	who := fmt.Sprintf("(pid %d)", first.cmd.Process.Pid)
	for _, tt := range []struct {
		name string
		late bool // the kernel's device was gone, and the first one's not there yet
	}{{"its device is there", false}, {"it was faster by a moment", true}} {
		t.Run(tt.name, func(t *testing.T) {
			s := &segment{d: &daemon{}, device: hostDevice, memory: memory{known: &lease.Memory{}}}
			one := &side{segment: s, device: hostDevice, mac: kernel.MAC, log: slog.New(slog.DiscardHandler), takeover: takeover{kernel: &kernel}}
			s.sides = []*side{one}
			var said string
			err := h.ns.Do(func() error {
				if tt.late {
					one.deleted = time.Now()
					said = fmt.Sprint(s.afterTakeover(host.CheckFree(hostDevice, 8472, local.Addr())))
					return nil
				}
				said = fmt.Sprint(s.afterTakeover(one.takeOver(t.Context())))
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(said, "device flannel.1 is in use by ") || !strings.Contains(said, who) || strings.Contains(said, "start vxtap again") {
				t.Errorf("got %q, want %s to be named and the host not to be cut off", said, who)
			}
			if strings.Contains(said, "not cut off") != tt.late {
				t.Errorf("got %q, want it to say who has replaced the kernel's device if we have deleted it", said)
			}
		})
	}
	first.stop(h)
}

func TestReleaseOfOwnLeaseWhileAFlanneldRuns(t *testing.T) {
	h := newTestHost(t)
	h.startEtcd(netConfig)
	h.etcdctl("put", "/coreos.com/network/subnets/10.5.40.0-24", leaseValue(hostAddr, kernelMAC))
	h.runFlanneld()
	status, said := h.operate("lease", "release", "own")
	if status != exitError || !strings.Contains(said, "flanneld (pid ") || !strings.Contains(said, "ends when its lease goes") {
		t.Errorf("got status %d and %q, want %d and the flanneld", status, said, exitError)
	}
	if h.leases() == "" {
		t.Error("the lease is gone")
	}
	if status, said := h.operate("lease", "release", "own", "-force"); status != exitOK || h.leases() != "" {
		t.Errorf("got status %d and %q and leases %q, want it gone", status, said, h.leases())
	}
}

// runFlanneld runs something that goes by that name.
func (h *testHost) runFlanneld() {
	h.Helper()
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		h.Fatal(err)
	}
	path := filepath.Join(h.TempDir(), "flanneld")
	if err := os.Symlink(sleep, path); err != nil {
		h.Fatal(err)
	}
	p := h.start(exec.Command(path, "60"))
	h.eventually("it goes by its name", func() error {
		comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", p.cmd.Process.Pid))
		if err == nil && string(comm) != "flanneld\n" {
			err = fmt.Errorf("got %q", comm)
		}
		return err
	})
}
