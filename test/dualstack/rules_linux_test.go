// SPDX-License-Identifier: Apache-2.0

package dualstack

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"vxtap/cmd/vxlab/lab"
	"vxtap/test/bed"
)

// A host with iptables and without ip6tables has rules of two kinds, and both are
// mended.
func TestRulesWithoutIP6Tables(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"iptables", "iptables-restore"} {
		path, err := exec.LookPath(name)
		if err == nil {
			err = os.Symlink(path, filepath.Join(dir, name))
		}
		if err != nil {
			t.Fatalf("%v (.ci/deps installs it)", err)
		}
	}
	script := filepath.Join(t.TempDir(), "vxtap")
	text := fmt.Sprintf("#!/bin/sh\nPATH=%s exec %s \"$@\"\n", dir, bed.Binary(t, "vxtap"))
	if err := os.WriteFile(script, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	b := bed.Up(t, lab.Options{Hosts: 2, Vxtap: script, Args: []string{"-ip-masq"}, IPv6Underlay: underlay6, IPv6Network: network6})
	from, to := ends(b, 1), ends(b, 2)
	for f := range from {
		bed.Eventually(t, soon, func() error { return reach(t, from[f], to[f]) })
	}
	log, err := os.ReadFile(b.Host(1).Log)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`device=flannel.1 kind=iptables reason="the network config does not ask for nftables" masquerade=true forward=true`,
		`device=flannel-v6.1 kind=nftables reason="there is no ip6tables program" masquerade=true forward=true`,
	} {
		if strings.Count(string(log), want) != 1 {
			t.Errorf("want %q once in\n%s", want, log)
		}
	}
	h1 := b.Node("h1")
	rules := func() error {
		v4, v6 := bed.Run(t, h1, "iptables-save"), bed.Run(t, h1, "nft", "list", "ruleset", "ip6")
		for _, tt := range []struct{ rules, want, not string }{
			{v4, "-A FLANNEL-POSTRTG -s 172.30.0.0/16", "fd00:30"},
			{v6, "ip6 saddr fd00:30::/48 ip6 daddr != ff00::/8 masquerade", "FLANNEL"},
			{v6, "ip6 saddr fd00:30::/48 accept", "172.30"},
		} {
			if !strings.Contains(tt.rules, tt.want) || strings.Contains(tt.rules, tt.not) {
				return fmt.Errorf("got\n%s\nwant %q and not %q", tt.rules, tt.want, tt.not)
			}
		}
		return nil
	}
	if err := rules(); err != nil {
		t.Error(err)
	}
	bed.Run(t, h1, "sh", "-ec", "iptables -t nat -F; nft delete table ip6 flannel-ipv6")
	bed.Eventually(t, soon, rules)
}
