// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"vxtap/test/stall"
)

// nftConfig asks for rules of nftables, whatever the machine has.
const nftConfig = `{"Network": "10.5.0.0/16", "EnableNFTables": true, "Backend": {"Type": "vxlan"}}`

// shell runs a command line in the namespace and returns what it prints.
func (h *testHost) shell(line string) string {
	h.Helper()
	var out []byte
	err := h.ns.Do(func() (err error) {
		out, err = exec.Command("sh", "-c", line).CombinedOutput()
		return err
	})
	if err != nil {
		h.Fatalf("%s: %v: %s", line, err, out)
	}
	return string(out)
}

// Each kind of rules is there when the daemon is ready, comes back within a
// second when somebody takes it away, and stays when the daemon ends.
func TestRulesAreKept(t *testing.T) {
	needTools(t, "nft", "iptables")
	const listNFT, listIPTables = "nft list ruleset", "iptables-save -t nat; iptables-save -t filter"
	for _, tt := range []struct {
		name, config, list string
		args               []string
		want               []string // with SUBNET for our own
		harm               []string
	}{
		{
			"nftables", nftConfig, listNFT, nil,
			[]string{"ip saddr SUBNET ip daddr 10.5.0.0/16 return", "masquerade fully-random", "ip saddr 10.5.0.0/16 accept"},
			[]string{"nft delete table ip flannel-ipv4", "nft flush ruleset", "nft flush chain ip flannel-ipv4 postrtg", "nft flush chain ip flannel-ipv4 forward"},
		},
		{
			"iptables", netConfig, listIPTables, nil,
			[]string{"-A FLANNEL-POSTRTG -s SUBNET -d 10.5.0.0/16", "-j MASQUERADE --random-fully", "-A FLANNEL-FWD -s 10.5.0.0/16", "-A FORWARD -m comment --comment \"flanneld forward\""},
			// All of a table in one step: what the daemon has set again by the second
			// of two could not be deleted.
			[]string{"iptables -t nat -F", "printf '*filter\\nCOMMIT\\n' | iptables-restore", "iptables -D FORWARD 1"},
		},
		{
			"flags", nftConfig, "ip route show type blackhole; " + listNFT,
			[]string{"-masq-exclude=192.168.0.0/16", "-ip-masq-fully-random-disable", "-ip-blackhole-route"},
			[]string{"blackhole SUBNET", "daddr 192.168.0.0/16 return", "!= 224.0.0.0/4 masquerade\n"},
			[]string{"ip route flush type blackhole"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := newTestHost(t)
			h.startEtcd(tt.config)
			p := h.daemon(nil, append([]string{"-ip-masq"}, tt.args...)...)
			h.ready(p)
			subnet := h.status().Subnet.String()
			missing := func() error {
				got := h.shell(tt.list)
				for _, w := range tt.want {
					if w = strings.ReplaceAll(w, "SUBNET", subnet); !strings.Contains(got, w) {
						return fmt.Errorf("want %q in %s", w, got)
					}
				}
				return nil
			}
			if err := missing(); err != nil {
				t.Error(err)
			}
			for _, harm := range tt.harm {
				clock := stall.Start()
				h.shell(harm)
				h.eventually("after "+harm, missing)
				if took := clock.Took(); took > time.Second {
					t.Errorf("%s: mended after %v", harm, took)
				}
			}
			p.stop(h)
			if err := missing(); err != nil {
				t.Errorf("after the end: %v", err)
			}
			h.nothingLeft()
		})
	}
}

// The rules of an iptables that tells nobody are looked at every few seconds.
func TestRulesOfTheOlderIPTables(t *testing.T) {
	needTools(t, "iptables-legacy", "iptables-legacy-restore")
	h := newTestHost(t)
	if err := h.ns.Do(func() error { return exec.Command("iptables-legacy", "-w", "20", "-t", "nat", "-S").Run() }); err != nil {
		t.Skipf("this kernel has no older iptables: %v", err)
	}
	dir := filepath.Join(filepath.Dir(h.run), "bin")
	for _, suffix := range []string{"", "-restore"} {
		path, err := exec.LookPath("iptables-legacy" + suffix)
		if err := errors.Join(err, os.MkdirAll(dir, 0o755), os.Symlink(path, filepath.Join(dir, "iptables"+suffix))); err != nil {
			t.Fatal(err)
		}
	}
	h.startEtcd(netConfig)
	p := h.daemon([]string{"PATH=" + dir + ":" + os.Getenv("PATH")}, "-ip-masq", "-iptables-resync=1")
	h.ready(p)
	// Its lock is one for the whole machine, whichever namespace: the daemon takes it
	// too, and tests of other packages.
	for _, harm := range []string{"iptables-legacy -w 20 -F FORWARD", "iptables-legacy -w 20 -t nat -F FLANNEL-POSTRTG"} {
		h.shell(harm)
		h.eventually("after "+harm, func() error {
			got := h.shell("iptables-legacy-save")
			if !strings.Contains(got, "-A FORWARD -m comment") || !strings.Contains(got, "MASQUERADE") {
				return errors.New(got)
			}
			return nil
		})
	}
	p.stop(h)
}

// Without iptables the rules are those of nftables, and the log says so. An
// operator whose other rules drop the overlay learns of that.
func TestRulesWithoutIPTables(t *testing.T) {
	needTools(t, "nft")
	h := newTestHost(t)
	h.shell("nft add table ip other; nft add chain ip other f '{ type filter hook forward priority 0; policy drop; }'")
	h.startEtcd(netConfig)
	p := h.daemon([]string{"PATH=/nowhere"})
	h.ready(p)
	h.eventually("the log says what drops", func() error {
		for _, want := range []string{`kind=nftables reason="there is no iptables program" masquerade=false forward=true`, "ip other f"} {
			if got := p.printed(); !strings.Contains(got, want) {
				return fmt.Errorf("want %q in %s", want, got)
			}
		}
		return nil
	})
	h.eventually("status says it", func() error {
		if got := h.status().Warnings; !strings.Contains(strings.Join(got, "\n"), "ip other f") {
			return fmt.Errorf("got %q", got)
		}
		return nil
	})
	// What the document says to do is seen to be done.
	h.shell("nft insert rule ip other f ip saddr 10.5.0.0/16 accept; nft insert rule ip other f ip daddr 10.5.0.0/16 accept")
	h.eventually("status says it no more", func() error {
		if got := h.status().Warnings; strings.Contains(strings.Join(got, "\n"), "ip other f") {
			return fmt.Errorf("got %q", got)
		}
		return nil
	})
	if got := h.shell("nft list ruleset"); !strings.Contains(got, "ip saddr 10.5.0.0/16 accept") || strings.Contains(got, "masquerade") {
		t.Errorf("got %s", got)
	}
	p.stop(h)
}

func TestNoRulesAskedFor(t *testing.T) {
	needTools(t, "nft", "iptables")
	h, p := newRunningHost(t, netConfig, "-iptables-forward-rules=false")
	p.stop(h)
	if got := h.shell("nft list ruleset"); strings.Contains(strings.ToLower(got), "flannel") {
		t.Errorf("got %s", got)
	}
}

func TestCleanup(t *testing.T) {
	needTools(t, "nft", "iptables")
	h, p := newRunningHost(t, nftConfig, "-ip-masq", "-ip-blackhole-route")
	cleanup := func(args ...string) (int, string) {
		cmd := exec.Command("/proc/self/exe", append([]string{"cleanup", "-run-dir=" + h.run, "-subnet-file=" + h.subnetFile}, args...)...)
		cmd.Env = append(os.Environ(), asVxtap+"=1")
		c := h.start(cmd)
		status := c.wait(h, 10*time.Second)
		return status, c.printed()
	}
	if status, said := cleanup(); status != exitError || !strings.Contains(said, fmt.Sprintf("(pid %d)", p.cmd.Process.Pid)) {
		t.Errorf("got status %d and %q while a daemon runs", status, said)
	}
	h.eventually("it has written down what it knows", func() error {
		known, err := os.ReadDir(h.stateDir())
		if err == nil && len(known) == 0 {
			err = errors.New("nothing yet")
		}
		return err
	})
	if err := p.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	p.wait(h, 5*time.Second)
	subnet := strings.TrimSpace(strings.TrimPrefix(h.shell("ip route show type blackhole | cut -d' ' -f2"), "blackhole "))
	want := fmt.Sprintf("removed nftables table ip flannel-ipv4\nremoved route blackhole %s\nremoved socket %s\n", subnet, filepath.Join(h.run, "flannel.1.sock"))
	if status, said := cleanup(); status != exitOK || said != want {
		t.Errorf("got status %d and %q, want %q", status, said, want)
	}
	if got := h.shell("nft list ruleset; ip route show type blackhole"); strings.Contains(got, "flannel") || strings.Contains(got, "blackhole") {
		t.Errorf("got still %s", got)
	}
	for range 2 {
		if status, said := cleanup("-flanneld"); status != exitOK || said != "nothing to remove\n" {
			t.Errorf("got status %d and %q again", status, said)
		}
	}
	if _, err := os.Stat(h.subnetFile); err != nil {
		t.Errorf("the subnet file: %v", err)
	}
	if left, err := os.ReadDir(h.stateDir()); err != nil || len(left) == 0 {
		t.Errorf("got %v and error %v in the state directory, want what the host last knew", left, err)
	}
}

func needTools(t *testing.T, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			lacking(t, err.Error())
		}
	}
}

// What the subnet file says of an earlier network is how its rules are found.
func TestRulesOfAnEarlierNetwork(t *testing.T) {
	needTools(t, "nft")
	h := newTestHost(t)
	h.startEtcd(nftConfig)
	if err := os.WriteFile(h.subnetFile, []byte("FLANNEL_NETWORK=10.9.0.0/16\nFLANNEL_SUBNET=10.9.9.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	h.shell(`nft -f - <<'E'
table ip flannel-ipv4 {
	chain forward {
		type filter hook forward priority filter; policy accept;
		ip saddr 10.9.0.0/16 accept
		ip saddr 10.8.0.0/16 accept
	}
}
E`)
	p := h.daemon(nil)
	h.ready(p)
	if got := h.shell("nft list ruleset"); strings.Contains(got, "10.9.0.0") || !strings.Contains(got, "10.8.0.0") || !strings.Contains(got, "10.5.0.0") {
		t.Errorf("got %s", got)
	}
	p.stop(h)
}

// A host that had IPv6 and has it no more leaves nothing of it behind, whichever
// way its network was set up.
func TestWhatIsLeftOfIPv6(t *testing.T) {
	needTools(t, "nft")
	h := newTestHost(t)
	h.startEtcd(nftConfig)
	if err := os.WriteFile(h.subnetFile, []byte("FLANNEL_NETWORK=10.5.0.0/16\nFLANNEL_SUBNET=10.5.9.1/24\nFLANNEL_IPV6_NETWORK=fd00:5::/48\n"+
		"FLANNEL_IPV6_SUBNET=fd00:5:0:9::1/64\nFLANNEL_MTU=1430\nFLANNEL_IPMASQ=true\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	h.shell(`nft -f - <<'E'
table ip6 flannel-ipv6 {
	chain forward {
		type filter hook forward priority filter; policy accept;
		ip6 saddr fd00:5::/48 accept
		ip6 saddr fd00:8::/48 accept
	}
}
E
ip -6 addr add 2001:db8::1/64 dev u0 nodad
ip -6 route add fd00:5:0:3::/64 via 2001:db8::3 dev u0 proto 84
ip -6 route add fd00:8:0:3::/64 via 2001:db8::3 dev u0 proto 84
ip -6 route add blackhole fd00:5:0:9::/64 proto 84 metric 2147483647`)
	p := h.daemon(nil)
	h.ready(p)
	if got := h.shell("nft list ruleset; ip -6 route show proto 84"); strings.Contains(got, "fd00:5:") || strings.Count(got, "fd00:8:") != 2 {
		t.Errorf("got %s", got)
	}
	p.stop(h)
	h.shell("nft delete table ip6 flannel-ipv6; ip -6 route del fd00:8:0:3::/64")
}

// Masquerading was asked for, so that a host without it does not start. Forward
// rules are a default that most hosts can do without.
func TestRulesThatCannotBeSet(t *testing.T) {
	h := newTestHost(t)
	dir := filepath.Join(filepath.Dir(h.run), "bin")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"iptables", "iptables-restore"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\necho the tables are locked >&2\nexit 4\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	h.startEtcd(netConfig)
	env := []string{"PATH=" + dir}
	p := h.daemon(env, "-ip-masq")
	if got := p.wait(h, 10*time.Second); got != exitError {
		t.Errorf("got status %d with -ip-masq, want %d", got, exitError)
	}
	if got, want := p.failure(h), "set rules for -ip-masq: iptables: exit status 4: the tables are locked"; !strings.Contains(got, want) {
		t.Errorf("got %q, want %q in it", got, want)
	}
	h.nothingLeft()
	p = h.daemon(env)
	h.ready(p)
	if got := p.printed(); !strings.Contains(got, "rules cannot be set, trying on") {
		t.Errorf("got no word of it: %s", got)
	}
	p.stop(h)
	p = h.daemon(env, "-iptables-forward-rules=false")
	h.ready(p)
	if got := p.printed(); strings.Contains(got, "rules") {
		t.Errorf("rules were not asked for, got %s", got)
	}
	p.stop(h)
}

// A rule that names a device goes with it, at the latest when the next one comes.
func TestUplinkRuleGoesWithTheVNI(t *testing.T) {
	h := newTestHost(t)
	h.startEtcd(netConfig)
	p := h.daemon(nil)
	h.ready(p)
	first := h.status().TXPath
	if first.Device == "" {
		lacking(t, first.Reason)
	}
	if got := h.shell("iptables -S FLANNEL-FWD"); !strings.Contains(got, "-i vxup.1 ") {
		t.Fatalf("got rules %q, want one for vxup.1", got)
	}
	p.stop(h)
	h.etcdctl("put", "/coreos.com/network/config", `{"Network": "10.5.0.0/16", "Backend": {"Type": "vxlan", "VNI": 7}}`)
	p = h.daemon(nil)
	h.ready(p)
	if got := h.shell("iptables -S FLANNEL-FWD"); !strings.Contains(got, "-i vxup.7 ") || strings.Contains(got, "vxup.1 ") {
		t.Errorf("got rules %q, want one for vxup.7 alone", got)
	}
	p.stop(h)
}
