// SPDX-License-Identifier: Apache-2.0

package load

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"golang.org/x/sys/unix"

	"vxtap/cmd/vxlab/netns"
	"vxtap/encap/virtio"
	"vxtap/test/traffic"
)

// specimen is one packet as a container's stack may hand it to its device, and
// what others must see of it.
type specimen struct {
	proto   layers.IPProtocol
	port    uint16 // of the flow, at both ends; of ICMP the identifier
	id      uint16
	payload int
	size    int  // of the segments, 0: it is to leave as it is
	partial bool // its checksum is left to the device
	zero    bool // it has no UDP checksum
	options []layers.TCPOption
	flags   func(*layers.TCP)
}

// specimens are all kinds: whole super-frames, odd tails, an ID that wraps,
// flags that belong to one segment only, checksums of every kind.
func specimens() []specimen {
	stamps := []layers.TCPOption{
		{OptionType: layers.TCPOptionKindNop}, {OptionType: layers.TCPOptionKindNop},
		{OptionType: layers.TCPOptionKindTimestamps, OptionLength: 10, OptionData: []byte{1, 2, 3, 4, 5, 6, 7, 8}},
	}
	last := func(t *layers.TCP) { t.FIN, t.PSH = true, true }
	return []specimen{
		{proto: layers.IPProtocolTCP, port: 7001, id: 0xfff8, payload: 44*1398 + 777, size: 1398, partial: true, options: stamps, flags: last},
		{proto: layers.IPProtocolTCP, port: 7001, id: 40, payload: 1398, options: stamps},
		{proto: layers.IPProtocolTCP, port: 7001, id: 41, payload: 2 * 1398, size: 1398, partial: true, options: stamps},
		{proto: layers.IPProtocolTCP, port: 7002, id: 9, payload: 3*536 + 1, size: 536, partial: true},
		{proto: layers.IPProtocolTCP, port: 7002, id: 10, payload: 0, partial: true},
		{proto: layers.IPProtocolUDP, port: 7003, id: 1, payload: 40*1200 + 7, size: 1200, partial: true},
		{proto: layers.IPProtocolUDP, port: 7003, id: 100, payload: 1200},
		{proto: layers.IPProtocolUDP, port: 7003, id: 101, payload: 1200, partial: true},
		{proto: layers.IPProtocolUDP, port: 7003, id: 102, payload: 31, zero: true},
		{proto: layers.IPProtocolUDP, port: 7003, id: 103, payload: 2 * 333, size: 333, partial: true},
		{proto: layers.IPProtocolUDP, port: 7004, id: 0, payload: 1},
		{proto: layers.IPProtocolICMPv4, port: 7005, id: 5, payload: 1001},
	}
}

// lengths returns the payload lengths of the segments.
func (s specimen) lengths() []int {
	if s.size == 0 {
		return []int{s.payload}
	}
	var all []int
	for rest := s.payload; rest > 0; rest -= s.size {
		all = append(all, min(rest, s.size))
	}
	return all
}

// ip returns the IP packet with n bytes of the payload from at on; last says
// that it has the end of it. All that can be is computed, by gopacket.
func (s specimen) ip(from, to netip.Addr, ttl uint8, segment, at, n int, last bool) ([]byte, error) {
	ip := &layers.IPv4{
		Version: 4, TTL: ttl, Protocol: s.proto, Flags: layers.IPv4DontFragment, Id: s.id + uint16(segment),
		SrcIP: from.AsSlice(), DstIP: to.AsSlice(),
	}
	payload := make(gopacket.Payload, n)
	for i := range payload {
		payload[i] = byte((at + i) * 7 >> 3)
	}
	var transport gopacket.SerializableLayer
	switch s.proto {
	case layers.IPProtocolTCP:
		tcp := &layers.TCP{SrcPort: layers.TCPPort(s.port), DstPort: layers.TCPPort(s.port), Seq: 1000 + uint32(s.id)<<8 + uint32(at), Ack: 77, ACK: true, Window: 501, Options: s.options}
		if s.flags != nil && last {
			s.flags(tcp)
		}
		transport = tcp
		if err := tcp.SetNetworkLayerForChecksum(ip); err != nil {
			return nil, err
		}
	case layers.IPProtocolUDP:
		udp := &layers.UDP{SrcPort: layers.UDPPort(s.port), DstPort: layers.UDPPort(s.port)}
		transport = udp
		if err := udp.SetNetworkLayerForChecksum(ip); err != nil {
			return nil, err
		}
	default:
		transport = &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(layers.ICMPv4TypeEchoReply, 0), Id: s.port}
	}
	buf := gopacket.NewSerializeBuffer()
	err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, ip, transport, payload)
	b := buf.Bytes()
	if s.zero {
		b[26], b[27] = 0, 0
	}
	return b, err
}

// expect returns the packets that must be seen on the wire, in order.
func (s specimen) expect(from, to netip.Addr) ([][]byte, error) {
	var all [][]byte
	at := 0
	lengths := s.lengths()
	for i, n := range lengths {
		b, err := s.ip(from, to, 63, i, at, n, i == len(lengths)-1) // the container's host is a hop
		if err != nil {
			return nil, err
		}
		all = append(all, b)
		at += n
	}
	return all, nil
}

// frame returns the frame behind its virtio header.
func (s specimen) frame(from, to netip.Addr, src, dst net.HardwareAddr) ([]byte, error) {
	ip, err := s.ip(from, to, 64, 0, 0, s.payload, true)
	if err != nil {
		return nil, err
	}
	var h virtio.Header
	const l4 = 14 + 20
	if s.partial {
		h.Flags, h.CsumStart, h.CsumOffset = virtio.NeedsCsum, l4, 6
		if s.proto == layers.IPProtocolTCP {
			h.CsumOffset = 16
		}
		sum := pseudoSum(ip)
		ip[20+h.CsumOffset], ip[21+h.CsumOffset] = byte(sum>>8), byte(sum)
	}
	if s.size > 0 {
		h.GSOSize, h.GSOType, h.HdrLen = uint16(s.size), virtio.GSOUDP, l4+8
		if s.proto == layers.IPProtocolTCP {
			h.GSOType, h.HdrLen = virtio.GSOTCPv4, l4+uint16(ip[32]>>4)*4
		}
	}
	b := make([]byte, virtio.HeaderLen, virtio.HeaderLen+14+len(ip))
	h.Put(b)
	b = append(append(b, dst...), src...)
	return append(append(b, 8, 0), ip...), nil
}

// pseudoSum is what a checksum that is left to the device starts with.
func pseudoSum(ip []byte) uint16 {
	sum := uint32(ip[9]) + uint32(len(ip)-20)
	for i := 12; i < 20; i += 2 {
		sum += uint32(ip[i])<<8 | uint32(ip[i+1])
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return uint16(sum)
}

// inject puts all specimens on the device of a container, as its stack would.
func inject(from, to traffic.End, host *netns.Namespace) error {
	gateway, err := host.Interface("cni0")
	if err != nil {
		return err
	}
	fd, device, err := packetSocket(from.Namespace, "eth0", 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1); err != nil {
		return fmt.Errorf("ask for virtio headers: %w", err)
	}
	for _, s := range specimens() {
		b, err := s.frame(from.Addr, to.Addr, device.HardwareAddr, gateway.HardwareAddr)
		if err != nil {
			return err
		}
		if _, err := unix.Write(fd, b); err != nil {
			return fmt.Errorf("inject %+v: %w", s, err)
		}
	}
	return nil
}

// packetSocket opens a packet socket on a device. With protocol 0 it sees
// nothing.
func packetSocket(ns *netns.Namespace, name string, protocol uint16) (fd int, device *net.Interface, err error) {
	if device, err = ns.Interface(name); err != nil {
		return -1, nil, err
	}
	protocol = protocol<<8 | protocol>>8
	err = ns.Do(func() (err error) {
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(protocol)); err != nil {
			return err
		}
		return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: protocol, Ifindex: device.Index})
	})
	if err != nil {
		return -1, nil, fmt.Errorf("packet socket on %s: %w", name, err)
	}
	return fd, device, nil
}
