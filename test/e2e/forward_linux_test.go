// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"vxtap/cmd/vxlab/lab"
	"vxtap/test/bed"
)

// A host that does not forward cuts its containers off while the tunnel is well:
// no counter moves, so that the operator has to be told.
func TestHostThatDoesNotForwardIsNamed(t *testing.T) {
	b := bed.Up(t, lab.Options{Hosts: 2})
	h1, from, to := b.Node("h1"), b.ContainerEnd(1), b.ContainerEnd(2)
	bed.Eventually(t, time.Second, func() error { return reaches(t, from, to) })
	if s := b.Status(1); len(s.Warnings) != 0 {
		t.Errorf("warnings of a host that forwards: %q", s.Warnings)
	}

	bed.Run(t, h1, "sysctl", "-qw", "net.ipv4.ip_forward=0")
	if err := cutOff(t, from, to); err != nil {
		t.Error(err)
	}
	s := b.Status(1)
	if s.State != "ready" || len(s.Warnings) != 1 {
		t.Fatalf("state %q, warnings %q, want ready and one", s.State, s.Warnings)
	}
	// Both the line of the log and the command in it are what is promised.
	bed.Eventually(t, 10*time.Second, func() error {
		if text, err := os.ReadFile(b.Host(1).Log); err != nil || !strings.Contains(string(text), "net.ipv4.ip_forward=0: containers on this host are cut off") {
			return fmt.Errorf("the log has no line on forwarding, error %w", err)
		}
		return nil
	})
	command := s.Warnings[0][strings.LastIndex(s.Warnings[0], ": ")+2:]
	bed.Run(t, h1, "sh", "-c", command)
	bed.Eventually(t, time.Second, func() error { return reaches(t, from, to) })
	if s := b.Status(1); len(s.Warnings) != 0 {
		t.Errorf("warnings after %q: %q", command, s.Warnings)
	}
}

// A host whose policy is to drop lets the overlay through once the rules of
// docs/operations.md are there, and super-frames whole, without any forward
// rules of the daemon's.
func TestFirewallRulesOfTheDocuments(t *testing.T) {
	var iptables, nft string
	for _, block := range shellBlocks(t, "../../docs/operations.md") {
		switch {
		case strings.HasPrefix(block, "iptables "):
			iptables = block
		case strings.HasPrefix(block, "nft insert"):
			nft = block
		}
	}
	for _, tt := range []struct{ name, policy, rules string }{
		{"iptables", "iptables -P FORWARD DROP", iptables},
		{"nftables", "nft add table inet filter\nnft 'add chain inet filter forward { type filter hook forward priority 0; policy drop; }'", nft},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := bed.Up(t, lab.Options{Hosts: 2, Args: []string{"-iptables-forward-rules=false"}})
			h1, from, to := b.Node("h1"), b.ContainerEnd(1), b.ContainerEnd(2)
			bed.Eventually(t, time.Second, func() error { return reaches(t, from, to) })
			bed.Run(t, h1, "sh", "-ec", tt.policy)
			if err := cutOff(t, from, to); err != nil {
				t.Fatal(err)
			}
			rules := strings.Split(strings.TrimSpace(strings.ReplaceAll(tt.rules, "10.5.0.0/16", b.Options().Network.String())), "\n")
			if len(rules) != 3 || !strings.Contains(rules[2], "vxup") {
				t.Fatalf("the document has the rules %q, want two for the overlay and one for super-frames", rules)
			}
			// With the rule for super-frames alone containers stay cut off.
			bed.Run(t, h1, "sh", "-ec", rules[2])
			if err := cutOff(t, from, to); err != nil {
				t.Error(err)
			}
			bed.Run(t, h1, "sh", "-ec", rules[0]+"\n"+rules[1])
			bed.Eventually(t, time.Second, func() error { return reaches(t, from, to) })
			// A closed way is looked at again after ten seconds.
			bed.Eventually(t, 20*time.Second, func() error {
				if s := b.Status(1).TXPath; s.InUse != "uplink" && s.Device != "" {
					return fmt.Errorf("super-frames go by %s: %s", s.InUse, s.Reason)
				}
				return nil
			})
		})
	}
}

// The commands with which docs/drops.md looks for loss elsewhere.
func TestCommandsOfDropsRun(t *testing.T) {
	text, err := os.ReadFile("../../docs/drops.md")
	if err != nil {
		t.Fatal(err)
	}
	b := bed.Up(t, lab.Options{Hosts: 2})
	for command, node := range map[string]string{
		"nstat -az UdpRcvbufErrors": "c2", "iptables -vnL FORWARD": "h1", "nft list ruleset": "h1", "ip -s link": "h1",
	} {
		if !strings.Contains(string(text), "`"+command+"`") {
			t.Errorf("docs/drops.md does not have %q", command)
		}
		args := strings.Fields(command)
		if out := bed.Run(t, b.Node(node), args[0], args[1:]...); strings.HasPrefix(command, "nstat") && !strings.Contains(out, "UdpRcvbufErrors") {
			t.Errorf("%s: got %q, want the counter", command, out)
		}
	}
}
