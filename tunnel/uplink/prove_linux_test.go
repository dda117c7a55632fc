// SPDX-License-Identifier: Apache-2.0

package uplink

import (
	"errors"
	"net"
	"net/netip"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The way is proven, closed while a rule of the host stands in it, and opened
// again.
func TestProve(t *testing.T) {
	d := openOn(t)
	if a := prove(d); a.verdict != passes {
		t.Fatalf("closed: %s", a.reason)
	}
	// Only what is forwarded meets this rule, as only that meets a firewall's
	// FORWARD chain.
	rule := netlink.NewRule()
	rule.IifName, rule.Type, rule.Priority = "vxup.1", unix.FR_ACT_BLACKHOLE, 10
	if err := netlink.RuleAdd(rule); err != nil {
		t.Fatal(err)
	}
	if a := prove(d); a.verdict != blocked || !strings.Contains(a.reason, "FORWARD") {
		t.Errorf("got %v although the host drops what it should forward", a)
	}
	if err := netlink.RuleDel(rule); err != nil {
		t.Fatal(err)
	}
	if a := prove(d); a.verdict != passes {
		t.Errorf("closed after the rule has gone: %s", a.reason)
	}
}

// Each peer has an answer of its own: one that is down, one behind a rule, one
// without a route, one on the way to which packets must be smaller, and one that
// is there.
func TestProveSeveral(t *testing.T) {
	eth0 := newHost(t)
	d := open(t)
	rule := netlink.NewRule()
	rule.IifName, rule.Type, rule.Priority, rule.Dst = "vxup.1", unix.FR_ACT_BLACKHOLE, 10, single("192.0.2.3")
	if err := netlink.RuleAdd(rule); err != nil {
		t.Fatal(err)
	}
	small := &netlink.Route{LinkIndex: eth0.Attrs().Index, Dst: single("192.0.2.4"), MTU: 1000}
	if err := netlink.RouteAdd(small); err != nil {
		t.Fatal(err)
	}
	for _, ip := range []string{"192.0.2.3", "192.0.2.4"} { // nobody answers for them
		neighbour := &netlink.Neigh{LinkIndex: eth0.Attrs().Index, State: unix.NUD_PERMANENT, IP: net.ParseIP(ip), HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 9}}
		if err := netlink.NeighAdd(neighbour); err != nil {
			t.Fatal(err)
		}
	}
	prove(d)
	tests := []struct {
		peer    string
		verdict verdict
		reason  string
	}{
		{"192.0.2.77", unknown, ""},
		{"192.0.2.3", blocked, "drops what it should forward"},
		{"198.51.100.1", blocked, "no way to the peer at all"},
		{"192.0.2.4", blocked, "fragments"},
		{"192.0.2.2", passes, ""},
	}
	var peers []question
	for _, tt := range tests {
		peers = append(peers, question{vtep: netip.MustParseAddr(tt.peer)})
	}
	for i, a := range d.proveAll(peers) {
		if tt := tests[i]; a.verdict != tt.verdict || !strings.Contains(a.reason, tt.reason) || (a.reason == "") != (tt.reason == "") {
			t.Errorf("%s: got %v, want %v for %q", tt.peer, a, tt.verdict, tt.reason)
		}
	}
}

// A window that sees little must see as many peers as one look asks about, at
// the largest MTU too.
func TestProveMany(t *testing.T) {
	for _, mtu := range []int{1450, 64950} {
		t.Run(strconv.Itoa(mtu), func(t *testing.T) {
			eth0 := newHost(t)
			c := config(false)
			c.MTU = mtu
			if err := netlink.LinkSetMTU(eth0, mtu+50); err != nil {
				t.Fatal(err)
			}
			d, err := Open(c)
			if errors.Is(err, errors.ErrUnsupported) {
				t.Skipf("not run: %v", err)
			}
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			prove(d) // the link takes a while to come up
			var peers []question
			for i := range perLook + curiosity {
				a := netip.AddrFrom4([4]byte{192, 0, 2, byte(100 + i)})
				peers = append(peers, question{vtep: a, anew: true})
				neighbour := &netlink.Neigh{LinkIndex: eth0.Attrs().Index, State: unix.NUD_PERMANENT, IP: a.AsSlice(), HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 9}}
				if err := netlink.NeighAdd(neighbour); err != nil {
					t.Fatal(err)
				}
			}
			for i, a := range d.proveAll(peers) {
				if a.verdict != passes {
					t.Errorf("%s: got %v", peers[i].vtep, a)
				}
			}
		})
	}
}

func single(ip string) *net.IPNet {
	return &net.IPNet{IP: net.ParseIP(ip), Mask: net.CIDRMask(32, 32)}
}

// A rule for some source ports or sizes only closes the way as any other does.
func TestProveEachPortAndSize(t *testing.T) {
	if _, err := exec.LookPath("nft"); err != nil {
		t.Fatal("no nft (.ci/deps installs it)")
	}
	for _, rule := range []string{"udp sport 49154 drop", "meta length > 9000 drop"} {
		t.Run(rule, func(t *testing.T) {
			d := openOn(t)
			if a := prove(d); a.verdict != passes {
				t.Fatalf("closed: %s", a.reason)
			}
			cmd := exec.Command("nft", "table ip t { chain f { type filter hook forward priority 0; "+rule+"; }; }")
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("nft: %v: %s", err, out)
			}
			if a := prove(d); a.verdict != blocked || !strings.Contains(a.reason, "by size or by source port") {
				t.Errorf("got %v", a)
			}
		})
	}
}

func TestReversePathFilter(t *testing.T) {
	newHost(t)
	sysctl(t, "net/ipv4/conf/all/rp_filter", "1")
	d, err := Open(config(true))
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skipf("not run: %v", err)
	}
	if err == nil {
		d.Close()
	}
	if err == nil || !strings.Contains(err.Error(), "rp_filter=1") {
		t.Errorf("got %v", err)
	}
	if _, err := netlink.LinkByName("vxup.1"); err == nil {
		t.Error("the device is still there")
	}

	d, err = Open(config(false))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for _, tt := range []struct {
		filter string
		want   verdict
	}{{"1", blocked}, {"2", passes}, {"1", blocked}, {"0", passes}} {
		sysctl(t, "net/ipv4/conf/all/rp_filter", tt.filter)
		if a := prove(d); a.verdict != tt.want || (a.verdict == blocked) != strings.Contains(a.reason, "rp_filter=1") {
			t.Errorf("rp_filter=%s: got %v, want %v", tt.filter, a, tt.want)
		}
	}
}
