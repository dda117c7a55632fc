// SPDX-License-Identifier: Apache-2.0

package interop

import (
	"context"
	"fmt"
	"net"
	"os/exec"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"golang.org/x/sys/unix"

	"vxtap/cmd/vxlab/lab"
	"vxtap/cmd/vxlab/netns"
	"vxtap/test/bed"
	"vxtap/test/traffic"
)

// packets opens a packet socket on a device and returns a function that returns
// the next packet there, nil after 2 s without one.
func packets(t *testing.T, ns *netns.Namespace, device string) func() gopacket.Packet {
	t.Helper()
	fd := -1
	err := ns.Do(func() error {
		ifc, err := net.InterfaceByName(device)
		if err != nil {
			return err
		}
		all := uint16(unix.ETH_P_ALL)
		all = all<<8 | all>>8
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(all)); err != nil {
			return err
		}
		return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: ifc.Index})
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 2}); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 1<<16)
	return func() gopacket.Packet {
		n, err := unix.Read(fd, b)
		if err != nil {
			return nil
		}
		return gopacket.NewPacket(b[:n], layers.LayerTypeEthernet, gopacket.Default)
	}
}

// capture returns a function that returns the next VXLAN datagram, or fragment
// of UDP, to port 8472 on a device.
func capture(t *testing.T, ns *netns.Namespace, device string) func() *layers.IPv4 {
	t.Helper()
	next := packets(t, ns, device)
	return func() *layers.IPv4 {
		for {
			packet := next()
			if packet == nil {
				return nil
			}
			ip, ok := packet.Layer(layers.LayerTypeIPv4).(*layers.IPv4)
			if !ok || ip.Protocol != layers.IPProtocolUDP {
				continue
			}
			if ip.FragOffset != 0 || ip.Flags&layers.IPv4MoreFragments != 0 || len(ip.Payload) > 4 && ip.Payload[2] == 0x21 && ip.Payload[3] == 0x18 {
				return ip
			}
		}
	}
}

// envelope is what a datagram shows outside: all that a router or a kernel
// peer can tell.
type envelope struct {
	ttl, tos   uint8
	flags      layers.IPv4Flag
	fragmented bool
	zeroSum    bool
	badSum     bool
	port       layers.UDPPort
	vxlan      [8]byte
}

func open(t *testing.T, ip *layers.IPv4) (e envelope, source layers.UDPPort) {
	t.Helper()
	if ip == nil {
		t.Fatal("no datagram within 2 s")
	}
	var udp layers.UDP
	if err := udp.DecodeFromBytes(ip.Payload, gopacket.NilDecodeFeedback); err != nil {
		t.Fatal(err)
	}
	copy(e.vxlan[:], udp.Payload)
	if err := udp.SetNetworkLayerForChecksum(ip); err != nil { // and for its copy below
		t.Fatal(err)
	}
	right, buf := udp, gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{ComputeChecksums: true}, &right, gopacket.Payload(udp.Payload)); err != nil {
		t.Fatal(err)
	}
	e.ttl, e.tos, e.flags, e.port = ip.TTL, ip.TOS, ip.Flags, udp.DstPort
	e.fragmented = ip.FragOffset != 0 || ip.Flags&layers.IPv4MoreFragments != 0
	e.zeroSum, e.badSum = udp.Checksum == 0, udp.Checksum != right.Checksum
	return e, udp.SrcPort
}

// What vxtap puts on the wire is told from what kernel VXLAN does by nothing
// but the source port's range.
func TestEnvelope(t *testing.T) {
	b := bed.Up(t, lab.Options{Hosts: 1})
	kernel := b.JoinKernel(t.Context(), kernelSubnet)
	for _, ns := range []*netns.Namespace{b.Node("h1"), kernel.Namespace} {
		// Without this, veth leaves outer checksums to the receiver.
		cmd := exec.Command("ethtool", "-K", "eth0", "tx", "off")
		if err := ns.Start(cmd); err != nil {
			t.Fatalf("ethtool (Debian: ethtool): %v", err)
		}
		if err := cmd.Wait(); err != nil {
			t.Fatal(err)
		}
	}
	exchange := func() {
		bed.Eventually(t, 2*time.Second, func() error {
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			defer cancel()
			return traffic.Datagrams(ctx, b.ContainerEnd(1), kernel.ContainerEnd(), 500)
		})
	}
	next := capture(t, b.Node("h1"), "eth0")
	exchange()
	seen := map[string]envelope{}
	for len(seen) < 2 {
		ip := next()
		e, source := open(t, ip)
		seen[ip.SrcIP.String()] = e
		if ip.SrcIP.String() == b.Host(1).VTEP.String() && source < 49152 {
			t.Errorf("source port %d, want 49152 at least (RFC 7348, section 5)", source)
		}
	}
	ours, theirs := seen[b.Host(1).VTEP.String()], seen[kernel.VTEP.String()]
	want := envelope{ttl: 64, port: 8472, vxlan: [8]byte{0x08, 0, 0, 0, 0, 0, 1, 0}}
	if theirs != want {
		t.Fatalf("the test is wrong about kernel VXLAN: %+v, want %+v", theirs, want)
	}
	if ours != theirs {
		t.Errorf("vxtap sends %+v, kernel VXLAN %+v", ours, theirs)
	}
}

// What does not fit the underlay is dropped and counted, and never leaves in
// fragments.
func TestNoFragments(t *testing.T) {
	b := bed.Up(t, lab.Options{Hosts: 2})
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	bed.Eventually(t, 2*time.Second, func() error { return traffic.Ping(ctx, b.ContainerEnd(1), b.ContainerEnd(2), 1) })
	// The underlay shrinks under the daemon, which has told everybody 1450.
	if err := b.Node("h1").SetMTU("eth0", 1400); err != nil {
		t.Fatal(err)
	}
	next := capture(t, b.Node("h1"), "eth0")
	short, done := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer done()
	if err := traffic.Datagrams(short, b.ContainerEnd(1), b.ContainerEnd(2), 1422); err == nil {
		t.Error("a datagram larger than the underlay arrived")
	}
	bed.Eventually(t, time.Second, func() error {
		if n := b.Status(1).Out.Drops["underlay-mtu"]; n != 1 {
			return fmt.Errorf("underlay-mtu counts %d, want 1", n)
		}
		return nil
	})
	if err := traffic.Datagrams(ctx, b.ContainerEnd(1), b.ContainerEnd(2), 100); err != nil {
		t.Error(err)
	}
	if e, _ := open(t, next()); e.fragmented {
		t.Error("a fragment is on the wire")
	}
}
