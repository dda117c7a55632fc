// SPDX-License-Identifier: Apache-2.0

package dualstack

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"vxtap/cmd/vxlab/lab"
	"vxtap/test/bed"
)

// A route for each peer, and routes past the tunnel, are there for both families.
func TestRoutesOfBothFamilies(t *testing.T) {
	b := bed.Up(t, lab.Options{Hosts: 2, IPv6Underlay: underlay6, IPv6Network: network6, Args: []string{"-route-mode=per-peer"}})
	routes := func() string {
		return bed.Run(t, b.Node("h1"), "sh", "-c", "ip route; ip -6 route")
	}
	wait := func(what string) {
		t.Helper()
		bed.Eventually(t, soon, func() error {
			now := routes()
			for _, subnet := range []string{b.Host(2).Subnet.String(), b.Host(2).IPv6Subnet.String()} {
				if !slices.ContainsFunc(strings.Split(now, "\n"), func(line string) bool {
					return strings.HasPrefix(line, subnet+" ") && strings.Contains(line, what)
				}) {
					return fmt.Errorf("no route to %s by %s:\n%s", subnet, what, now)
				}
			}
			return nil
		})
		for f := range ends(b, 1) {
			bed.Eventually(t, soon, func() error { return reach(t, ends(b, 1)[f], ends(b, 2)[f]) })
		}
	}
	wait("dev flannel")
	b.Etcdctl("put", bed.Prefix+"/config", strings.Replace(configDual, `"Type":"vxlan"`, `"Type":"vxlan","DirectRouting":true`, 1))
	wait("dev eth0")
	if s := b.Status(1); len(s.Peers) != 1 || !s.Peers[0].Direct || len(s.IPv6.Peers) != 1 || !s.IPv6.Peers[0].Direct {
		t.Errorf("got peers %+v and %+v, want both direct", s.Peers, s.IPv6.Peers)
	}
}

// A new MTU is followed under traffic, by the devices of both families and by the
// subnet file.
func TestMTUOfBothFamilies(t *testing.T) {
	b := bed.Up(t, lab.Options{Hosts: 2, IPv6Underlay: underlay6, IPv6Network: network6})
	b.Etcdctl("put", bed.Prefix+"/config", strings.Replace(configDual, `"Type":"vxlan"`, `"Type":"vxlan","MTU":1400`, 1))
	bed.Eventually(t, soon, func() error {
		links := bed.Run(t, b.Node("h1"), "ip", "-o", "link")
		text, err := os.ReadFile(b.Host(1).RunDir + "/subnet.env")
		if err != nil || !strings.Contains(links, "flannel.1: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1350") ||
			!strings.Contains(links, "flannel-v6.1: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1330") || !strings.Contains(string(text), "FLANNEL_MTU=1330\n") {
			return fmt.Errorf("%w, links\n%s and subnet file\n%s, want 1350, 1330 and 1330", err, links, text)
		}
		return nil
	})
	for f := range ends(b, 1) {
		bed.Eventually(t, soon, func() error { return reach(t, ends(b, 1)[f], ends(b, 2)[f]) })
	}
}
