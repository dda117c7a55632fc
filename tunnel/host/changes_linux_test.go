// SPDX-License-Identifier: Apache-2.0

package host

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
)

// Changes of links, addresses, routes and rules are heard of, each by itself,
// and the end of the context ends it.
func TestChanges(t *testing.T) {
	inNamespace(t, func() {
		h, err := netlink.NewHandle() // stays in this namespace, whichever thread uses it
		must(t, err)
		defer h.Close()
		link := addLink(t, &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "eth0"}, PeerName: "peer0"})
		addr, err := netlink.ParseAddr("192.0.2.1/24")
		must(t, err)
		rule := netlink.NewRule()
		rule.IifName, rule.Table, rule.Priority = "eth0", 99, 10
		route := &netlink.Route{LinkIndex: link.Attrs().Index, Dst: ipNet(netip.MustParsePrefix("198.51.100.0/24"))}

		ctx, cancel := context.WithCancel(t.Context())
		heard := make(chan struct{}, 100)
		go func() {
			defer cancel()
			awaitQuiet(heard, 300*time.Millisecond) // what came with the link
			for _, change := range []struct {
				name string
				make func() error
			}{
				{"a link goes up", func() error { return h.LinkSetUp(link) }},
				{"an address", func() error { return h.AddrAdd(link, addr) }},
				{"a route", func() error { return h.RouteAdd(route) }},
				{"a rule", func() error { return h.RuleAdd(rule) }},
			} {
				if err := change.make(); err != nil {
					t.Errorf("%s: %v", change.name, err)
				}
				select {
				case <-heard:
				case <-time.After(5 * time.Second):
					t.Errorf("%s was not heard of", change.name)
				}
				awaitQuiet(heard, 100*time.Millisecond)
			}
		}()
		if err := Changes(ctx, func() { heard <- struct{}{} }); err != nil {
			t.Errorf("Changes: %v", err)
		}
	})
}

// awaitQuiet takes what is heard until nothing was for a while.
func awaitQuiet(heard <-chan struct{}, quiet time.Duration) {
	for {
		select {
		case <-heard:
		case <-time.After(quiet):
			return
		}
	}
}
