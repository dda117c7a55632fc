// SPDX-License-Identifier: Apache-2.0

package field

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"vxtap/cmd/vxlab/netns"
)

// bridge is the underlay: every host and every member is at it.
const bridge = "br0"

// Field is what was built in the program's namespaces. Its methods are called
// by one goroutine.
type Field struct {
	Dir     string // logs and data, which outlive the program
	Members []*Member
	Hosts   []*Host
	root    *netns.Namespace
	dual    bool
}

// New makes the underlay, which hosts have IPv6 addresses on too if dual is true.
// dir is made if it is not there; what earlier runs left in it is overwritten.
func New(dir string, dual bool) (*Field, error) {
	dir, err := filepath.Abs(dir)
	if err == nil {
		err = os.MkdirAll(dir, 0o755)
	}
	if err != nil {
		return nil, fmt.Errorf("make a field: %w", err)
	}
	root, err := netns.Open(own)
	if err != nil {
		return nil, fmt.Errorf("make a field: %w", err)
	}
	f := &Field{Dir: dir, root: root, dual: dual}
	for _, step := range []func() error{
		func() error { return quiet6(root) }, // the other ends of hosts' cables
		func() error { return root.SetUp("lo") },
		func() error { return root.AddBridge(bridge, 1500) },
		func() error { return root.AddAddr(bridge, netip.PrefixFrom(at(0, 1), underlay)) },
		func() error { return f.addIPv6(root, bridge, at(0, 1)) },
		func() error { return root.SetUp(bridge) },
	} {
		if err := step(); err != nil {
			return nil, fmt.Errorf("make a field: %w", err)
		}
	}
	return f, nil
}

// quiet6 switches IPv6 off for the devices that a namespace is about to get. A
// device with IPv6 talks, and takes up the kernel's table of neighbours, which is
// one for all namespaces of the machine.
func quiet6(ns *netns.Namespace) error {
	if err := ns.SetSysctl("net.ipv6.conf.all.disable_ipv6", "1"); err != nil {
		return err
	}
	return ns.SetSysctl("net.ipv6.conf.default.disable_ipv6", "1")
}

// addIPv6 gives a device the IPv6 address that belongs to addr, and no
// other, where the field has both families.
func (f *Field) addIPv6(ns *netns.Namespace, device string, addr netip.Addr) error {
	if !f.dual {
		return nil
	}
	conf := "net.ipv6.conf." + device
	for _, step := range []func() error{
		func() error { return ns.SetSysctl(conf+".addr_gen_mode", "1") }, // none by itself
		func() error { return ns.SetSysctl(conf+".accept_ra", "0") },
		func() error { return ns.SetSysctl(conf+".disable_ipv6", "0") },
		func() error { return ns.AddAddr(device, netip.PrefixFrom(IPv6Of(addr), underlay6)) },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// node makes a namespace with an address on the underlay. The other end of its
// eth0 has the namespace's name.
func (f *Field) node(name string, addr netip.Addr) (*netns.Namespace, error) {
	ns, err := netns.Create(name)
	if err != nil {
		return nil, err
	}
	for _, step := range []func() error{
		func() error { return quiet6(ns) },
		func() error { return netns.AddVeth(ns, "eth0", f.root, name, 1500) },
		func() error { return f.root.Attach(bridge, name) },
		func() error { return f.root.SetUp(name) },
		func() error { return ns.AddAddr("eth0", netip.PrefixFrom(addr, underlay)) },
		func() error { return ns.SetUp("eth0") },
		func() error { return ns.SetSysctl("net.ipv4.ip_forward", "1") },
	} {
		if err := step(); err != nil {
			ns.Close()
			return nil, err
		}
	}
	return ns, nil
}

// filter is the table of everything that a node does not let through.
const filter = "field"

// block makes a node drop what it sends to a TCP port and what comes to it.
func block(ns *netns.Namespace, port int) error {
	return nft(ns, fmt.Sprintf(`add table inet %[1]s
add chain inet %[1]s out { type filter hook output priority 0; }
add chain inet %[1]s in { type filter hook input priority 0; }
add rule inet %[1]s out tcp dport %[2]d drop
add rule inet %[1]s out tcp sport %[2]d drop
add rule inet %[1]s in tcp dport %[2]d drop
add rule inet %[1]s in tcp sport %[2]d drop
`, filter, port))
}

// unblock lets everything through again.
func unblock(ns *netns.Namespace) error {
	return nft(ns, fmt.Sprintf("add table inet %[1]s\ndelete table inet %[1]s\n", filter))
}

func nft(ns *netns.Namespace, text string) error {
	cmd := exec.Command("nft", "-f", "-")
	var out strings.Builder
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(text), &out, &out
	err := ns.Start(cmd)
	if err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		return fmt.Errorf("nft (Debian: nftables) in %s: %w: %s", ns.Name(), err, out.String())
	}
	return nil
}

// AddAddr gives the program's own end of the underlay one more address, the
// i-th, and returns it. In a field of both families IPv6Of it is there too.
func (f *Field) AddAddr(i int) (netip.Addr, error) {
	a := at(255, 1+i)
	err := f.root.AddAddr(bridge, netip.PrefixFrom(a, underlay))
	if err == nil && f.dual {
		err = f.root.AddAddr(bridge, netip.PrefixFrom(IPv6Of(a), underlay6))
	}
	return a, err
}
