// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"vxtap/encap/ether"
)

var update = flag.Bool("update", false, "write the golden files of testdata")

var showTime = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

// busyStatus has something in every field.
func busyStatus() Status {
	expires, contact := showTime.Add(23*time.Hour+12*time.Minute), showTime.Add(-3*time.Second)
	return Status{
		Version: "v0.1.0", PID: 4242, Started: showTime.Add(-50 * time.Hour), Uptime: 50 * 3600, State: "ready",
		Warnings: []string{"net.ipv4.ip_forward=0: containers on this host are cut off from the overlay: sysctl -w net.ipv4.ip_forward=1"},
		Device:   "flannel.1", VNI: 1, Network: netip.MustParsePrefix("10.5.0.0/16"), Subnet: netip.MustParsePrefix("10.5.72.0/24"),
		VTEP: netip.MustParseAddr("203.0.113.9"), Port: 8472, MAC: ether.MAC{0x02, 0, 0, 0, 0, 1}, MTU: 1450,
		Interface: "eth0", Address: netip.MustParseAddr("192.168.64.3"),
		Offloads: OffloadsStatus{TAP: []string{"csum", "tso4", "tso6", "ecn"}, UDP: []string{"udp-segment", "udp-gro"}, Coalesce: true},
		Queues:   2,
		TXPath: TXPathStatus{Configured: "auto", InUse: "uplink", Device: "vxup.1", Frames: 12,
			CutPeers: 3, Cut: []CutStatus{{VTEP: netip.MustParseAddr("192.0.2.9"), Reason: "the host drops what it should forward"}}},
		Routes: RoutesStatus{Mode: routePerPeer, DirectRouting: true, DirectPeers: 1},
		Checks: ChecksStatus{Source: "strict", InnerSource: "log"},
		Lease:  LeaseStatus{State: leaseHeld, Key: "subnets/10.5.72.0-24", Expires: &expires, Left: 83520, Conflict: "somebody with our address writes our key"},
		Etcd: EtcdStatus{
			Connected: true, Endpoints: []string{"http://10.0.0.1:2379", "http://10.0.0.2:2379"}, Prefix: "/coreos.com/network",
			LastError: "context deadline exceeded", LastContact: &contact,
		},
		Config: ConfigStatus{State: configWaiting, Waiting: []WaitingStatus{{Setting: "Backend.VNI", InUse: "1", Stored: "7"}}, Refused: 1},
		Out: DirectionStatus{
			Received: 1000, ReceivedBytes: 64_000_000, Delivered: 990, DeliveredBytes: 63_999_000, Dropped: 10,
			Drops: map[string]uint64{"no-peer": 7, "broadcast": 3}, Flagged: map[string]uint64{},
		},
		In: DirectionStatus{
			Received: 5, ReceivedBytes: 999, Delivered: 4, DeliveredBytes: 900, Dropped: 1,
			Drops: map[string]uint64{"not-a-peer": 1}, Flagged: map[string]uint64{"foreign-source": 2},
		},
		SocketOverflows: 3, TAPOverflows: 4,
		Peers: []PeerStatus{
			{
				Subnet: netip.MustParsePrefix("10.5.9.0/24"), VTEP: netip.MustParseAddr("192.168.64.4"), MAC: ether.MAC{0x02, 0, 0, 0, 0, 2},
				OutFrames: 990, OutBytes: 63_999_000, InFrames: 4, InBytes: 900,
			},
			{Subnet: netip.MustParsePrefix("10.5.100.0/24"), VTEP: netip.MustParseAddr("192.168.64.105"), MAC: ether.MAC{0x02, 0, 0, 0, 0, 3}, Direct: true},
		},
		Rejected:     []RejectedKey{{Key: "subnets/evil\x1b[2J\nkey", Reason: "not a subnet key"}},
		RejectedMore: 199000,
		OtherBackend: 2,
		IPv6: &IPv6Status{
			Device: "flannel-v6.1", Network: netip.MustParsePrefix("fd00:5::/48"), Subnet: netip.MustParsePrefix("fd00:5:0:72::/64"),
			VTEP: netip.MustParseAddr("2001:db8::9"), Address: netip.MustParseAddr("2001:db8::3"), MAC: ether.MAC{0x02, 0, 0, 0, 6, 1}, MTU: 1430,
			Offload: OffloadsStatus{TAP: []string{"csum", "tso4", "tso6"}, UDP: []string{"udp-segment"}, Coalesce: true},
			TXPath:  TXPathStatus{Configured: "auto", InUse: "udp", Reason: "the way for whole super-frames is there for an IPv4 underlay only", Cut: []CutStatus{}},
			Out:     DirectionStatus{Received: 9, ReceivedBytes: 900, Delivered: 8, DeliveredBytes: 800, Dropped: 1, Drops: map[string]uint64{"no-peer": 1}, Flagged: map[string]uint64{}},
			In:      DirectionStatus{Drops: map[string]uint64{}, Flagged: map[string]uint64{}}, SocketOverflows: 5, TAPOverflows: 6,
			Peers: []PeerStatus{{Subnet: netip.MustParsePrefix("fd00:5:0:9::/64"), VTEP: netip.MustParseAddr("2001:db8::4"), MAC: ether.MAC{0x02, 0, 0, 0, 6, 2}, OutFrames: 8, OutBytes: 800}},
		},
	}
}

func TestShowStatus(t *testing.T) {
	down := busyStatus()
	down.Warnings, down.Peers, down.Rejected, down.OtherBackend = nil, nil, nil, 0
	down.RejectedMore = 0
	down.Etcd.Connected, down.Etcd.LastContact = false, nil
	down.Lease.State, down.Lease.Expires, down.Lease.Left = leaseReserved, nil, 0
	down.Offloads, down.Queues = OffloadsStatus{}, 1
	down.TXPath = TXPathStatus{Configured: "auto", InUse: "udp", Reason: "the kernel has no TUN_F_UDP_TUNNEL_GSO", Cut: []CutStatus{}}
	down.Routes = RoutesStatus{Mode: routeAggregate}
	starting := down
	starting.State, starting.Subnet, starting.Lease = string(phaseStarting), netip.Prefix{}, LeaseStatus{}
	starting.Out, starting.In, starting.SocketOverflows, starting.TAPOverflows = DirectionStatus{}, DirectionStatus{}, 0, 0
	lost := down
	lost.State, lost.Lease.State, lost.Lease.Conflict = string(phaseLost), leaseLost, ""
	without := down
	without.IPv6 = &IPv6Status{Reason: "the network is dual-stack, and the interface eth0 has no IPv6 address"}
	down.IPv6, starting.IPv6, lost.IPv6 = nil, nil, nil
	single := down
	single.TXPath.Reason = noSuperFrames
	tests := []struct {
		name   string
		status Status
	}{
		{"single", single},
		{"lost", lost},
		{"busy", busyStatus()},
		{"alone", down},
		{"starting", starting},
		{"without-ipv6", without},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var b bytes.Buffer
			if err := showStatus(&b, tt.status, showTime); err != nil {
				t.Fatal(err)
			}
			golden(t, tt.name+".txt", b.Bytes())
		})
	}
}

// The names in the JSON are a promise to other people's programs.
func TestStatusJSON(t *testing.T) {
	var b bytes.Buffer
	if err := writeJSON(&b, busyStatus()); err != nil {
		t.Fatal(err)
	}
	golden(t, "busy.json", b.Bytes())
	var back Status
	if err := json.Unmarshal(b.Bytes(), &back); err != nil {
		t.Fatal(err)
	}
	ip := cmp.Comparer(func(a, b netip.Addr) bool { return a == b })
	prefix := cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })
	if diff := cmp.Diff(busyStatus(), back, ip, prefix); diff != "" {
		t.Errorf("there and back (-want +got):\n%s", diff)
	}
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got), -update writes it anew:\n%s", path, diff)
	}
}

// That etcd has nothing to say for hours looks like trouble and is none.
func TestEtcdLine(t *testing.T) {
	ago := func(d time.Duration) *time.Time { at := showTime.Add(-d); return &at }
	for _, tt := range []struct {
		name string
		etcd EtcdStatus
		want string
	}{
		{"nothing yet", EtcdStatus{}, "not connected, never answered"},
		{"just now", EtcdStatus{Connected: true, LastContact: ago(3 * time.Second)}, "connected, last answer 3s ago"},
		{"a while ago", EtcdStatus{Connected: true, LastContact: ago(228 * time.Second)}, "connected, last answer 3m 48s ago, which is usual while no lease changes"},
		{"gone", EtcdStatus{LastContact: ago(228 * time.Second)}, "not connected, last answer 3m 48s ago"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := etcdLine(tt.etcd, showTime); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestDuration(t *testing.T) {
	tests := []struct {
		name string
		d    time.Duration
		want string
	}{
		{"nothing", 0, "0s"},
		{"a clock that went back", -time.Second, "0s"},
		{"seconds", 59499 * time.Millisecond, "59s"},
		{"rounds up to a minute", 59500 * time.Millisecond, "1m 0s"},
		{"hours", 23*time.Hour + 12*time.Minute + 59*time.Second, "23h 12m"},
		{"a day, as a lease has it", 24 * time.Hour, "24h 0m"},
		{"days", 49 * time.Hour, "2d 1h"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := duration(tt.d); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestSize(t *testing.T) {
	for n, want := range map[uint64]string{0: "0 B", 999: "999 B", 1000: "1.0 kB", 1_500_000: "1.5 MB", 1<<64 - 1: "18.4 EB"} {
		if got := size(n); got != want {
			t.Errorf("got %q for %d, want %q", got, n, want)
		}
	}
}
