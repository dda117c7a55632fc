// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"net/netip"
	"os"
	"path/filepath"
	"testing"
)

// A host may have the programs of one family only: the other one's rules are set
// without them, and its own stay where they have a say.
func TestChoose(t *testing.T) {
	const asked, not = "the network config asks for it", "the network config does not ask for nftables"
	v4, v6 := netip.MustParsePrefix("10.5.0.0/16"), netip.MustParsePrefix("fd00:5::/48")
	for _, tt := range []struct {
		name     string
		programs []string
		nftables bool
		network  netip.Prefix
		want     Kind
		why      string
	}{
		{"both are there, IPv4", []string{"iptables", "ip6tables"}, false, v4, IPTables, not},
		{"both are there, IPv6", []string{"iptables", "ip6tables"}, false, v6, IPTables, not},
		{"no ip6tables, IPv4", []string{"iptables"}, false, v4, IPTables, not},
		{"no ip6tables, IPv6", []string{"iptables"}, false, v6, NFTables, "there is no ip6tables program"},
		{"no iptables, IPv4", []string{"ip6tables"}, false, v4, NFTables, "there is no iptables program"},
		{"no iptables, IPv6", []string{"ip6tables"}, false, v6, IPTables, not},
		{"none, IPv6", nil, false, v6, NFTables, "there is no ip6tables program"},
		{"the config asks for nftables, IPv6", []string{"iptables", "ip6tables"}, true, v6, NFTables, asked},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			for _, p := range tt.programs {
				for _, name := range []string{p, p + "-restore"} {
					if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"), 0o700); err != nil {
						t.Fatal(err)
					}
				}
			}
			t.Setenv("PATH", dir)
			if k, why := Choose(tt.nftables, tt.network); k != tt.want || why != tt.why {
				t.Errorf("got %s, %q, want %s, %q", k, why, tt.want, tt.why)
			}
		})
	}
}
