// SPDX-License-Identifier: Apache-2.0

package flannel

import (
	"context"
	"errors"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"vxtap/cmd/vxlab/lab"
	"vxtap/cmd/vxlab/netns"
	"vxtap/encap/ether"
	"vxtap/test/bed"
	"vxtap/test/traffic"
)

// TestHandoverDualStack is TestHandover in a dual-stack network: vxtap is replaced
// by a real flanneld and that by vxtap again, with both of its devices.
func TestHandoverDualStack(t *testing.T) {
	flanneld := bed.FlanneldBinary(t)
	b := bed.Up(t, dualLab(2, "-takeover", "-ip-masq"))
	before, host := b.Host(1), b.Node("h1")
	from, to := [2]traffic.End{b.ContainerEnd(2), b.ContainerEnd6(2)}, [2]traffic.End{b.ContainerEnd(1), b.ContainerEnd6(1)}
	env, rules := subnetFile(t, before), dualRules(t, host)
	key, _ := b.LeaseOf(before)
	bothReach(t, from, to)

	if err := b.StopHost(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	f := b.FlanneldOn(1, flanneld, "-ip-masq")
	if got := subnetFile(t, before); withoutMTU(got) != withoutMTU(env) {
		t.Errorf("flanneld wrote subnet file %q, want %q as vxtap did, but for the MTU", got, env)
	}
	if got := dualRules(t, host); got != rules {
		t.Errorf("flanneld set rules\n%swant those that vxtap set:\n%s", got, rules)
	}
	macs := devicesAre(t, host, "vxlan")
	theirs, value := b.LeaseOf(before)
	if theirs != key {
		t.Errorf("flanneld has %q, want %q, which vxtap had", theirs, key)
	}
	bothReach(t, from, to)
	everyFamily(t, from, to)

	f.Stop()
	revision := modRevision(b.Etcdctl("get", "-w=fields", key))
	v4, v6 := watch(from[0], to[0]), watch(from[1], to[1])
	err := b.StartHost(t.Context(), 1)
	bothReach(t, from, to)
	gap4, lost4 := v4()
	gap6, lost6 := v6()
	if err := errors.Join(err, lost4, lost6); err != nil {
		t.Fatal(err)
	}
	t.Logf("cut off for %v in IPv4 and %v in IPv6", gap4.Round(time.Millisecond), gap6.Round(time.Millisecond))
	if max(gap4, gap6) > gapLimit {
		t.Errorf("cut off for %v and %v while vxtap took over, want less than %v", gap4, gap6, gapLimit)
	}
	if got := devicesAre(t, host, "tun"); got != macs {
		t.Errorf("got MACs %s, want %s as flanneld had", got, macs)
	}
	if log, err := os.ReadFile(before.Log); err != nil || strings.Count(string(log), "the kernel's vxlan device is replaced") != 2 {
		t.Errorf("the log does not say that two devices were replaced: %v\n%s", err, log)
	}
	if s := b.Status(1); s.Subnet != before.Subnet || s.IPv6 == nil || s.IPv6.Subnet != before.IPv6Subnet {
		t.Errorf("got %s and %+v, want %s and %s as before", s.Subnet, s.IPv6, before.Subnet, before.IPv6Subnet)
	}
	if got := subnetFile(t, before); got != env {
		t.Errorf("got subnet file %q, want %q", got, env)
	}
	if got := dualRules(t, host); got != rules {
		t.Errorf("got rules\n%swant those that flanneld left:\n%s", got, rules)
	}
	if _, got := b.LeaseOf(before); got != value {
		t.Errorf("got lease %q, want %q as flanneld wrote it", got, value)
	}
	if got := modRevision(b.Etcdctl("get", "-w=fields", key)); got != revision {
		t.Errorf("the lease was written again, so that peers noticed: %s, before %s", got, revision)
	}
	everyFamily(t, from, to)
	for key := range strings.FieldsSeq(b.Etcdctl("get", "--prefix", "--keys-only", bed.Prefix)) {
		if !regexp.MustCompile(`^` + bed.Prefix + `/(config|subnets/172\.30\.\d+\.0-24&fd00:30:0:[0-9a-f]+::-64)$`).MatchString(key) {
			t.Errorf("somebody wrote %s", key)
		}
	}
}

// bothReach waits until there are answers in both families.
func bothReach(t *testing.T, from, to [2]traffic.End) {
	t.Helper()
	for i := range from {
		bed.Eventually(t, 5*time.Second, func() error { return reaches(t, from[i], to[i]) })
	}
}

func everyFamily(t *testing.T, from, to [2]traffic.End) {
	t.Helper()
	for i := range from {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		if err := traffic.BothWays(ctx, from[i], to[i], bothFamilies, 8<<20); err != nil {
			t.Error(err)
		}
		cancel()
	}
}

// devicesAre fails unless both devices are of a kind, as ip calls it, and returns
// their MACs.
func devicesAre(t *testing.T, host *netns.Namespace, kind string) (macs [2]ether.MAC) {
	t.Helper()
	for _, device := range []string{"flannel.1", "flannel-v6.1"} {
		if got := bed.Run(t, host, "ip", "-d", "link", "show", device); !strings.Contains(got, "\n    "+kind+" ") {
			t.Errorf("%s is no %s:\n%s", device, kind, got)
		}
	}
	v4, err4 := bed.MAC(host)
	v6, err6 := bed.MAC6(host)
	if err := errors.Join(err4, err6); err != nil {
		t.Fatal(err)
	}
	return [2]ether.MAC{v4, v6}
}

// dualRules returns the rules of a host that masquerade, of both kinds and
// families.
func dualRules(t *testing.T, host *netns.Namespace) string {
	t.Helper()
	rules := bed.Run(t, host, "sh", "-c", "iptables -t nat -S; ip6tables -t nat -S; "+
		"for f in 4 6; do nft -s list chain ip${f#4} flannel-ipv$f postrtg 2>/dev/null; done; true")
	if n := strings.Count(strings.ToLower(rules), "masquerade"); n != 4 {
		t.Errorf("%d rules masquerade, want two of each family:\n%s", n, rules)
	}
	return rules
}

// withoutMTU is a subnet file without its MTU, see F13.
func withoutMTU(env string) string {
	return regexp.MustCompile(`(?m)^FLANNEL_MTU=\d+$`).ReplaceAllString(env, "")
}

// hostOf finds a host by its node's name.
func hostOf(t *testing.T, b *bed.Bed, node string) lab.Host {
	t.Helper()
	for _, h := range b.Hosts() {
		if h.Node == node {
			return h
		}
	}
	t.Fatalf("no host %s", node)
	return lab.Host{}
}
