// SPDX-License-Identifier: Apache-2.0

package uplink

import (
	"bytes"
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
		name string
		mtu  int
		q    question
		want []int // payload of each probe
	}{
		{"full segments", 1450, question{}, []int{2 * 1410, 128, 128}},
		{"full segments from another port", 1450, question{turn: 4}, []int{128, 2 * 1410, 128}},
		{"as large as a frame may be", 1450, question{anew: true, turn: 2}, []int{128, 128, 46 * 1410}},
		{"with jumbo frames", 8950, question{anew: true}, []int{7 * 8910, 128, 128}},
		{"segments as large as an IPv4 packet may be", 64950, question{}, []int{1<<16 - 1 - 36 - 54 - 1, 128, 128}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := newDevice(Config{Local: local, MTU: tt.mtu, Ports: []uint16{40000, 40001, 40002}})
			d.endpoint = vxlan.Endpoint{MAC: ether.MAC{2, 0, 0, 0, 0, 7}, Local: local}
			list := d.probesOf(tt.q)
			if len(list) != len(tt.want) {
				t.Fatalf("%d probes, want one from each port", len(list))
			}
			for i, p := range list {
				if p.port != d.Ports[i] {
					t.Errorf("probe %d from port %d", i, p.port)
				}
				checkProbe(t, d, p, tt.want[i])
			}
		})
	}
}

func checkProbe(t *testing.T, d *Device, pr probe, want int) {
	t.Helper()
	outer, err := d.outerTo(peerAddr)
	if err != nil {
		t.Fatal(err)
	}
	b, err := pr.frame(outer, testMark)
	if err != nil {
		t.Fatal(err)
	}
	p := gopacket.NewPacket(b[24:], layers.LayerTypeEthernet, gopacket.Default)
	ip, ok := p.Layer(layers.LayerTypeIPv4).(*layers.IPv4)
	if !ok || ip.DstIP.String() != "192.0.2.2" || int(ip.Length) != len(b)-24-14 {
		t.Fatalf("outer IPv4 %+v", ip)
	}
	udp, ok := p.Layer(layers.LayerTypeUDP).(*layers.UDP)
	if !ok || udp.SrcPort != layers.UDPPort(pr.port) || udp.DstPort != 8472 {
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
