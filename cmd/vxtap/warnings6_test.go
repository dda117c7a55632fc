// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"testing"
)

// For IPv6 there is one switch for all, and one more trap: a host that begins to
// forward goes deaf to the routers that it lives by.
func TestHostWarnings6(t *testing.T) {
	const (
		all    = "net/ipv6/conf/all/forwarding"
		force  = "net/ipv6/conf/flannel-v6.1/force_forwarding"
		own    = "net/ipv6/conf/flannel-v6.1/forwarding"
		router = "net/ipv6/conf/eth0/forwarding"
		accept = "net/ipv6/conf/eth0/accept_ra"

		shut = "net.ipv6.conf.all.forwarding=0: containers on this host are cut off from the IPv6 overlay: sysctl -w net.ipv6.conf.all.forwarding=1"
		deaf = "sysctl -w net/ipv6/conf/eth0/accept_ra=2"
	)
	for _, tt := range []struct {
		name       string
		sysctls    map[string]string
		advertised bool
		want       string
	}{
		{"a host that forwards", map[string]string{all: "1", router: "1", accept: "1"}, false, ""},
		{"one that does not", map[string]string{all: "0", force: "0"}, false, shut},
		{"one that does not, on a Linux before 6.17", map[string]string{all: "0"}, false, shut},
		{"one that does not, but for the device", map[string]string{all: "0", force: "1"}, false, ""},
		{"one that does, and is no router on the device", map[string]string{all: "1", own: "0"}, false, ""},
		{"it lives by routers and does not hear them", map[string]string{all: "1", router: "1", accept: "1"}, true, deaf},
		{"it lives by routers and hears them", map[string]string{all: "1", router: "1", accept: "2"}, true, ""},
		{"it lives by routers, and is none outside", map[string]string{all: "1", router: "0", accept: "1"}, true, ""},
		{"a program listens to the routers", map[string]string{all: "1", router: "1", accept: "0"}, true, ""},
		{"it lives by routers and does not forward", map[string]string{all: "0", router: "0", accept: "1"}, true, shut},
		{"another system", nil, true, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := hostWarnings6(sysctlsIn(t, tt.sysctls), "flannel-v6.1", "eth0", tt.advertised)
			if want := min(len(tt.want), 1); len(got) != want || !strings.HasSuffix(strings.Join(got, ""), tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}
