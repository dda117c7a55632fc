// SPDX-License-Identifier: Apache-2.0

package bed

import (
	"context"
	"errors"
	"net/netip"
	"testing"

	"vxtap/cmd/vxlab/netns"
	"vxtap/encap/ether"
	"vxtap/encap/vxlan"
	"vxtap/test/traffic"
	"vxtap/tunnel"
	"vxtap/tunnel/host"
	"vxtap/tunnel/poll"
	"vxtap/tunnel/tap"
	"vxtap/tunnel/underlay"
)

// Switch6 is a host with our switch for an IPv6 overlay over an IPv6 underlay,
// inside the test's own process, and told its peers by the test.
type Switch6 struct {
	*tunnel.Switch
	Namespace *netns.Namespace
	Container *netns.Namespace // behind a bridge
	VTEP      netip.Addr
	Subnet    netip.Prefix
	MAC       ether.MAC
	MTU       int
	Offloads  []string // of the TAP and of the sockets
}

// Switch6Options say how a Switch6 is set up.
type Switch6Options struct {
	Network   netip.Prefix // the whole overlay
	Lanes     int          // 0 for one
	UplinkMTU int
	Plain     bool // without offloads
}

// SetUpSwitch6 makes such a host of ns, which has the address vtep, and runs it
// until the test ends. Its books must be balanced then.
func SetUpSwitch6(t *testing.T, ns, container *netns.Namespace, vtep netip.Addr, subnet netip.Prefix, o Switch6Options) *Switch6 {
	t.Helper()
	s := &Switch6{Namespace: ns, Container: container, VTEP: vtep, Subnet: subnet, MAC: ether.RandomMAC(), MTU: o.UplinkMTU - vxlan.OverheadIPv6}
	if err := AddContainer(ns, container, subnet, s.MTU); err != nil {
		t.Fatal(err)
	}
	var dev *tap.Device
	var conn *underlay.Conn
	router := s.MAC
	router[5] ^= 1
	err := ns.Do(func() (err error) {
		want := tunnel.Offloads{Csum: true, TCP4: true, TCP6: true, UDP: true}
		if o.Plain {
			want = tunnel.Offloads{}
		}
		local := netip.AddrPortFrom(vtep, vxlan.PortFlannel)
		if err := host.CheckFree("flannel-v6.1", vxlan.PortFlannel, vtep); err != nil {
			return err
		}
		if conn, err = underlay.Open(underlay.Config{Local: local, Lanes: o.Lanes, Segment: !o.Plain, GRO: !o.Plain}); err != nil {
			return err
		}
		if dev, err = tap.Open(tap.Config{Name: "flannel-v6.1", MAC: s.MAC, Queues: o.Lanes, Want: want}); err != nil {
			return errors.Join(err, conn.Close())
		}
		_, err = host.Apply(host.Plan{
			Device: "flannel-v6.1", MAC: s.MAC, MTU: s.MTU, Addr: netip.PrefixFrom(subnet.Addr(), 128),
			Network: o.Network, RouterMAC: router,
		})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Offloads = append(dev.Offloads(), conn.Offloads()...)
	s.run(t, dev, conn, router)
	return s
}

// run moves frames until the test ends, and closes all.
func (s *Switch6) run(t *testing.T, dev *tap.Device, conn *underlay.Conn, router ether.MAC) {
	t.Helper()
	lanes := make([]tunnel.Lane, len(dev.Queues()))
	closers := []func() error{dev.Close, conn.Close}
	for i, q := range dev.Queues() {
		lanes[i] = tunnel.Lane{Port: q, Underlay: conn.Lanes()[i]}
		if q.Descriptor() < 0 {
			continue
		}
		p, err := poll.New(q.Descriptor(), conn.Lanes()[i].Descriptor())
		if err != nil {
			t.Fatal(err)
		}
		lanes[i].Waiter = p
		closers = append(closers, p.Close)
	}
	var err error
	s.Switch, err = tunnel.New(tunnel.Config{
		VNI: 1, MAC: s.MAC, RouterMAC: router, Subnet: s.Subnet, MTU: s.MTU, Lanes: lanes, Coalesce: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		err := <-done
		for _, c := range closers {
			err = errors.Join(err, c())
		}
		if err != nil {
			t.Error(err)
		}
		if st := s.Stats(); !st.Out.Balanced() || !st.In.Balanced() {
			t.Errorf("%s: the books are not balanced: %+v", s.Namespace.Name(), st)
		}
	})
}

// Peer is the host as a peer of another.
func (s *Switch6) Peer() tunnel.Peer { return tunnel.Peer{Subnet: s.Subnet, VTEP: s.VTEP, MAC: s.MAC} }

// HostEnd is the host itself.
func (s *Switch6) HostEnd() traffic.End {
	return traffic.End{Namespace: s.Namespace, Addr: s.Subnet.Addr()}
}

// ContainerEnd is the host's container.
func (s *Switch6) ContainerEnd() traffic.End {
	return traffic.End{Namespace: s.Container, Addr: s.Subnet.Addr().Next().Next()}
}

// TempNamespace makes a namespace for the time of the test.
func TempNamespace(t *testing.T, name string) *netns.Namespace {
	t.Helper()
	return tempNamespace(t, name)
}
