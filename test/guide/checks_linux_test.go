// SPDX-License-Identifier: Apache-2.0

package guide

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"

	"vxtap/cmd/vxlab/netns"
	"vxtap/test/bed"
	"vxtap/test/traffic"
)

// node is one of the five hosts, as the guide's commands show it.
type node struct {
	*machine
	subnet    netip.Prefix
	mac       string
	container traffic.End
	reached   int // other containers, from its own
}

const network = "172.30.0.0/16"

// flags are what follows the program in a unit of flanneld's.
var flags = []string{
	"-etcd-cafile=/etc/vxtap/ca.pem",
	"-etcd-certfile=/etc/vxtap/node.pem",
	"-etcd-keyfile=/etc/vxtap/node-key.pem",
	"-etcd-endpoints=https://10.0.0.11:2379,https://10.0.0.12:2379,https://10.0.0.13:2379",
	"-etcd-prefix=/kubernetes/network",
}

// strangerIsRefused wants etcd to talk to nobody without a certificate.
func (c *cluster) strangerIsRefused() {
	c.t.Helper()
	out, err := c.machines["admin"].run(c.t.Context(), ". ./etcdctl.env\nunset ETCDCTL_CERT ETCDCTL_KEY\netcdctl --command-timeout=2s --dial-timeout=2s get x")
	if err == nil {
		c.t.Errorf("etcd talks to a stranger: %s", out)
	}
}

// nodes looks at each host: its flags, its device, its options for Docker, its
// peers; and gives it a container by those options.
func (c *cluster) nodes() []*node {
	c.t.Helper()
	var all []*node
	bip := regexp.MustCompile(`--bip=(\S+) --ip-masq=true --mtu=1450"`)
	for i := range 5 {
		name := fmt.Sprintf("node%d", i+1)
		n := &node{machine: c.machines[name]}
		m := bip.FindStringSubmatch(c.output(name, "docker-opts"))
		if m == nil {
			c.t.Fatalf("%s has no options for Docker: %s", name, c.output(name, "docker-opts"))
		}
		gateway, err := netip.ParsePrefix(m[1])
		n.subnet = gateway.Masked()
		if err != nil || gateway.Bits() != 24 || !netip.MustParsePrefix(network).Contains(gateway.Addr()) || gateway.Addr() != n.subnet.Addr().Next() {
			c.t.Errorf("%s has the subnet %s: %v", name, m[1], err)
		}
		c.wants(name, "flannel.1", "mtu 1450", 1)
		c.wants(name, "flannel.1", "inet "+n.subnet.Addr().String()+"/32 ", 1)
		c.flags(n)
		device, err := n.ns.Interface("flannel.1")
		if err != nil {
			c.t.Fatal(err)
		}
		n.mac = device.HardwareAddr.String()
		n.container = c.container(n)
		all = append(all, n)
	}
	for _, n := range all {
		bed.Eventually(c.t, 10*time.Second, func() error {
			out, err := n.run(c.t.Context(), "vxtap status")
			for _, other := range all {
				if !strings.Contains(out, other.subnet.String()) {
					return fmt.Errorf("%s does not know %s: %w\n%s", n.name, other.subnet, err, out)
				}
			}
			return err
		})
	}
	return all
}

// flags wants the daemon to run with a flanneld unit's flags, and no others.
func (c *cluster) flags(n *node) {
	c.t.Helper()
	pid, err := os.ReadFile(n.path(pidOf("vxtap")))
	if err != nil {
		c.t.Fatal(err)
	}
	line, err := os.ReadFile("/proc/" + string(pid) + "/cmdline")
	got, want := strings.ReplaceAll(strings.TrimRight(string(line), "\x00"), "\x00", " "), "/usr/local/bin/vxtap "+strings.Join(flags, " ")
	if err != nil || got != want {
		c.t.Errorf("%s runs %s, want %s: %v", n.name, got, want, err)
	}
}

// container is what Docker would start.
func (c *cluster) container(n *node) traffic.End {
	c.t.Helper()
	name := n.ns.Name() + "c"
	ns, err := netns.Create(name)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() {
		ns.Close()
		if err := netns.Delete(name); err != nil {
			c.t.Error(err)
		}
	})
	if err := bed.AddContainer(n.ns, ns, n.subnet, 1450); err != nil {
		c.t.Fatal(err)
	}
	return traffic.End{Namespace: ns, Addr: n.subnet.Addr().Next().Next()}
}

// leases compares what is in etcd with flannel's contract, byte by byte.
func (c *cluster) leases(nodes []*node) {
	c.t.Helper()
	out := c.output("admin", "etcdctl get --prefix")
	if n := strings.Count(out, "/kubernetes/network/subnets/"); n != len(nodes) {
		c.t.Errorf("got %d leases, want %d:\n%s", n, len(nodes), out)
	}
	for _, n := range nodes {
		want := fmt.Sprintf("/kubernetes/network/subnets/%s-24\n"+
			`{"PublicIP":"%s","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"%s"}}`+"\n",
			n.subnet.Addr(), n.addr, n.mac)
		if !strings.Contains(out, want) {
			c.t.Errorf("the lease of %s is not\n%s\nin\n%s", n.name, want, out)
		}
	}
	c.say("%d leases in flannel's JSON", len(nodes))
}

// pairs pings every container from every other.
func (c *cluster) pairs(nodes []*node) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), 15*time.Second)
	defer cancel()
	var wg sync.WaitGroup
	for _, from := range nodes {
		wg.Go(func() {
			for _, to := range nodes {
				if to == from {
					continue
				}
				if err := traffic.Ping(ctx, from.container, to.container, 2); err != nil {
					c.t.Errorf("%s to %s: %v", from.name, to.name, err)
					continue
				}
				from.reached++
			}
		})
	}
	wg.Wait()
	sum := 0
	for _, n := range nodes {
		sum += n.reached
	}
	if sum != 20 {
		c.t.Errorf("%d of 20 pairs of containers reach each other", sum)
	}
	c.say("%d of 20 pairs of containers reach each other", sum)
}

func (c *cluster) table(nodes []*node) {
	w := table.NewWriter()
	w.SetStyle(table.StyleLight)
	w.AppendHeader(table.Row{"host", "VTEP", "subnet", "MAC", "MTU", "container", "reaches"})
	for _, n := range nodes {
		w.AppendRow(table.Row{n.name, n.addr, n.subnet, n.mac, 1450, n.container.Addr, fmt.Sprintf("%d of %d", n.reached, len(nodes)-1)})
	}
	c.t.Logf("\n%s", w.Render())
}
