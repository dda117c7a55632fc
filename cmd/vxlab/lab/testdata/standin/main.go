// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Command standin takes vxtap's place in the tests of the lab. It leases a subnet in
// etcd and lets the kernel's own VXLAN carry the frames, set up as flannel's
// vxlan backend does it. It has none of vxtap's care for faults.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/signal"
	"path"
	"strings"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	clientv3 "go.etcd.io/etcd/client/v3"

	"vxtap/encap/ether"
	"vxtap/encap/vxlan"
	"vxtap/lease"
)

type standin struct {
	endpoints, prefix, iface, subnetFile, misbehave string
	healthPort                                      int

	etcd   *clientv3.Client
	config lease.Config
	local  netip.Addr
	subnet netip.Prefix
	dev    *netlink.Vxlan
}

func main() {
	var s standin
	flag.StringVar(&s.endpoints, "etcd-endpoints", "", "")
	flag.StringVar(&s.prefix, "etcd-prefix", "", "")
	flag.StringVar(&s.iface, "iface", "", "")
	flag.StringVar(&s.subnetFile, "subnet-file", "", "")
	flag.String("run-dir", "", "")
	flag.String("state-dir", "", "")
	flag.IntVar(&s.healthPort, "healthz-port", 0, "")
	flag.StringVar(&s.misbehave, "misbehave", "", "exit, deaf, mute or island")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if err := s.run(ctx); err != nil && ctx.Err() == nil {
		fmt.Fprintln(os.Stderr, "standin:", err)
		os.Exit(1)
	}
}

func (s *standin) run(ctx context.Context) error {
	if s.misbehave == "exit" {
		return errors.New("told to end at once")
	}
	if s.misbehave == "deaf" { // to SIGTERM
		ctx = context.WithoutCancel(ctx)
	}
	var err error
	if s.etcd, err = clientv3.New(clientv3.Config{Endpoints: []string{s.endpoints}, DialTimeout: 10 * time.Second}); err != nil {
		return err
	}
	defer s.etcd.Close()
	for i, step := range []func(context.Context) error{s.readConfig, s.addDevice, s.putLease} {
		if err := step(ctx); err != nil {
			return err
		}
		fmt.Printf("step %d of 3\n", i+1)
	}
	defer netlink.LinkDel(s.dev)
	env := lease.SubnetEnv{Network: s.config.Network, Subnet: s.subnet, MTU: s.dev.MTU}
	if err := env.WriteFile(s.subnetFile); err != nil {
		return err
	}
	if s.misbehave != "mute" {
		go http.ListenAndServe(fmt.Sprintf(":%d", s.healthPort), http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	}
	fmt.Println("ready")
	if s.misbehave == "island" { // without peers
		<-ctx.Done()
		return nil
	}
	return s.follow(ctx)
}

func (s *standin) readConfig(ctx context.Context) error {
	for {
		resp, err := s.etcd.Get(ctx, s.prefix+"/config")
		if err != nil {
			return err
		}
		if len(resp.Kvs) == 1 {
			s.config, err = lease.ParseConfig(resp.Kvs[0].Value)
			return err
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// addDevice takes the subnet that the underlay address says: 192.168.77.11 has
// the first.
func (s *standin) addDevice(context.Context) error {
	uplink, err := netlink.LinkByName(s.iface)
	if err != nil {
		return err
	}
	addrs, err := netlink.AddrList(uplink, netlink.FAMILY_V4)
	if err != nil || len(addrs) != 1 {
		return fmt.Errorf("no address: %w", err)
	}
	s.local, _ = netip.AddrFromSlice(addrs[0].IP.To4())
	a := s.config.Network.Addr().As4()
	a[2] = s.local.As4()[3] - 10
	s.subnet = netip.PrefixFrom(netip.AddrFrom4(a), s.config.SubnetLen)
	vni := max(s.config.Backend.VNI, 1)
	name := fmt.Sprintf("flannel.%d", vni)
	if old, err := netlink.LinkByName(name); err == nil {
		netlink.LinkDel(old)
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = name, uplink.Attrs().MTU-vxlan.OverheadIPv4
	mac := ether.RandomMAC()
	attrs.HardwareAddr = mac[:]
	s.dev = &netlink.Vxlan{LinkAttrs: attrs, VxlanId: int(vni), VtepDevIndex: uplink.Attrs().Index, SrcAddr: s.local.AsSlice(), Port: vxlan.PortFlannel}
	if err := netlink.LinkAdd(s.dev); err != nil {
		return err
	}
	own := &net.IPNet{IP: s.subnet.Addr().AsSlice(), Mask: net.CIDRMask(32, 32)}
	return errors.Join(netlink.AddrAdd(s.dev, &netlink.Addr{IPNet: own}), netlink.LinkSetUp(s.dev))
}

func (s *standin) putLease(ctx context.Context) error {
	attrs := fmt.Sprintf(`{"PublicIP":"%s","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":%d,"VtepMAC":"%s"}}`,
		s.local, s.dev.VxlanId, s.dev.HardwareAddr)
	_, err := s.etcd.Put(ctx, s.prefix+"/subnets/"+strings.Replace(s.subnet.String(), "/", "-", 1), attrs)
	return err
}

// follow points the kernel to every other lease, now and as they come.
func (s *standin) follow(ctx context.Context) error {
	resp, err := s.etcd.Get(ctx, s.prefix+"/subnets/", clientv3.WithPrefix())
	if err != nil {
		return err
	}
	for _, kv := range resp.Kvs {
		if err := s.addPeer(string(kv.Key), kv.Value); err != nil {
			return err
		}
	}
	for event := range s.etcd.Watch(ctx, s.prefix+"/subnets/", clientv3.WithPrefix(), clientv3.WithRev(resp.Header.Revision+1)) {
		for _, e := range event.Events {
			if err := s.addPeer(string(e.Kv.Key), e.Kv.Value); e.IsCreate() && err != nil {
				return err
			}
		}
	}
	return ctx.Err()
}

func (s *standin) addPeer(key string, value []byte) error {
	subnet, err := lease.ParseKey(path.Base(key))
	if err != nil || subnet.IPv4 == s.subnet {
		return err
	}
	attrs, err := lease.ParseAttrs(value)
	if err != nil {
		return err
	}
	mac, index := net.HardwareAddr(attrs.MAC[:]), s.dev.Attrs().Index
	first := subnet.IPv4.Addr().AsSlice()
	return errors.Join(
		netlink.NeighSet(&netlink.Neigh{LinkIndex: index, State: netlink.NUD_PERMANENT, IP: first, HardwareAddr: mac}),
		netlink.NeighSet(&netlink.Neigh{
			LinkIndex: index, State: netlink.NUD_PERMANENT, Family: syscall.AF_BRIDGE, Flags: netlink.NTF_SELF,
			IP: attrs.PublicIP.AsSlice(), HardwareAddr: mac,
		}),
		netlink.RouteReplace(&netlink.Route{
			LinkIndex: index, Gw: first, Flags: int(netlink.FLAG_ONLINK),
			Dst: &net.IPNet{IP: first, Mask: net.CIDRMask(subnet.IPv4.Bits(), 32)},
		}),
	)
}
