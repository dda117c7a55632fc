// SPDX-License-Identifier: Apache-2.0

package flannel

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"vxtap/cmd/vxlab/lab"
	"vxtap/test/bed"
	"vxtap/test/stall"
	"vxtap/test/traffic"
)

// gapLimit is how long a container may be cut off while vxtap takes over: the
// daemon takes a few hundredths of a second, a machine that is busy with other
// tests more.
const gapLimit = 2 * time.Second

// TestHandover replaces vxtap by a real flanneld and that by vxtap again, host by
// host. Each finds what the other left as it would have left it itself, and two
// other hosts talk all the time without losing anything.
func TestHandover(t *testing.T) {
	flanneld := bed.FlanneldBinary(t)
	b := bed.Up(t, lab.Options{Hosts: 3, Args: []string{"-takeover", "-ip-masq"}})
	for n := 1; n <= 2; n++ {
		t.Run(lab.HostNode(n), func(t *testing.T) {
			others := watch(b.ContainerEnd(3-n), b.ContainerEnd(3))
			seen := b.ContainerEnd(3)
			handOver(t, b, n, flanneld, seen)
			if gap, err := others(); err != nil || gap > gapLimit/2 {
				t.Errorf("two other hosts did not hear each other for %v: %v", gap, err)
			}
		})
	}
	for key := range strings.FieldsSeq(b.Etcdctl("get", "--prefix", "--keys-only", bed.Prefix)) {
		if !regexp.MustCompile(`^` + bed.Prefix + `/(config|subnets/172\.30\.\d+\.0-24)$`).MatchString(key) {
			t.Errorf("somebody wrote %s", key)
		}
	}
}

func handOver(t *testing.T, b *bed.Bed, n int, flanneld string, from traffic.End) {
	t.Helper()
	before, host := b.Host(n), b.Node(lab.HostNode(n))
	env, rules := subnetFile(t, before), natRules(t, b, n)
	key, _ := b.LeaseOf(before)

	if err := b.StopHost(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	f := b.FlanneldOn(n, flanneld, "-ip-masq")
	if got := subnetFile(t, before); got != env {
		t.Errorf("flanneld wrote subnet file %q, want %q as vxtap did", got, env)
	}
	if got := natRules(t, b, n); got != rules {
		t.Errorf("flanneld set rules\n%swant those that vxtap set:\n%s", got, rules)
	}
	mac, err := bed.MAC(host)
	if err != nil {
		t.Fatal(err)
	}
	theirs, value := b.LeaseOf(before)
	if theirs != key {
		t.Errorf("flanneld has %q, want %q, which vxtap had", theirs, key)
	}
	bed.Eventually(t, 5*time.Second, func() error { return reaches(t, from, b.ContainerEnd(n)) })
	everything(t, from, b.ContainerEnd(n))

	f.Stop()
	revision := b.Etcdctl("get", "-w=fields", key)
	cutOff := watch(from, b.ContainerEnd(n))
	err = b.StartHost(t.Context(), n)
	bed.Eventually(t, 5*time.Second, func() error { return reaches(t, from, b.ContainerEnd(n)) })
	gap, lost := cutOff()
	if err := errors.Join(err, lost); err != nil {
		t.Fatal(err)
	}
	t.Logf("cut off for %v", gap.Round(time.Millisecond))
	if gap > gapLimit {
		t.Errorf("cut off for %v while vxtap took over, want less than %v", gap, gapLimit)
	}
	if s := b.Status(n); s.Subnet != before.Subnet || s.MAC != mac {
		t.Errorf("got %s and %s, want %s and %s as flanneld had", s.Subnet, s.MAC, before.Subnet, mac)
	}
	if got := subnetFile(t, before); got != env {
		t.Errorf("got subnet file %q, want %q", got, env)
	}
	if got := natRules(t, b, n); got != rules {
		t.Errorf("got rules\n%swant those that flanneld left:\n%s", got, rules)
	}
	if _, got := b.LeaseOf(before); got != value {
		t.Errorf("got lease %q, want %q as flanneld wrote it", got, value)
	}
	if got := b.Etcdctl("get", "-w=fields", key); modRevision(got) != modRevision(revision) {
		t.Errorf("the lease was written again, so that peers noticed: %s, before %s", got, revision)
	}
	everything(t, from, b.ContainerEnd(n))
}

func everything(t *testing.T, from, to traffic.End) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := traffic.BothWays(ctx, from, to, 1450, 8<<20); err != nil {
		t.Error(err)
	}
}

// natRules returns the rules of a host that masquerade, of both kinds.
func natRules(t *testing.T, b *bed.Bed, n int) string {
	t.Helper()
	rules := bed.Run(t, b.Node(lab.HostNode(n)), "sh", "-c", "iptables -t nat -S; nft -s list chain ip flannel-ipv4 postrtg 2>/dev/null || true")
	if !strings.Contains(rules, "MASQUERADE") && !strings.Contains(rules, "masquerade") {
		t.Errorf("nothing is masqueraded:\n%s", rules)
	}
	return rules
}

func subnetFile(t *testing.T, h lab.Host) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(h.RunDir, "subnet.env"))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// watch pings without a pause until the function that it returns is called, and
// that says what the longest time without an answer was, as stall.Clock has it.
func watch(from, to traffic.End) func() (gap time.Duration, err error) {
	ctx, cancel := context.WithCancel(context.Background())
	var (
		gap   time.Duration
		heard bool
		wait  sync.WaitGroup
	)
	wait.Go(func() {
		last := stall.Start()
		for ctx.Err() == nil {
			one, stop := context.WithTimeout(ctx, 20*time.Millisecond)
			err := traffic.Ping(one, from, to, 1)
			stop()
			if err == nil {
				gap, last, heard = max(gap, last.Took()), stall.Start(), true
			}
		}
		gap = max(gap, last.Took())
	})
	return func() (time.Duration, error) {
		cancel()
		wait.Wait()
		if !heard {
			return gap, errors.New("nothing was heard at all")
		}
		return gap, nil
	}
}
