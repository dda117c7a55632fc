// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// The outside interface and the address in the lease are chosen as flannel
// chooses them, and where flannel gives up as well.
func TestUplinkIsChosen(t *testing.T) {
	const second = "ip link add u1 type bridge; ip addr add 198.51.100.1/24 dev u1; ip link set u1 up; "
	for _, tt := range []struct {
		name  string
		setup string
		args  []string
		iface string
		addr  string
		vtep  string
	}{
		{"the first of several names that exists", second, []string{"-iface=eth9", "-iface=u1", "-iface=u0"}, "u1", "198.51.100.1", "198.51.100.1"},
		{"an address as a name", second, []string{"-iface=198.51.100.1"}, "u1", "198.51.100.1", "198.51.100.1"},
		{"a pattern of the address", second, []string{"-iface=", "-iface-regex=^10\\.", "-iface-regex=^198\\.51\\."}, "u1", "198.51.100.1", "198.51.100.1"},
		{"the way to an address", second + "ip route add 203.0.113.0/24 via 198.51.100.2", []string{"-iface=", "-iface-can-reach=203.0.113.9"}, "u1", "198.51.100.1", "198.51.100.1"},
		{
			"a default route with two next hops", second + "ip route add default nexthop via 198.51.100.2 nexthop via 192.0.2.254",
			[]string{"-iface="}, "u1", "198.51.100.1", "198.51.100.1",
		},
		{"a public IP that is on no interface", "", []string{"-public-ip=203.0.113.9"}, "u0", hostAddr, "203.0.113.9"},
		{
			"a public IP that is on no interface, and the default route", second + "ip route add default via 198.51.100.2",
			[]string{"-iface=", "-public-ip=203.0.113.9"}, "u1", "198.51.100.1", "203.0.113.9",
		},
		{
			"a public IP of an interface without the default route", second + "ip route add default via 192.0.2.254",
			[]string{"-iface=", "-public-ip=198.51.100.1"}, "u1", "198.51.100.1", "198.51.100.1",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := newTestHost(t)
			h.startEtcd(netConfig)
			h.shell(tt.setup + "\ntrue")
			p := h.daemon(nil, tt.args...)
			h.ready(p)
			s := h.status()
			if s.Interface != tt.iface || s.Address.String() != tt.addr || s.VTEP.String() != tt.vtep {
				t.Errorf("got %s on %s, published %s; want %s on %s, published %s", s.Address, s.Interface, s.VTEP, tt.addr, tt.iface, tt.vtep)
			}
			bound := h.shell("ss -Hlun sport = :8472")
			if !strings.Contains(bound, tt.addr+":8472") {
				t.Errorf("bound to %s", bound)
			}
			value := h.etcdctl("get", "--print-value-only", "/coreos.com/network/"+s.Lease.Key)
			if !strings.Contains(value, fmt.Sprintf(`"PublicIP":%q`, tt.vtep)) {
				t.Errorf("the lease says %s", value)
			}
			p.stop(h)
		})
	}
}

// A public IP that was given stays, whatever address the host gets.
func TestPublicIPStaysWhenTheAddressChanges(t *testing.T) {
	h, p := newRunningHost(t, netConfig, "-public-ip=203.0.113.9")
	before := h.status()
	revision := h.etcdctl("get", "-w", "fields", "/coreos.com/network/"+before.Lease.Key)
	h.shell("ip addr flush dev u0; ip addr add 192.0.2.77/24 dev u0")
	h.eventually("the sockets follow", func() error {
		if bound := h.shell("ss -Hlun sport = :8472"); !strings.Contains(bound, "192.0.2.77:8472") || strings.Contains(bound, hostAddr+":8472") {
			return errors.New(bound)
		}
		return p.died()
	})
	if now := h.status(); now.VTEP != before.VTEP || now.Subnet != before.Subnet || now.Address.String() != "192.0.2.77" {
		t.Errorf("got %s, %s at %s", now.VTEP, now.Subnet, now.Address)
	}
	if now := h.etcdctl("get", "-w", "fields", "/coreos.com/network/"+before.Lease.Key); stripRevision(now) != stripRevision(revision) {
		t.Errorf("the lease was written again:\n%s\nwas\n%s", now, revision)
	}
	h.shell("ip addr add " + hostAddr + "/24 dev u0") // where nothingLeft looks
	p.stop(h)
	h.nothingLeft()
}

// stripRevision leaves out what is of the answer, and not of the key.
func stripRevision(fields string) string {
	var kept []string
	for line := range strings.Lines(fields) {
		if !strings.HasPrefix(line, `"ClusterID"`) && !strings.HasPrefix(line, `"MemberID"`) && !strings.HasPrefix(line, `"Revision"`) && !strings.HasPrefix(line, `"RaftTerm"`) {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, "")
}

// Another address that comes beside the first is no reason to move, and neither
// is a better way out of the host.
func TestDaemonStaysWhereItIs(t *testing.T) {
	h := newTestHost(t)
	h.shell("ip route add default via 192.0.2.254")
	h.startEtcd(netConfig)
	p := h.daemon(nil, "-iface=")
	h.ready(p)
	// With a port that is up a bridge has a carrier.
	for _, bridge := range []string{"u0", "u1"} {
		h.shell(fmt.Sprintf("ip link add %[1]s type bridge 2>/dev/null; ip link add %[1]sp type veth peer name %[1]sq; ip link set %[1]sp master %[1]s up; ip link set %[1]sq up", bridge))
	}
	h.shell("ip addr add 198.51.100.1/24 dev u1; ip link set u1 up; ip route replace default via 198.51.100.2; ip addr add 192.0.2.3/24 dev u0")
	<-time.After(settleFor + 2*time.Second)
	if s := h.status(); s.Address.String() != hostAddr || s.VTEP.String() != hostAddr || len(s.Warnings) > 0 && strings.Contains(s.Warnings[0], "tunnel") {
		t.Errorf("moved to %s, published %s, warnings %q", s.Address, s.VTEP, s.Warnings)
	}
	p.stop(h)
	h.nothingLeft()
}

func TestDaemonsLastWordsAreJSON(t *testing.T) {
	h := newTestHost(t)
	p := h.daemon(nil, "-log-format=json", "-iface=eth9")
	if got := p.wait(h, 10*time.Second); got != exitError {
		t.Errorf("got status %d, want %d", got, exitError)
	}
	wantLastWords(t, p.printed(), "no interface has the name or address eth9")
}
