// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"vxtap/cmd/vxlab/lab"
	"vxtap/cmd/vxlab/traffic"
	"vxtap/encap/ether"
)

func host(n int, subnet string) lab.Host {
	h := lab.Host{Node: lab.HostNode(n), VTEP: netip.AddrFrom4([4]byte{192, 168, 77, byte(10 + n)}), PID: 1000 + n}
	if subnet != "" {
		h.Subnet = netip.MustParsePrefix(subnet)
		h.Container = h.Subnet.Addr().Next().Next()
		h.MAC, h.MTU = ether.MAC{2, 0, 0, 0, 0, byte(n)}, 1450
	}
	return h
}

func TestLabTable(t *testing.T) {
	dead, bare := host(2, "172.30.200.0/24"), host(3, "")
	dead.PID, bare.PID, bare.Bare = 0, 0, true
	hand := host(4, "172.30.7.0/24")
	hand.PID, hand.ByHand = 0, true
	got := labTable([]labInfo{
		{Name: "lab", Underlay: "192.168.77.0/24", EtcdUp: true, Hosts: []lab.Host{host(1, "172.30.4.0/24"), dead, bare, hand}},
		{Name: "b", Underlay: "192.168.77.0/24", Hosts: []lab.Host{dead}},
		{Name: "c", Problem: "records are lost"},
	})
	want := `
LAB  NODE  SUBNET           VTEP           MAC                 MTU  CONTAINER     RUNS
lab  net   -                192.168.77.1   -                     -  -             etcd
lab  h1    172.30.4.0/24    192.168.77.11  02:00:00:00:00:01  1450  172.30.4.2    vxtap, pid 1001
lab  h2    172.30.200.0/24  192.168.77.12  02:00:00:00:00:02  1450  172.30.200.2  nothing (vxtap is down: vxlab start h2)
lab  h3    -                192.168.77.13  -                     -  -             no vxtap of the lab's
lab  h4    172.30.7.0/24    192.168.77.14  02:00:00:00:00:04  1450  172.30.7.2    vxtap, not started by the lab
b    net   -                192.168.77.1   -                     -  -             nothing (etcd is down: vxlab start -name b net)
b    h2    172.30.200.0/24  192.168.77.12  02:00:00:00:00:02  1450  172.30.200.2  nothing (vxtap is down: vxlab start -name b h2)
c    -     -                -              -                     -  -             broken: records are lost`
	if diff := cmp.Diff(strings.TrimPrefix(want, "\n"), got); diff != "" {
		t.Error(diff)
	}
}

// measured is a demo of three hosts in which some pairs failed.
func measured(faults map[pair]error) *measurement {
	m := &measurement{
		hosts: []lab.Host{host(1, "172.30.4.0/24"), host(2, "172.30.5.0/24"), host(3, "172.30.6.0/24")},
		transfers: map[pair]traffic.Transfer{
			{0, 1}: {Bytes: 100e6, Elapsed: 100 * time.Millisecond},
			{1, 0}: {Bytes: 100e6, Elapsed: 2 * time.Second},
		},
	}
	for i := range m.hosts {
		for j := range m.hosts {
			if i != j {
				m.pairs = append(m.pairs, pair{i, j})
				m.trips = append(m.trips, time.Duration(100+10*i+j)*time.Microsecond)
				m.faults = append(m.faults, faults[pair{i, j}])
			}
		}
	}
	return m
}

func TestDemoTable(t *testing.T) {
	m := measured(map[pair]error{{2, 0}: traffic.ErrLost})
	//nolint:dupword // a table
	want := `
HOST  SUBNET         VTEP           MAC                 MTU          RTT  THROUGHPUT
h1    172.30.4.0/24  192.168.77.11  02:00:00:00:00:01  1450     0.102 ms  8.00 Gb/s to h2
h2    172.30.5.0/24  192.168.77.12  02:00:00:00:00:02  1450     0.112 ms  400 Mb/s to h1
h3    172.30.6.0/24  192.168.77.13  02:00:00:00:00:03  1450  1 of 2 lost  -`
	if diff := cmp.Diff(strings.TrimPrefix(want, "\n"), demoTable(m.hosts, m, false)); diff != "" {
		t.Error(diff)
	}
	if got := demoTable(m.hosts, m, true); !strings.Contains(got, "\x1b[31m1 of 2 lost\x1b[0m") {
		t.Errorf("with colours: got %q", got)
	}
}

func TestFailedPairsAreNamed(t *testing.T) {
	if err := measured(nil).failed(); err != nil {
		t.Errorf("nothing failed: got %v", err)
	}
	faults := map[pair]error{{0, 2}: fmt.Errorf("ping: %w", traffic.ErrLost), {2, 1}: errors.New("no route\nto host")}
	want := "2 of 6 pairs of containers failed: c1 -> c3 (no reply), c3 -> c2 (no route; to host)"
	if err := measured(faults).failed(); err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	for i := range 3 {
		for j := range 3 {
			faults[pair{i, j}] = traffic.ErrLost
		}
	}
	if err := measured(faults).failed(); err == nil || !strings.HasSuffix(err.Error(), "c3 -> c1 (no reply) and 1 more") {
		t.Errorf("got %v, want five pairs and how many more", err)
	}
}

func TestColoursAreForTerminals(t *testing.T) {
	t.Setenv("NO_COLOR", "")
	t.Setenv("TERM", "xterm")
	if coloursFor(&bytes.Buffer{}) {
		t.Error("colours for a buffer")
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	if coloursFor(w) {
		t.Error("colours for a pipe")
	}
	tty, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Logf("no terminal to be had: %v", err)
		return
	}
	defer tty.Close()
	if !coloursFor(tty) {
		t.Error("no colours for a terminal")
	}
	t.Setenv("NO_COLOR", "1")
	if coloursFor(tty) {
		t.Error("colours although NO_COLOR is set")
	}
}
