// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"
)

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
