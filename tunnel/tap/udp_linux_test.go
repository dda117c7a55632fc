// SPDX-License-Identifier: Apache-2.0

package tap

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"runtime"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"vxtap/encap/gso"
	"vxtap/encap/packet"
	"vxtap/encap/virtio"
)

const udpPort = 9000

// datagramPayload is what datagram i carries.
func datagramPayload(i, n int) []byte {
	b := bytes.Repeat([]byte{byte(i + 1)}, n)
	binary.BigEndian.PutUint16(b, uint16(i))
	return b
}

// udpFrame is one datagram as it comes out of a tunnel, complete.
func udpFrame(t *testing.T, dst string, id int, payload []byte) []byte {
	t.Helper()
	eth := &layers.Ethernet{SrcMAC: net.HardwareAddr{2, 0, 0, 0, 0, 9}, DstMAC: testMAC[:], EthernetType: layers.EthernetTypeIPv4}
	ip := &layers.IPv4{
		Version: 4, TTL: 64, Flags: layers.IPv4DontFragment, Id: uint16(id), Protocol: layers.IPProtocolUDP,
		SrcIP: net.IP{10, 77, 0, 2}, DstIP: net.ParseIP(dst).To4(),
	}
	udp := &layers.UDP{SrcPort: 40000, DstPort: udpPort}
	if err := udp.SetNetworkLayerForChecksum(ip); err != nil {
		t.Fatal(err)
	}
	buf := gopacket.NewSerializeBuffer()
	err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, eth, ip, udp, gopacket.Payload(payload))
	if err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()[:14+20+8+len(payload)] // gopacket pads to 60
}

// writeDatagrams joins n datagrams of size bytes, and one shorter by short, as
// the switch does, and writes what comes out, which must be one super-frame.
func writeDatagrams(t *testing.T, d single, dst string, n, size, short int) {
	t.Helper()
	c := gso.NewCoalescer(gso.CoalescerOptions{UDP: true})
	for i := range n {
		payload := datagramPayload(i, size)
		if i == n-1 {
			payload = payload[:size-short]
		}
		var v packet.View
		if fault := v.Parse(udpFrame(t, dst, i, payload)); fault != packet.None {
			t.Fatal(fault)
		}
		c.Add(&v, virtio.Header{})
	}
	supers := c.Supers()
	if len(supers) != 1 || supers[0].Frames != n {
		t.Fatalf("%d datagrams became %d super-frames", n, len(supers))
	}
	if err := d.WriteFrame(supers[0].Virtio, supers[0].Head, supers[0].Payloads); err != nil {
		t.Fatal(err)
	}
}

// receiver returns a UDP socket in the current namespace.
func receiver(t *testing.T, gro bool) int {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrInet4{Port: udpPort}); err != nil {
		t.Fatal(err)
	}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 5}); err != nil {
		t.Fatal(err)
	}
	if gro {
		if err := unix.SetsockoptInt(fd, unix.SOL_UDP, unix.UDP_GRO, 1); err != nil {
			t.Fatal(err)
		}
	}
	return fd
}

// takeDatagrams receives what writeDatagrams has written, one by one.
func takeDatagrams(t *testing.T, fd, n, size, short int) {
	t.Helper()
	b := make([]byte, 1<<16)
	for i := range n {
		got, _, err := unix.Recvfrom(fd, b, 0)
		if err != nil {
			t.Fatalf("datagram %d of %d: %v", i, n, err)
		}
		want := datagramPayload(i, size)
		if i == n-1 {
			want = want[:size-short]
		}
		if !bytes.Equal(b[:got], want) {
			t.Fatalf("datagram %d: got %d bytes, %x, want %d, %x", i, got, b[:min(got, 8)], len(want), want[:8])
		}
	}
	if n, _, err := unix.Recvfrom(fd, b, unix.MSG_DONTWAIT); err == nil {
		t.Errorf("another datagram of %d bytes came", n)
	}
}

// openForUDP is open with an address, for a TAP that takes UDP super-frames.
func openForUDP(t *testing.T) single {
	t.Helper()
	d, _ := open(t, true)
	if !d.Takes().UDP {
		t.Skip("not run: UDP super-frames need Linux 6.2")
	}
	addAddr(t, &netlink.Handle{}, d.Name(), "10.77.0.1/24")
	return d
}

func addAddr(t *testing.T, h *netlink.Handle, device, addr string) {
	t.Helper()
	link, err := h.LinkByName(device)
	if err != nil {
		t.Fatal(err)
	}
	a, err := netlink.ParseAddr(addr)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.AddrAdd(link, a); err != nil {
		t.Fatalf("add %s to %s: %v", addr, device, err)
	}
	if err := h.LinkSetUp(link); err != nil {
		t.Fatal(err)
	}
}

// What the switch has joined must come out as the datagrams that were sent:
// datagrams have borders, and a program that asked for nothing must not notice.
func TestUDPSuperFrame(t *testing.T) {
	tests := []struct{ n, size, short int }{
		{64, 64, 0}, {64, 64, 63}, {2, 2, 0}, {45, 1422, 0}, {46, 1400, 1399}, {63, 1000, 5},
	}
	for name, behind := range map[string]func(*testing.T) (fd int, dst string){
		"a plain socket":              func(t *testing.T) (int, string) { t.Helper(); return receiver(t, false), "10.77.0.1" },
		"a container behind a bridge": container,
	} {
		t.Run(name, func(t *testing.T) {
			d := openForUDP(t)
			fd, dst := behind(t)
			for _, tt := range tests {
				writeDatagrams(t, d, dst, tt.n, tt.size, tt.short)
				takeDatagrams(t, fd, tt.n, tt.size, tt.short)
			}
		})
	}
}

// A program that asks for UDP_GRO gets them in one piece, with their size.
func TestUDPSuperFrameToSocketWithGRO(t *testing.T) {
	d := openForUDP(t)
	fd := receiver(t, true)
	const n, size, short = 64, 64, 10
	writeDatagrams(t, d, "10.77.0.1", n, size, short)
	b, oob := make([]byte, 1<<16), make([]byte, 64)
	got, oobn, _, _, err := unix.Recvmsg(fd, b, oob, 0)
	if err != nil {
		t.Fatal(err)
	}
	var want []byte
	for i := range n {
		want = append(want, datagramPayload(i, size)...)
	}
	if !bytes.Equal(b[:got], want[:n*size-short]) {
		t.Errorf("got %d bytes, want the %d that were sent", got, n*size-short)
	}
	messages, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil || len(messages) != 1 || messages[0].Header.Type != unix.UDP_GRO {
		t.Fatalf("control messages %+v, %v, want the segment size", messages, err)
	}
	if s := binary.NativeEndian.Uint32(messages[0].Data); s != size {
		t.Errorf("segment size %d, want %d", s, size)
	}
}

// container makes a network namespace behind a bridge and veth, reached by
// forwarding, and returns a socket in it and its address.
func container(t *testing.T) (fd int, dst string) {
	t.Helper()
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0); err != nil {
		t.Fatal(err)
	}
	type inside struct {
		ns netns.NsHandle
		fd int
	}
	made := make(chan inside)
	done := make(chan struct{})
	t.Cleanup(func() { close(done) })
	go func() {
		defer close(made)
		runtime.LockOSThread() // and never unlocked: the namespace ends with the thread
		h, err := netns.New()
		if err != nil {
			t.Error(err)
			return
		}
		made <- inside{h, receiver(t, false)}
		<-done
	}()
	in, ok := <-made
	if !ok {
		t.FailNow()
	}
	t.Cleanup(func() { in.ns.Close() })
	bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0"}}
	veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "port0"}, PeerName: "eth0", PeerNamespace: netlink.NsFd(in.ns)}
	for _, err := range []error{netlink.LinkAdd(bridge), netlink.LinkAdd(veth), netlink.LinkSetMaster(veth, bridge), netlink.LinkSetUp(veth)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	addAddr(t, &netlink.Handle{}, "br0", "10.78.0.1/24")
	handle, err := netlink.NewHandleAt(in.ns)
	if err != nil {
		t.Fatal(err)
	}
	defer handle.Close()
	addAddr(t, handle, "eth0", "10.78.0.2/24")
	// The way back, or the source would be refused (rp_filter).
	err = handle.RouteAdd(&netlink.Route{Dst: &net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)}, Gw: net.ParseIP("10.78.0.1")})
	if err != nil {
		t.Fatal(fmt.Errorf("default route: %w", err))
	}
	return in.fd, "10.78.0.2"
}
