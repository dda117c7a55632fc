// SPDX-License-Identifier: Apache-2.0

package uplink

import (
	"bytes"
	"net/netip"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"vxtap/encap/checksum"
	"vxtap/encap/ether"
	"vxtap/encap/vxlan"
)

// gopacket, which knows nothing of how it was made, reads a probe.
func TestProbeFrame(t *testing.T) {
	tests := []struct {
		name      string
		mtu, want int // payload of both segments
	}{
		{"full segments", 1450, 2 * 1410},
		{"as large as an IPv4 packet may be", 64950, 1<<16 - 1 - 36 - 54 - 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { checkProbe(t, tt.mtu, tt.want) })
	}
}

func checkProbe(t *testing.T, mtu, want int) {
	t.Helper()
	e := vxlan.Endpoint{MAC: ether.MAC{2, 0, 0, 0, 0, 7}, Local: local}
	b, err := probeFrame(e, netip.MustParseAddr("192.0.2.2"), mtu, 40000, testMark)
	if err != nil {
		t.Fatal(err)
	}
	p := gopacket.NewPacket(b[24:], layers.LayerTypeEthernet, gopacket.Default)
	ip, ok := p.Layer(layers.LayerTypeIPv4).(*layers.IPv4)
	if !ok || ip.DstIP.String() != "192.0.2.2" || int(ip.Length) != len(b)-24-14 {
		t.Fatalf("outer IPv4 %+v", ip)
	}
	udp, ok := p.Layer(layers.LayerTypeUDP).(*layers.UDP)
	if !ok || udp.SrcPort != 40000 || udp.DstPort != 8472 {
		t.Fatalf("outer UDP %+v", udp)
	}
	if !bytes.Equal(udp.Payload[:8], make([]byte, 8)) {
		t.Errorf("VXLAN header %x, want zeros", udp.Payload[:8])
	}
	inner := gopacket.NewPacket(udp.Payload[8:], layers.LayerTypeEthernet, gopacket.Default)
	tcp, ok := inner.Layer(layers.LayerTypeTCP).(*layers.TCP)
	if !ok || len(tcp.Payload) != want {
		t.Fatalf("inner packet %s", inner)
	}
	iip := udp.Payload[8+14:]
	if checksum.Sum(iip[:20], 0) != 0xffff {
		t.Error("the inner IPv4 header has a wrong checksum")
	}
	if sum := checksum.Fold(checksum.Pseudo(iip[12:20], 6, 20+want)); tcp.Checksum != sum {
		t.Errorf("TCP checksum %#x, want the pseudo header's %#x", tcp.Checksum, sum)
	}
}
