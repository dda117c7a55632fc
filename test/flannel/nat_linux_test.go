// SPDX-License-Identifier: Apache-2.0

package flannel

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"vxtap/cmd/vxlab/lab"
	"vxtap/test/bed"
)

// F15: a host behind NAT publishes an address that it does not have. A flanneld
// since v0.27.4 makes that the source of the tunnel, and the kernel sends nothing
// from an address that is not the host's; vxtap sends from the interface's.
func TestF15PublicAddressBehindNAT(t *testing.T) {
	flanneld := bed.FlanneldBinary(t)
	b := bed.Up(t, lab.Options{Hosts: 1})
	const ours, theirs = "203.0.113.5", "203.0.113.6"
	h1 := b.Host(1).VTEP
	translate(t, b, h1.Next(), ours)
	joined, err := b.Join(t.Context(), "-public-ip="+ours)
	if err != nil {
		t.Fatal(err)
	}
	route(t, b, joined.Node, h1)
	if key, _ := b.LeaseOf(lab.Host{VTEP: netip.MustParseAddr(ours)}); !strings.HasSuffix(key, strings.ReplaceAll(joined.Subnet.String(), "/", "-")) {
		t.Errorf("got lease %q of %s, want one of %s", key, ours, joined.Subnet)
	}
	bed.Eventually(t, 5*time.Second, func() error { return reaches(t, b.ContainerEnd(1), b.ContainerEnd(2)) })
	everything(t, b.ContainerEnd(1), b.ContainerEnd(2))

	bare, err := b.JoinBare(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	translate(t, b, bare.VTEP, theirs)
	route(t, b, bare.Node, h1)
	f := b.FlanneldAt(bare, flanneld, "-public-ip="+theirs)
	bed.Eventually(t, 5*time.Second, func() error { return peers(t, f, 2) })
	bed.Eventually(t, 5*time.Second, func() error {
		if !b.Status(1).HasPeer(f.Subnet) {
			return fmt.Errorf("h1 does not know %s", f.Subnet)
		}
		return nil
	})
	if err := reaches(t, f.ContainerEnd(), b.ContainerEnd(1)); err == nil {
		t.Error("a flanneld behind NAT reaches somebody: it has been mended")
	}
	if got := bed.Run(t, f.Namespace, "ip", "-d", "link", "show", "flannel.1"); !strings.Contains(got, "local "+theirs) {
		t.Errorf("flanneld's device does not send from the public address: it has been mended\n%s", got)
	}
}

// translate makes the underlay's gateway one that gives a host a public address.
func translate(t *testing.T, b *bed.Bed, host netip.Addr, public string) {
	t.Helper()
	bed.Run(t, b.Node("net"), "sh", "-ec", fmt.Sprintf(`
sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.send_redirects=0 net.ipv4.conf.br0.send_redirects=0
iptables -t nat -A PREROUTING -d %[2]s -j DNAT --to-destination %[1]s
iptables -t nat -A POSTROUTING -s %[1]s -p udp --dport 8472 -j SNAT --to-source %[2]s`, host, public))
}

// route sends what a node has for another host past the gateway.
func route(t *testing.T, b *bed.Bed, node string, to netip.Addr) {
	t.Helper()
	bed.Run(t, b.Node(node), "ip", "route", "add", to.String()+"/32", "via", b.Options().Underlay.Addr().Next().String())
}

// F10: with nftables a flanneld wants iptables as well, to clear up after its
// other mode. What vxtap does without is in TestRulesWithoutIPTables of cmd/vxtap.
func TestF10NFTablesWithoutIPTables(t *testing.T) {
	flanneld := bed.FlanneldBinary(t)
	b := bed.Up(t, lab.Options{Hosts: 1})
	bare, err := b.JoinBare(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	b.Etcdctl("put", bed.Prefix+"/config", `{"Network":"172.30.0.0/16","EnableNFTables":true,"Backend":{"Type":"vxlan"}}`)
	f := bed.StartFlanneld(t, withPrograms(t, flanneld, "nft"), b.Node(bare.Node), b.EtcdURL(), filepath.Join(t.TempDir(), "subnet.env"))
	bed.Eventually(t, 10*time.Second, func() error {
		if status, ended := f.Ended(); !ended || status != 1 || !strings.Contains(f.Log(), "iptables") {
			return fmt.Errorf("ended %t with status %d: it has been mended", ended, status)
		}
		return nil
	})
}
