// SPDX-License-Identifier: Apache-2.0

package load

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"vxtap/cmd/vxlab/lab"
	"vxtap/cmd/vxlab/netns"
	"vxtap/test/bed"
	"vxtap/test/traffic"
)

// The same frames leave as the same packets, byte for byte, whichever offload is
// off and whichever way they take: those that gopacket has built. Each host
// lacks something else; the last is the kernel's, which shows that the test is
// right.
func TestWire(t *testing.T) {
	b := bed.Up(t, lab.Options{Hosts: 1})
	type sender struct {
		name      string
		host      *netns.Namespace
		container traffic.End
	}
	var senders []sender
	for _, arg := range []string{
		"-tx-path=uplink", "-tx-path=udp", "-offload=-csum", "-offload=-tso", "-offload=-uso",
		"-offload=-udp-segment", "-offload=-udp-gro", "-offload=-coalesce", "-offload=off",
	} {
		if _, err := b.Join(t.Context(), arg); err != nil {
			t.Fatal(err)
		}
		n := len(b.Hosts())
		senders = append(senders, sender{arg, b.Node(b.Host(n).Node), b.ContainerEnd(n)})
	}
	kernel := b.JoinKernel(t.Context(), kernelSubnet)
	senders = append(senders, sender{"kernel VXLAN", kernel.Namespace, kernel.ContainerEnd()})
	awaitPeers(t, b, len(b.Hosts())-1, len(b.Hosts())-1)
	to := b.ContainerEnd(1)
	for _, s := range senders {
		t.Run(s.name, func(t *testing.T) {
			warm(t, s.container, to)
			// Whatever is left to the device is done before it is seen.
			bed.Run(t, s.host, "ethtool", "-K", "eth0", "tx", "off", "tso", "off", "gso", "off")
			wire, err := openWire(s.host)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(wire.fd)
			if err := inject(s.container, to, s.host); err != nil {
				t.Fatal(err)
			}
			compare(t, wire, s.container.Addr, to.Addr)
		})
	}
}

// compare compares what comes by with what the specimens must become, flow by
// flow: only within one is there an order.
func compare(t *testing.T, w *wire, from, to netip.Addr) {
	t.Helper()
	want := map[uint16][][]byte{}
	total := 0
	for _, s := range specimens() {
		all, err := s.expect(from, to)
		if err != nil {
			t.Fatal(err)
		}
		want[s.port] = append(want[s.port], all...)
		total += len(all)
	}
	got, outer := map[uint16][][]byte{}, map[uint16]map[uint16]bool{}
	for range total {
		d, err := w.next(from, to)
		if err != nil {
			t.Errorf("after %d: %v", total, err)
			break
		}
		got[d.flow] = append(got[d.flow], d.inner)
		if outer[d.flow] == nil {
			outer[d.flow] = map[uint16]bool{}
		}
		outer[d.flow][d.source] = true
	}
	for flow, packets := range want {
		if len(outer[flow]) != 1 {
			t.Errorf("flow %d leaves from %d ports, want 1", flow, len(outer[flow]))
		}
		if len(got[flow]) != len(packets) {
			t.Errorf("flow %d has %d packets, want %d", flow, len(got[flow]), len(packets))
			continue
		}
		for i, p := range packets {
			if !bytes.Equal(got[flow][i], p) {
				t.Errorf("flow %d, packet %d is\n%x, want\n%x", flow, i, head(got[flow][i]), head(p))
				break
			}
		}
	}
}

func head(b []byte) []byte { return b[:min(len(b), 60)] }

// wire is a look at what leaves a host by its underlay's device.
type wire struct {
	fd  int
	buf []byte
}

func openWire(ns *netns.Namespace) (*wire, error) {
	fd, _, err := packetSocket(ns, "eth0", unix.ETH_P_ALL)
	if err != nil {
		return nil, err
	}
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20)
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 1}); err != nil {
		return nil, fmt.Errorf("wait for a second only: %w", err)
	}
	return &wire{fd, make([]byte, 1<<17)}, nil
}

// datagram is one that leaves: its source port, and the packet inside.
type datagram struct {
	source uint16
	flow   uint16 // port, or identifier, of a specimen
	inner  []byte
}

// next returns the next datagram with a packet between the two addresses, and
// an error when there is none within a second.
func (w *wire) next(from, to netip.Addr) (datagram, error) {
	for {
		n, sender, err := unix.Recvfrom(w.fd, w.buf, 0)
		if err != nil {
			return datagram{}, fmt.Errorf("nothing more comes by: %w", err)
		}
		ll, ok := sender.(*unix.SockaddrLinklayer)
		const inner = 14 + 20 + 8 + 8 + 14
		b := w.buf[:n]
		if !ok || ll.Pkttype != unix.PACKET_OUTGOING || n < inner+28 || b[14+9] != unix.IPPROTO_UDP || binary.BigEndian.Uint16(b[36:]) != 8472 {
			continue
		}
		ip := b[inner:]
		if netip.AddrFrom4([4]byte(ip[12:])) != from || netip.AddrFrom4([4]byte(ip[16:])) != to {
			continue
		}
		flow := binary.BigEndian.Uint16(ip[20:])
		if ip[9] == unix.IPPROTO_ICMP {
			flow = binary.BigEndian.Uint16(ip[24:])
		}
		if flow < 7001 || flow > 7005 {
			continue
		}
		return datagram{binary.BigEndian.Uint16(b[34:]), flow, bytes.Clone(ip)}, nil
	}
}
