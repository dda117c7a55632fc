// SPDX-License-Identifier: Apache-2.0

package vxlan

import (
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"vxtap/encap/buffer"
	"vxtap/encap/checksum"
	"vxtap/encap/ether"
)

var testEndpoint = Endpoint{MAC: ether.MAC{2, 0, 0, 0, 0, 0x10}, Local: netip.MustParseAddrPort("192.0.2.1:8472")}

func testOuter(t *testing.T, to string) *Outer {
	t.Helper()
	buf := buffer.New(OuterLen, 60)
	header, err := Template(0x123456, buf)
	if err != nil {
		t.Fatal(err)
	}
	o, err := NewOuter(testEndpoint, netip.MustParseAddr(to), header, buf)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// The bytes were worked out by hand from RFC 791, RFC 768 and RFC 7348.
func TestOuterBytes(t *testing.T) {
	b := make([]byte, OuterLen)
	testOuter(t, "192.0.2.2").Put(b, 100, 3, 0x1234, 50000)
	const want = "020000000010" + "020000000011" + "0800" +
		"45030088" + "12340000" + "4111" + "e32a" + "c0000201" + "c0000202" +
		"c350" + "2118" + "0074" + "8489" +
		"0800000012345600"
	if got := hex.EncodeToString(b); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// gopacket, which computes its own sums, reads back what Put wrote.
func TestOuterAsGopacketReadsIt(t *testing.T) {
	for _, length := range []int{0, 14, 1500, 65535 - 36} {
		for _, tos := range []uint8{0, 1, 2, 3, 0xff} {
			b := make([]byte, OuterLen+length)
			testOuter(t, "198.51.100.7").Put(b, length, tos, 65535, 65535)
			p := gopacket.NewPacket(b, layers.LayerTypeEthernet, gopacket.NoCopy)
			ip, ok := p.Layer(layers.LayerTypeIPv4).(*layers.IPv4)
			if !ok || ip.TOS != tos || int(ip.Length) != len(b)-14 || ip.Flags != 0 || ip.TTL != outerTTL || ip.DstIP.String() != "198.51.100.7" {
				t.Fatalf("IPv4 header %+v", ip)
			}
			if sum := checksum.Sum(b[outerIP:outerUDP], 0); sum != 0xffff {
				t.Errorf("length %d, TOS %d: the IPv4 header sums up to %#x", length, tos, sum)
			}
			udp, ok := p.Layer(layers.LayerTypeUDP).(*layers.UDP)
			if !ok || udp.DstPort != 8472 || udp.SrcPort != 65535 || int(udp.Length) != len(b)-34 {
				t.Fatalf("UDP header %+v", udp)
			}
			// What the kernel does at last: sum everything, complement.
			binary.BigEndian.PutUint16(b[outerUDP+6:], ^checksum.Fold(checksum.Sum(b[outerUDP:], 0)))
			if err := udp.SetNetworkLayerForChecksum(ip); err != nil {
				t.Fatal(err)
			}
			if sum := checksum.Sum(b[outerUDP:], checksum.Pseudo(b[outerIP+12:outerUDP], 17, len(b)-34)); sum != 0xffff {
				t.Errorf("length %d: the finished datagram sums up to %#x", length, sum)
			}
		}
	}
}

func TestNewOuterRefuses(t *testing.T) {
	tests := []struct{ name, local, to string }{
		{"an IPv6 peer", "192.0.2.1:8472", "2001:db8::2"},
		{"an IPv6 endpoint", "[2001:db8::1]:8472", "192.0.2.2"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e := Endpoint{Local: netip.MustParseAddrPort(tt.local)}
			if _, err := NewOuter(e, netip.MustParseAddr(tt.to), Header{}, buffer.New(OuterLen, 60)); err == nil {
				t.Error("got no error")
			}
		})
	}
}

func TestOuterPutDoesNotAllocate(t *testing.T) {
	o, b := testOuter(t, "192.0.2.2"), make([]byte, OuterLen)
	if n := testing.AllocsPerRun(100, func() { o.Put(b, 1000, 0, 1, 50000) }); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}
