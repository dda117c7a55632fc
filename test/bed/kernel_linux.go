// SPDX-License-Identifier: Apache-2.0

package bed

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"vxtap/cmd/vxlab/netns"
	"vxtap/encap/ether"
	"vxtap/encap/vxlan"
	"vxtap/test/traffic"
)

// Kernel is a host whose kernel does VXLAN, set up as flannel's vxlan backend
// does it: three entries for every peer, no learning, no ARP.
type Kernel struct {
	Namespace *netns.Namespace
	Container *netns.Namespace // behind a bridge, as on a vxtap host
	VTEP      netip.Addr
	Subnet    netip.Prefix
	MAC       ether.MAC
	MTU       int
}

// device is the name that flannel gives its device for VNI 1.
func (k *Kernel) device() string {
	if k.VTEP.Is6() {
		return "flannel-v6.1"
	}
	return "flannel.1"
}

// SetUpKernel makes a kernel VXLAN host of ns, whose underlay device is eth0
// with the address vtep; container is an empty namespace for its container.
// uplinkMTU is the underlay's. The host is of one family, that of vtep and subnet.
// words are more for its device, of those that "ip
// link add type vxlan" knows.
func SetUpKernel(ns, container *netns.Namespace, vtep netip.Addr, subnet netip.Prefix, uplinkMTU int, words ...string) (*Kernel, error) {
	k := &Kernel{
		Namespace: ns, Container: container, VTEP: vtep, Subnet: subnet,
		MAC: ether.RandomMAC(), MTU: uplinkMTU - vxlan.OverheadIPv4,
	}
	if vtep.Is6() {
		k.MTU = uplinkMTU - vxlan.OverheadIPv6
	}
	for _, step := range []func() error{func() error { return k.addDevice(words) }, k.addContainer} {
		if err := step(); err != nil {
			return nil, fmt.Errorf("kernel VXLAN host %s: %w", ns.Name(), err)
		}
	}
	return k, nil
}

func (k *Kernel) addDevice(words []string) error {
	if len(words) > 0 {
		return k.addDeviceByWords(words)
	}
	return k.Namespace.Do(func() error {
		uplink, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.MTU, attrs.HardwareAddr = k.device(), k.MTU, net.HardwareAddr(k.MAC[:])
		device := &netlink.Vxlan{
			LinkAttrs: attrs, VxlanId: 1, Port: vxlan.PortFlannel,
			VtepDevIndex: uplink.Attrs().Index, SrcAddr: k.VTEP.AsSlice(),
		}
		if err := netlink.LinkAdd(device); err != nil {
			return fmt.Errorf("add %s: %w", k.device(), err)
		}
		return k.raise(device)
	})
}

// addDeviceByWords is addDevice for what the netlink package cannot say.
func (k *Kernel) addDeviceByWords(words []string) error {
	cmd := exec.Command("ip", append([]string{
		"link", "add", k.device(), "mtu", strconv.Itoa(k.MTU), "address", k.MAC.String(), "type", "vxlan",
		"id", "1", "local", k.VTEP.String(), "dev", "eth0", "dstport", strconv.Itoa(vxlan.PortFlannel), "nolearning",
	}, words...)...)
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	err := k.Namespace.Start(cmd)
	if err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		return fmt.Errorf("add %s (Debian: iproute2): %w: %s", k.device(), err, out.String())
	}
	return k.Namespace.Do(func() error {
		device, err := netlink.LinkByName(k.device())
		if err != nil {
			return err
		}
		return k.raise(device)
	})
}

// raise gives the device its address and brings it up.
func (k *Kernel) raise(device netlink.Link) error {
	bits := k.Subnet.Addr().BitLen()
	own := &net.IPNet{IP: k.Subnet.Addr().AsSlice(), Mask: net.CIDRMask(bits, bits)}
	if err := netlink.AddrAdd(device, &netlink.Addr{IPNet: own}); err != nil {
		return fmt.Errorf("address of %s: %w", k.device(), err)
	}
	return netlink.LinkSetUp(device)
}

// addContainer puts the container behind a bridge.
func (k *Kernel) addContainer() error {
	return AddContainer(k.Namespace, k.Container, k.Subnet, k.MTU)
}

// AddContainer puts the empty namespace container behind a bridge of host, with
// the first two addresses of subnet: the bridge has the first one.
func AddContainer(host, container *netns.Namespace, subnet netip.Prefix, mtu int) error {
	gateway := subnet.Addr().Next()
	inside := netip.PrefixFrom(gateway.Next(), subnet.Bits())
	forwarding := "net.ipv4.ip_forward"
	if subnet.Addr().Is6() {
		forwarding = "net.ipv6.conf.all.forwarding"
	}
	for _, step := range []func() error{
		func() error { return host.AddBridge("cni0", mtu) },
		func() error { return netns.AddVeth(host, "veth0", container, "eth0", mtu) },
		func() error { return host.Attach("cni0", "veth0") },
		func() error { return host.AddAddr("cni0", netip.PrefixFrom(gateway, subnet.Bits())) },
		func() error { return container.AddAddr("eth0", inside) },
		func() error { return host.SetUp("cni0") },
		func() error { return host.SetUp("veth0") },
		func() error { return container.SetUp("eth0") },
		func() error { return container.AddRoute(netip.Prefix{}, gateway) },
		func() error { return host.SetSysctl(forwarding, "1") },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// AddPeer adds flannel's three entries for one peer.
func (k *Kernel) AddPeer(vtep netip.Addr, subnet netip.Prefix, mac ether.MAC) error {
	err := k.Namespace.Do(func() error {
		link, err := netlink.LinkByName(k.device())
		if err != nil {
			return err
		}
		index := link.Attrs().Index
		if err := netlink.NeighSet(&netlink.Neigh{
			LinkIndex: index, State: netlink.NUD_PERMANENT,
			IP: subnet.Addr().AsSlice(), HardwareAddr: net.HardwareAddr(mac[:]),
		}); err != nil {
			return fmt.Errorf("neighbour: %w", err)
		}
		if err := netlink.NeighSet(&netlink.Neigh{
			LinkIndex: index, State: netlink.NUD_PERMANENT, Family: 7 /* AF_BRIDGE */, Flags: netlink.NTF_SELF,
			IP: vtep.AsSlice(), HardwareAddr: net.HardwareAddr(mac[:]),
		}); err != nil {
			return fmt.Errorf("forwarding entry: %w", err)
		}
		return netlink.RouteReplace(&netlink.Route{
			LinkIndex: index, Flags: int(netlink.FLAG_ONLINK),
			Dst: &net.IPNet{IP: subnet.Addr().AsSlice(), Mask: net.CIDRMask(subnet.Bits(), subnet.Addr().BitLen())},
			Gw:  subnet.Addr().AsSlice(),
		})
	})
	if err != nil {
		return fmt.Errorf("peer %s of kernel VXLAN host %s: %w", subnet, k.Namespace.Name(), err)
	}
	return nil
}

// HostEnd is the host itself.
func (k *Kernel) HostEnd() traffic.End {
	return traffic.End{Namespace: k.Namespace, Addr: k.Subnet.Addr()}
}

// ContainerEnd is the host's container.
func (k *Kernel) ContainerEnd() traffic.End {
	return traffic.End{Namespace: k.Container, Addr: k.Subnet.Addr().Next().Next()}
}

// LeaseKey and LeaseValue are the host's lease as flanneld writes it.
func (k *Kernel) LeaseKey() string {
	return fmt.Sprintf("%s/subnets/%s-%d", Prefix, k.Subnet.Addr(), k.Subnet.Bits())
}

// LeaseValue is the value that goes with LeaseKey.
func (k *Kernel) LeaseValue() string {
	return fmt.Sprintf(`{"PublicIP":"%s","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"%s"}}`, k.VTEP, k.MAC)
}

// JoinKernel adds a kernel VXLAN host with subnet to the lab, puts its lease
// into etcd, and makes every host there is its peer. words are as for
// SetUpKernel.
func (b *Bed) JoinKernel(ctx context.Context, subnet netip.Prefix, words ...string) *Kernel {
	b.t.Helper()
	h, err := b.JoinBare(ctx)
	if err != nil {
		b.t.Fatal(err)
	}
	container := tempNamespace(b.t, h.Namespace+"k")
	k, err := SetUpKernel(b.Node(h.Node), container, h.VTEP, subnet, b.Options().MTU, words...)
	if err != nil {
		b.t.Fatal(err)
	}
	for _, p := range b.Hosts() {
		if p.Bare {
			continue
		}
		if err := k.AddPeer(p.VTEP, p.Subnet, p.MAC); err != nil {
			b.t.Fatal(err)
		}
	}
	b.Etcdctl("put", k.LeaseKey(), k.LeaseValue())
	return k
}

// tempNamespace makes a namespace for the time of the test.
func tempNamespace(t *testing.T, name string) *netns.Namespace {
	t.Helper()
	ns, err := netns.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ns.Close()
		if err := netns.Delete(name); err != nil {
			t.Error(err)
		}
	})
	return ns
}
