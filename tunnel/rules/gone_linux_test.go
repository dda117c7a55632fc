// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"strings"
	"testing"
)

// The rule for an uplink device goes with the device, whoever had it; what only
// looks like it, and that of a device that is there, stay.
func TestRuleOfAnUplinkThatIsGone(t *testing.T) {
	need(t, "nft", "iptables", "iptables-restore")
	both(t, func(t *testing.T, k Kind) {
		s := newSpace(t, "")
		p := exclude(plan(k))
		p.Uplinks = "vxup."
		s.run("ip link add vxup.3 type bridge")
		former := p
		former.Uplink = "vxup.7"
		s.apply(former)
		add := map[Kind]string{NFTables: "nft add rule ip flannel-ipv4 forward iifname %", IPTables: "iptables -A FLANNEL-FWD -i % -m comment --comment 'flanneld forward' -j "}[k]
		verdict := map[Kind]func(string) string{NFTables: strings.ToLower, IPTables: strings.ToUpper}[k]
		stay := []string{"vxup.3 accept", "vxup.8 drop", "vxup.x accept", "vxup accept", "eth7 accept"}
		for _, r := range stay {
			device, v, _ := strings.Cut(r, " ")
			s.run(strings.Replace(add, "%", device, 1) + " " + verdict(v))
		}
		if got := s.list(k); !strings.Contains(got, "vxup.7") {
			t.Fatalf("the rule of the former is not there:\n%s", got)
		}
		s.apply(p)
		got := strings.ReplaceAll(s.list(k), `"`, "")
		if strings.Contains(got, "vxup.7") {
			t.Errorf("the rule of the former is still there:\n%s", got)
		}
		for _, r := range append(stay, "vxup.1 accept") {
			device, _, _ := strings.Cut(r, " ")
			if !strings.Contains(got, map[Kind]string{NFTables: "iifname ", IPTables: "-i "}[k]+device+" ") {
				t.Errorf("the rule %q is gone:\n%s", r, got)
			}
		}
		if again := s.apply(p); len(again) > 0 {
			t.Errorf("got %q set again", again)
		}
	})
}
