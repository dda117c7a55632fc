// SPDX-License-Identifier: Apache-2.0

package interop

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"golang.org/x/sys/unix"

	"vxtap/cmd/vxlab/netns"
	"vxtap/encap/vxlan"
	"vxtap/test/bed"
	"vxtap/test/traffic"
	"vxtap/tunnel"
)

// hosts6 are two hosts of ours and one whose kernel does VXLAN, on one IPv6
// network, all peers of each other.
type hosts6 struct {
	one, two *bed.Switch6
	kernel   *bed.Kernel
}

func up6(t *testing.T, o bed.Switch6Options) hosts6 {
	t.Helper()
	bed.NeedRoot(t)
	name := func(s string) string { return fmt.Sprintf("v6d%d%s", os.Getpid()%100000, s) }
	wire := bed.TempNamespace(t, name("net"))
	fail := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	fail(wire.AddBridge("br0", o.UplinkMTU))
	fail(wire.SetUp("br0"))
	host := func(n int) (ns, container *netns.Namespace, vtep netip.Addr, subnet netip.Prefix) {
		ns, container = bed.TempNamespace(t, name(fmt.Sprint("h", n))), bed.TempNamespace(t, name(fmt.Sprint("c", n)))
		port := fmt.Sprint("port", n)
		vtep = netip.MustParseAddr(fmt.Sprintf("fd00::%d", n))
		fail(netns.AddVeth(wire, port, ns, "eth0", o.UplinkMTU))
		fail(wire.Attach("br0", port))
		fail(wire.SetUp(port))
		fail(ns.AddAddr("eth0", netip.PrefixFrom(vtep, 64)))
		fail(ns.SetUp("eth0"))
		return ns, container, vtep, netip.MustParsePrefix(fmt.Sprintf("fd00:5:0:%d::/64", n))
	}
	o.Network = netip.MustParsePrefix("fd00:5::/48")
	var h hosts6
	ns, c, vtep, subnet := host(1)
	h.one = bed.SetUpSwitch6(t, ns, c, vtep, subnet, o)
	ns, c, vtep, subnet = host(2)
	h.two = bed.SetUpSwitch6(t, ns, c, vtep, subnet, o)
	ns, c, vtep, subnet = host(3)
	var err error
	h.kernel, err = bed.SetUpKernel(ns, c, vtep, subnet, o.UplinkMTU)
	fail(err)
	kernel := tunnel.Peer{Subnet: h.kernel.Subnet, VTEP: h.kernel.VTEP, MAC: h.kernel.MAC}
	h.one.SetPeers([]tunnel.Peer{h.two.Peer(), kernel})
	h.two.SetPeers([]tunnel.Peer{h.one.Peer(), kernel})
	for _, s := range []*bed.Switch6{h.one, h.two} {
		fail(h.kernel.AddPeer(s.VTEP, s.Subnet, s.MAC))
	}
	for _, pair := range [][2]traffic.End{{h.one.ContainerEnd(), h.kernel.ContainerEnd()}, {h.one.ContainerEnd(), h.two.ContainerEnd()}} {
		bed.Eventually(t, 5*time.Second, func() error {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			return traffic.Ping(ctx, pair[0], pair[1], 1)
		})
	}
	return h
}

// An IPv6 switch of ours, a kernel VXLAN device over IPv6 as flannel makes it,
// and another of ours carry each other's traffic, offloads on and off: pings,
// datagrams whole and in fragments, runs that the kernel cuts, and TCP with its
// hash compared. No checksum is found wrong by anybody, outside or inside.
func TestTraffic6(t *testing.T) {
	tests := []struct {
		name string
		o    bed.Switch6Options
	}{
		{"MTU 1500", bed.Switch6Options{UplinkMTU: 1500}},
		{"MTU 9000, two lanes", bed.Switch6Options{UplinkMTU: 9000, Lanes: 2}},
		{"MTU 1500 without offloads", bed.Switch6Options{UplinkMTU: 1500, Plain: true}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := up6(t, tt.o)
			if want := 0; tt.o.Plain != (len(h.one.Offloads) == want) {
				t.Errorf("offloads %v", h.one.Offloads)
			}
			underlay := make([]func() error, 0, 3)
			for _, ns := range []*netns.Namespace{h.one.Namespace, h.two.Namespace, h.kernel.Namespace} {
				check, err := traffic.Unharmed(ns)
				if err != nil {
					t.Fatal(err)
				}
				underlay = append(underlay, check)
			}
			for _, p := range []struct {
				name string
				a, b traffic.End
			}{
				{"our host and kernel host", h.one.HostEnd(), h.kernel.HostEnd()},
				{"our container and kernel container", h.one.ContainerEnd(), h.kernel.ContainerEnd()},
				{"our host and our host", h.one.HostEnd(), h.two.HostEnd()},
				{"our container and our container", h.one.ContainerEnd(), h.two.ContainerEnd()},
				{"our container and kernel host", h.two.ContainerEnd(), h.kernel.HostEnd()},
			} {
				t.Run(p.name, func(t *testing.T) {
					ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
					defer cancel()
					if err := traffic.BothWays(ctx, p.a, p.b, h.one.MTU, streamBytes); err != nil {
						t.Error(err)
					}
				})
			}
			for _, check := range underlay {
				if err := check(); err != nil {
					t.Error(err)
				}
			}
			for _, s := range []*bed.Switch6{h.one, h.two} {
				st := s.Stats()
				if mean := st.Out.ReceivedBytes / st.Out.Received; !tt.o.Plain && mean < uint64(s.MTU) {
					t.Errorf("%s got no super-frames: %d bytes a frame", s.Namespace.Name(), mean)
				}
				for r := range tunnel.NumReasons {
					// What the host's kernel sends of itself is dropped by design.
					if n := st.In.Drops[r] + st.Out.Drops[r]; n > 0 && r != tunnel.Broadcast && r != tunnel.LinkLocal {
						t.Errorf("%s dropped %d frames as %s", s.Namespace.Name(), n, r)
					}
				}
			}
		})
	}
}

// envelope6 is what a datagram shows outside.
type envelope6 struct {
	hops, class uint8
	badSum      bool // or none
	port        layers.UDPPort
	vxlan       [8]byte
}

func open6(t *testing.T, packet gopacket.Packet) (e envelope6, source string) {
	t.Helper()
	ip, ok := packet.Layer(layers.LayerTypeIPv6).(*layers.IPv6)
	udp, isUDP := packet.Layer(layers.LayerTypeUDP).(*layers.UDP)
	if !ok || !isUDP || udp.DstPort != vxlan.PortFlannel {
		return e, ""
	}
	right, buf := *udp, gopacket.NewSerializeBuffer()
	err := right.SetNetworkLayerForChecksum(ip)
	if err == nil {
		err = gopacket.SerializeLayers(buf, gopacket.SerializeOptions{ComputeChecksums: true}, &right, gopacket.Payload(udp.Payload))
	}
	if err != nil {
		t.Fatal(err)
	}
	copy(e.vxlan[:], udp.Payload)
	e.hops, e.class, e.port = ip.HopLimit, ip.TrafficClass, udp.DstPort
	e.badSum = udp.Checksum == 0 || udp.Checksum != right.Checksum
	return e, ip.SrcIP.String()
}

// What goes out over IPv6 is told from what kernel VXLAN sends by nothing but the
// source port's range, and its UDP checksum is there and right.
func TestEnvelope6(t *testing.T) {
	h := up6(t, bed.Switch6Options{UplinkMTU: 1500})
	for _, ns := range []*netns.Namespace{h.one.Namespace, h.kernel.Namespace} {
		bed.Run(t, ns, "ethtool", "-K", "eth0", "tx", "off") // else veth leaves checksums to the receiver
	}
	next := packets(t, h.one.Namespace, "eth0")
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := traffic.Datagrams(ctx, h.one.ContainerEnd(), h.kernel.ContainerEnd(), 500); err != nil {
		t.Fatal(err)
	}
	seen := map[string]envelope6{}
	for len(seen) < 2 {
		packet := next()
		if packet == nil {
			t.Fatalf("saw %v", seen)
		}
		if e, source := open6(t, packet); source != "" {
			seen[source] = e
		}
	}
	ours, theirs := seen[h.one.VTEP.String()], seen[h.kernel.VTEP.String()]
	want := envelope6{hops: 64, port: vxlan.PortFlannel, vxlan: [8]byte{0x08, 0, 0, 0, 0, 0, 1, 0}}
	if theirs != want {
		t.Fatalf("the test is wrong about kernel VXLAN: %+v, want %+v", theirs, want)
	}
	if ours != theirs {
		t.Errorf("ours is %+v, kernel VXLAN's %+v", ours, theirs)
	}
}

// A full super-frame, cut by us and by the kernel, has a right checksum on every
// datagram.
func TestChecksums6(t *testing.T) {
	h := up6(t, bed.Switch6Options{UplinkMTU: 1500})
	bed.Run(t, h.one.Namespace, "ethtool", "-K", "eth0", "tx", "off")
	next := packets(t, h.one.Namespace, "eth0")
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := traffic.Segments(ctx, h.one.ContainerEnd(), h.kernel.ContainerEnd(), 1200, 40); err != nil {
		t.Fatal(err)
	}
	for n := 0; n < 40; {
		packet := next()
		if packet == nil {
			t.Fatalf("saw %d datagrams", n)
		}
		e, source := open6(t, packet)
		if source != h.one.VTEP.String() {
			continue
		}
		n++
		if e.badSum {
			t.Fatalf("datagram %d has a checksum that is wrong or none", n)
		}
	}
}

// A datagram without a checksum reaches neither a kernel peer nor us.
func TestZeroChecksum6(t *testing.T) {
	h := up6(t, bed.Switch6Options{UplinkMTU: 1500})
	frame := make([]byte, 8+14+40) // any: it must not come so far
	frame[0], frame[6] = 0x08, 1
	for _, to := range []struct {
		ns   *netns.Namespace
		addr netip.Addr
	}{{h.one.Namespace, h.one.VTEP}, {h.kernel.Namespace, h.kernel.VTEP}} {
		before, err := traffic.Counters(to.ns)
		if err != nil {
			t.Fatal(err)
		}
		err = h.two.Namespace.Do(func() error {
			conn, err := net.DialUDP("udp6", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(to.addr, vxlan.PortFlannel)))
			if err != nil {
				return err
			}
			defer conn.Close()
			raw, err := conn.SyscallConn()
			if err != nil {
				return err
			}
			var set error
			err = raw.Control(func(fd uintptr) {
				const noCheck6TX = 101 // UDP_NO_CHECK6_TX
				set = unix.SetsockoptInt(int(fd), unix.IPPROTO_UDP, noCheck6TX, 1)
			})
			_, sent := conn.Write(frame)
			return errors.Join(err, set, sent)
		})
		if err != nil {
			t.Fatal(err)
		}
		bed.Eventually(t, 2*time.Second, func() error {
			after, err := traffic.Counters(to.ns)
			if n := after["Udp6InCsumErrors"] - before["Udp6InCsumErrors"]; err != nil || n != 1 {
				return fmt.Errorf("%s refused %d datagrams, want 1: %w", to.addr, n, err)
			}
			return nil
		})
	}
}
