// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"vxtap/cmd/vxlab/lab"
	"vxtap/test/bed"
)

// putConfig writes the lab's network config, with more in it and in its Backend.
func putConfig(b *bed.Bed, more, backend string) {
	b.Etcdctl("put", bed.Prefix+"/config", fmt.Sprintf(`{"Network":"172.30.0.0/16","SubnetLen":24%s,"Backend":{"Type":"vxlan"%s}}`, more, backend))
}

// hasMTU returns why host n does not go by an MTU.
func hasMTU(t *testing.T, b *bed.Bed, n, mtu int) error {
	t.Helper()
	h := b.Host(n)
	dev, err := b.Node(h.Node).Interface("flannel.1")
	if err != nil {
		return err
	}
	env, err := os.ReadFile(h.RunDir + "/subnet.env")
	s := b.Status(n)
	if dev.MTU != mtu || s.MTU != mtu || !strings.Contains(string(env), fmt.Sprintf("\nFLANNEL_MTU=%d\n", mtu)) {
		return fmt.Errorf("%s: device %d, status %d, %q, %w; want %d", h.Node, dev.MTU, s.MTU, env, err, mtu)
	}
	return nil
}

// An MTU that the link does not carry is in status for as long as that is so.
func TestMTUThatTheLinkDoesNotCarry(t *testing.T) {
	const warning = "Backend.MTU is 9000, and the interface eth0 carries 1500"
	b := bed.Up(t, lab.Options{Hosts: 1})
	for _, tt := range []struct {
		config string
		warns  bool
	}{{`,"MTU":9000`, true}, {`,"MTU":1400`, false}} {
		putConfig(b, "", tt.config)
		bed.Eventually(t, 3*time.Second, func() error {
			if all := b.Status(1).Warnings; strings.Contains(strings.Join(all, "\n"), warning) != tt.warns {
				return fmt.Errorf("got the warnings %q with %s", all, tt.config)
			}
			return nil
		})
	}
}

// What of the network config can change under traffic does: no datagram between
// containers is lost. What cannot is said, and so is what is no config.
func TestConfigIsFollowed(t *testing.T) {
	b := bed.Up(t, lab.Options{Hosts: 2})
	one, two := b.ContainerEnd(1), b.ContainerEnd(2)
	bed.Eventually(t, 2*time.Second, func() error { return reaches(t, one, two) })
	tap, err := b.Node("h1").Interface("flannel.1")
	if err != nil {
		t.Fatal(err)
	}
	stop := exchange(t, b)

	for _, mtu := range []int{1300, 1500, 1400} {
		putConfig(b, "", fmt.Sprintf(`,"MTU":%d`, mtu))
		took := bed.Eventually(t, 3*time.Second, func() error { return errors.Join(hasMTU(t, b, 1, mtu-50), hasMTU(t, b, 2, mtu-50)) })
		t.Logf("MTU %d after %s", mtu, took.Round(time.Millisecond))
	}

	list := func() string {
		return bed.Run(t, b.Node("h1"), "sh", "-c", "nft list tables; iptables-save -t filter")
	}
	nft := func(want bool) func() error {
		return func() error {
			got := list()
			if strings.Contains(got, "table ip flannel-ipv4") != want || strings.Contains(got, "-A FLANNEL-FWD") == want {
				return errors.New(got)
			}
			return nil
		}
	}
	bed.Eventually(t, 3*time.Second, nft(false))
	putConfig(b, `,"EnableNFTables":true`, `,"MTU":1400`)
	bed.Eventually(t, 3*time.Second, nft(true))
	putConfig(b, "", `,"MTU":1400`)
	bed.Eventually(t, 3*time.Second, nft(false))

	direct := func(want bool) func() error {
		return func() error {
			got := bed.Run(t, b.Node("h1"), "ip", "route", "show", b.Host(2).Subnet.String())
			if strings.Contains(got, "via "+b.Host(2).VTEP.String()) != want {
				return fmt.Errorf("got route %q, want a direct one: %v", got, want)
			}
			return nil
		}
	}
	putConfig(b, "", `,"MTU":1400,"DirectRouting":true`)
	bed.Eventually(t, 3*time.Second, direct(true))
	putConfig(b, "", `,"MTU":1400`)
	bed.Eventually(t, 3*time.Second, direct(false))

	state := func(want string, refused uint64, warns ...string) func() error {
		return func() error {
			s := b.Status(1)
			all := strings.Join(s.Warnings, "\n")
			for _, w := range warns {
				if !strings.Contains(all, w) {
					return fmt.Errorf("warnings %q, want %q", all, w)
				}
			}
			if s.Config.State != want || s.Config.Refused != refused || len(warns) == 0 && strings.Contains(all, "network config") {
				return fmt.Errorf("config %+v, warnings %q, want %s", s.Config, all, want)
			}
			return nil
		}
	}
	b.Etcdctl("put", bed.Prefix+"/config", `{"Network":`)
	bed.Eventually(t, 3*time.Second, state("broken", 1, "not JSON"))
	b.Etcdctl("del", bed.Prefix+"/config")
	bed.Eventually(t, 3*time.Second, state("missing", 1, "gone from etcd"))
	putConfig(b, "", `,"MTU":1400`)
	bed.Eventually(t, 3*time.Second, state("in use", 1))
	putConfig(b, "", `,"MTU":1350,"Port":4790`)
	bed.Eventually(t, 3*time.Second, state("waiting for a restart", 1, "Backend.Port is 4790 in etcd, and this host still goes by 8472: restart vxtap"))
	bed.Eventually(t, 3*time.Second, func() error { return errors.Join(hasMTU(t, b, 1, 1300), hasMTU(t, b, 2, 1300)) })
	stop()

	if now, err := b.Node("h1").Interface("flannel.1"); err != nil || now.Index != tap.Index {
		t.Errorf("the TAP is another one: %+v, %v, was %d", now, err, tap.Index)
	}
	log, err := os.ReadFile(b.Host(1).Log)
	if err != nil {
		t.Fatal(err)
	}
	for _, once := range []string{"network config changed in what a host that runs does not follow", "the network config was deleted", "is none that a host starts with"} {
		if n := strings.Count(string(log), once); n != 1 {
			t.Errorf("the log says %d times %q, want once", n, once)
		}
	}
	if strings.Contains(string(log), "somebody changed") {
		t.Error("what the daemon changed itself is blamed on somebody")
	}

	for n := 1; n <= 2; n++ {
		if err := errors.Join(b.StopHost(t.Context(), n), b.StartHost(t.Context(), n)); err != nil {
			t.Fatal(err)
		}
		if s := b.Status(n); s.Config.State == "waiting for a restart" || s.Port != 4790 {
			t.Errorf("h%d has port %d, and warnings %q", n, s.Port, s.Warnings)
		}
	}
	bed.Eventually(t, 3*time.Second, func() error { return reaches(t, one, two) })
}
