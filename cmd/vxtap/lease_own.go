// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"vxtap/lease"
)

// thisHost is what makes a lease this host's, for an operator's command: an
// address of an interface, or what -public-ip says and a file of this host
// agrees with. The flag alone proves nothing: mistyped, it is another host.
type thisHost struct {
	addrs map[netip.Addr]bool
	given netip.Addr // of -public-ip; the zero Addr without it
}

func readThisHost(c *cli.Context) (thisHost, error) {
	h := thisHost{addrs: make(map[netip.Addr]bool)}
	if v := strings.TrimSpace(c.String("public-ip")); v != "" {
		a, err := netip.ParseAddr(v)
		if err != nil || !a.Is4() {
			return h, usagef("-public-ip: %q is not an IPv4 address, as 192.0.2.7", v)
		}
		h.given = a
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return h, fmt.Errorf("addresses of this host: %w", err)
	}
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil && !p.Addr().IsLoopback() {
			h.addrs[p.Addr()] = true
		}
	}
	return h, nil
}

// means reports whether own is l, as the operator says it.
func (h thisHost) means(l lease.Lease) bool {
	if h.given.IsValid() {
		return l.Attrs.PublicIP == h.given
	}
	return h.addrs[l.Attrs.PublicIP]
}

// holds reports whether l is this host's in truth: it has the address, or it has
// a file that names the subnet.
func (h thisHost) holds(c *cli.Context, n *network, l lease.Lease) bool {
	if !h.means(l) || h.addrs[l.Attrs.PublicIP] {
		return h.addrs[l.Attrs.PublicIP]
	}
	if env, err := lease.ReadSubnetEnv(c.String("subnet-file")); err == nil && env.Subnet == l.Subnet && l.Subnet.IsValid() {
		return true
	}
	name := lease.New(n.store, lease.Options{}).MemoryName(l.Attrs.PublicIP)
	m, err := lease.ReadMemory(filepath.Join(c.String("state-dir"), name))
	return err == nil && m.Own.Key == l.Key && m.Own.Attrs.PublicIP == l.Attrs.PublicIP && samePrefix(m.Prefix, n.prefix)
}
