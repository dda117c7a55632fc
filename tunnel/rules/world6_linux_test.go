// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"vxtap/cmd/vxlab/netns"
)

// The addresses of a world in IPv6.
const (
	hostAddr6      = "2001:db8::1"
	overlayAddr6   = "fd00:5:0:1::"
	containerAddr6 = "fd00:5:0:1::5"
	elsewhereAddr6 = "fd00:5:0:2::5"
	outsideAddr6   = "2001:db8::9"
	excludedAddr6  = "2001:db8:9::9"
	secondAddr6    = "2001:db8:7::1"
)

func newWorld6(t *testing.T) world {
	t.Helper()
	w := world{newSpace(t, "h"), newSpace(t, "c"), newSpace(t, "e"), newSpace(t, "o")}
	for _, s := range []space{w.host, w.container, w.elsewhere, w.outside} {
		// Else nobody has a link-local address, to find neighbours with, for a second.
		s.run("sysctl -qw net.ipv6.conf.default.accept_dad=0 net.ipv6.conf.default.dad_transmits=0")
	}
	for _, l := range []struct {
		peer             space
		name, ours, mine string
	}{
		{w.container, "cni0", "fd00:5:0:1::1/64", containerAddr6 + "/64"},
		{w.elsewhere, "flannel-v6.1", overlayAddr6 + "/128", elsewhereAddr6 + "/128"},
		{w.outside, "eth0", hostAddr6 + "/64", outsideAddr6 + "/64"},
	} {
		err := netns.AddVeth(w.host.Namespace, l.name, l.peer.Namespace, "eth0", 1500)
		if err == nil {
			err = errors.Join(w.host.AddAddr(l.name, netip.MustParsePrefix(l.ours)), w.host.SetUp(l.name),
				l.peer.AddAddr("eth0", netip.MustParsePrefix(l.mine)), l.peer.SetUp("eth0"))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	w.host.run("sysctl -qw net.ipv6.conf.all.forwarding=1; ip -6 route add fd00:5::/48 dev flannel-v6.1 src " + overlayAddr6 +
		"; ip -6 route add 2001:db8:9::/48 via " + outsideAddr6 + " dev eth0; ip addr add " + secondAddr6 + "/128 dev lo nodad")
	w.container.run("ip -6 route add default via fd00:5:0:1::1")
	// As in the tunnel, nobody is asked for the address of a neighbour.
	mac := func(s space, device string) string {
		return strings.TrimSpace(s.run("ip -br link show dev " + device + " | awk '{ print $3 }'"))
	}
	w.elsewhere.run("ip -6 route add default via fe80::1 dev eth0; ip neigh add fe80::1 dev eth0 lladdr " + mac(w.host, "flannel-v6.1"))
	w.host.run("ip neigh add " + elsewhereAddr6 + " dev flannel-v6.1 lladdr " + mac(w.elsewhere, "eth0"))
	w.outside.run("ip addr add " + excludedAddr6 + "/128 dev lo nodad; ip -6 route add fd00:5::/48 via " + hostAddr6)
	for _, e := range []struct {
		who  space
		addr string
	}{{w.container, containerAddr6}, {w.elsewhere, elsewhereAddr6}, {w.outside, outsideAddr6}, {w.outside, excludedAddr6}} {
		e.who.echo(e.addr)
	}
	// The first that looks for a neighbour may find nobody for a second.
	for _, to := range []string{containerAddr6, outsideAddr6, excludedAddr6} {
		for try := 0; w.elsewhere.seen("", to) == "dropped"; try++ {
			if try == 5 {
				t.Fatalf("%s cannot be reached without any rules", to)
			}
		}
	}
	return w
}
