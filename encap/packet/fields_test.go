// SPDX-License-Identifier: Apache-2.0

package packet

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"net/netip"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"vxtap/encap/checksum"
	"vxtap/encap/ether"
)

func view(t testing.TB, s string) *View {
	t.Helper()
	v := new(View)
	if fault := v.Parse(unhex(t, s)); fault != None {
		t.Fatal(fault)
	}
	return v
}

func TestFields(t *testing.T) {
	tcp4 := edit(t, macs+ip4+tcp+four, 15, "2a") // TOS
	tcp4 = edit(t, tcp4, 34+16, "beef")
	udp6 := v6("11", "000c", edit(t, udp, 6, "cafe")+four)
	tests := []struct {
		name string
		got  func(*View) any
		tcp4 any
		udp6 any
		arp  any
	}{
		{name: "DstMAC", got: func(v *View) any { return v.DstMAC() }, tcp4: ether.MAC{0x0a, 0, 0, 0, 0, 2}, udp6: ether.MAC{0x0a, 0, 0, 0, 0, 2}, arp: ether.MAC{0x0a, 0, 0, 0, 0, 2}},
		{name: "SrcMAC", got: func(v *View) any { return v.SrcMAC() }, tcp4: ether.MAC{0x0a, 0, 0, 0, 0, 1}, udp6: ether.MAC{0x0a, 0, 0, 0, 0, 1}, arp: ether.MAC{0x0a, 0, 0, 0, 0, 1}},
		{name: "Src", got: func(v *View) any { return v.Src() }, tcp4: netip.MustParseAddr("10.5.1.2"), udp6: netip.MustParseAddr("fd00::1"), arp: netip.Addr{}},
		{name: "Dst", got: func(v *View) any { return v.Dst() }, tcp4: netip.MustParseAddr("10.5.2.3"), udp6: netip.MustParseAddr("fd00::2"), arp: netip.Addr{}},
		{name: "SrcIPv4", got: func(v *View) any { return v.SrcIPv4() }, tcp4: uint32(0x0a050102), udp6: uint32(0), arp: uint32(0)},
		{name: "DstIPv4", got: func(v *View) any { return v.DstIPv4() }, tcp4: uint32(0x0a050203), udp6: uint32(0), arp: uint32(0)},
		{name: "AddrBytes", got: func(v *View) any { return len(v.AddrBytes()) }, tcp4: 8, udp6: 32, arp: 0},
		{name: "HasPorts", got: func(v *View) any { return v.HasPorts() }, tcp4: true, udp6: true, arp: false},
		{name: "Ports", got: func(v *View) any { s, d := v.Ports(); return [2]uint16{s, d} }, tcp4: [2]uint16{40000, 5201}, udp6: [2]uint16{40000, 443}, arp: [2]uint16{}},
		{name: "TCPFlags", got: func(v *View) any { return v.TCPFlags() }, tcp4: uint8(ACK | PSH), udp6: uint8(0), arp: uint8(0)},
		{name: "CsumOffset", got: func(v *View) any { return v.CsumOffset() }, tcp4: 16, udp6: 6, arp: 0},
		{name: "Csum", got: func(v *View) any { return v.Csum() }, tcp4: uint16(0xbeef), udp6: uint16(0xcafe), arp: uint16(0)},
		{name: "L4Len", got: func(v *View) any { return v.L4Len() }, tcp4: 24, udp6: 12, arp: 4},
		{name: "TOS", got: func(v *View) any { return v.TOS() }, tcp4: uint8(0x2a), udp6: uint8(0), arp: uint8(0)},
		{name: "ECN", got: func(v *View) any { return v.ECN() }, tcp4: uint8(ECT0), udp6: uint8(0), arp: uint8(0)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for frame, want := range map[string]any{tcp4: tt.tcp4, udp6: tt.udp6, macs + "0806" + four: tt.arp} {
				if got := tt.got(view(t, frame)); got != want {
					t.Errorf("%s: got %v, want %v", frame, got, want)
				}
			}
		})
	}
}

func TestMACsOfTheShortestFrame(t *testing.T) {
	v := view(t, macs+"0806")
	if v.DstMAC() != (ether.MAC{0x0a, 5: 2}) || v.SrcMAC() != (ether.MAC{0x0a, 5: 1}) {
		t.Errorf("got %v and %v", v.DstMAC(), v.SrcMAC())
	}
}

func TestUDPLengthIsShorter(t *testing.T) {
	v := view(t, v6("11", "000c", edit(t, udp, 4, "000a")+four))
	if v.L4Len() != 10 || v.End-v.L4 != 12 {
		t.Errorf("got %d of %d, want 10 of 12", v.L4Len(), v.End-v.L4)
	}
}

// TestNoView: a view that nothing was parsed into, or that a fault left, has
// no field, and reaching for one does no harm.
func TestNoView(t *testing.T) {
	short := unhex(t, macs)
	var faulty View
	if faulty.Parse(short) != TooShort {
		t.Fatal("twelve bytes are a frame")
	}
	for _, v := range []*View{{}, &faulty} {
		v.SetCsum(0xffff)
		v.SetECN(CE)
		if v.DstMAC() != (ether.MAC{}) || v.SrcMAC() != (ether.MAC{}) || v.FlowHash() != 0 || v.L4Len() != 0 || v.AddrBytes() != nil {
			t.Errorf("%+v has fields", v)
		}
	}
	if !bytes.Equal(short, unhex(t, macs)) {
		t.Error("something was written")
	}
}

func TestSetCsum(t *testing.T) {
	for _, s := range []string{macs + ip4 + tcp + four, v6("11", "000c", udp+four), macs + "0806" + four} {
		v := view(t, s)
		want := bytes.Clone(v.Frame)
		if off := v.CsumOffset(); off != 0 {
			binary.BigEndian.PutUint16(want[v.L4+off:], 0x1234)
		}
		v.SetCsum(0x1234)
		if !bytes.Equal(v.Frame, want) {
			t.Errorf("got % x, want % x", v.Frame, want)
		}
	}
}

func TestSetECN(t *testing.T) {
	for tos := range 256 {
		for ecn := range uint8(4) {
			f4 := unhex(t, macs+ip4+tcp+four)
			f4[15] = byte(tos)
			binary.BigEndian.PutUint16(f4[24:], ^checksum.Fold(checksum.Sum(f4[14:34], 0)))
			f6 := unhex(t, macs+ip6+tcp+four)
			binary.BigEndian.PutUint32(f6[14:], 0x6<<28|uint32(tos)<<20|0xabcde)
			for _, f := range [][]byte{f4, f6} {
				var v View
				if fault := v.Parse(f); fault != None {
					t.Fatal(fault)
				}
				if v.TOS() != byte(tos) {
					t.Fatalf("got TOS %#02x, want %#02x", v.TOS(), tos)
				}
				v.SetECN(ecn)
				if want := byte(tos)&^3 | ecn; v.TOS() != want {
					t.Fatalf("ECN %d over %#02x: got %#02x, want %#02x", ecn, tos, v.TOS(), want)
				}
			}
			if sum := checksum.Sum(f4[14:34], 0); sum != 0xffff {
				t.Fatalf("ECN %d over %#02x: the header sums up to %#04x", ecn, tos, sum)
			}
			if got := binary.BigEndian.Uint32(f6[14:]) & 0xf00fffff; got != 0x600abcde {
				t.Fatalf("ECN %d over %#02x: version and flow label are %#08x", ecn, tos, got)
			}
		}
	}
}

// TestFlowHashSees has pairs of frames that must hash alike, or not.
func TestFlowHashSees(t *testing.T) {
	tcp4 := macs + ip4 + tcp + four
	tcp6 := macs + ip6 + tcp + four
	frag := edit(t, tcp4, 20, "2000")
	arp := macs + "0806" + four
	tests := []struct {
		name string
		a, b string
		same bool
	}{
		{name: "another sequence number", a: tcp4, b: edit(t, tcp4, 38, "12345678"), same: true},
		{name: "another MAC of an IP packet", a: tcp4, b: edit(t, tcp4, 0, "0e"), same: true},
		{name: "another TOS", a: tcp4, b: edit(t, tcp4, 15, "ff"), same: true},
		{name: "a tag", a: tcp4, b: macs + tag + ip4 + tcp + four, same: true},
		{name: "another flow label", a: tcp6, b: edit(t, tcp6, 15, "00000"+"0"), same: true},
		{name: "another IPv4 source", a: tcp4, b: edit(t, tcp4, 26, "0b")},
		{name: "another IPv4 destination", a: tcp4, b: edit(t, tcp4, 33, "ff")},
		{name: "another source port", a: tcp4, b: edit(t, tcp4, 35, "41")},
		{name: "another destination port", a: tcp4, b: edit(t, tcp4, 37, "52")},
		{name: "another IPv6 source", a: tcp6, b: edit(t, tcp6, 22, "fc")},
		{name: "another IPv6 interface identifier", a: tcp6, b: edit(t, tcp6, 37, "ff")},
		{name: "another first byte of the IPv6 interface identifier", a: tcp6, b: edit(t, tcp6, 30, "01")},
		{name: "another IPv6 destination", a: tcp6, b: edit(t, tcp6, 38, "fc")},
		{name: "another IPv6 port", a: tcp6, b: edit(t, tcp6, 55, "41")},
		{name: "another protocol", a: edit(t, frag, 23, "11"), b: frag},
		{name: "pieces of one packet", a: frag, b: edit(t, edit(t, frag, 20, "0003"), 34, "ffffffff"), same: true},
		{name: "another destination MAC of what is not IP", a: arp, b: edit(t, arp, 5, "03")},
		{name: "another vendor of the source MAC of what is not IP", a: arp, b: edit(t, arp, 8, "01")},
		{name: "another source MAC of what is not IP", a: arp, b: edit(t, arp, 11, "03")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a, b := view(t, tt.a).FlowHash(), view(t, tt.b).FlowHash()
			if (a == b) != tt.same {
				t.Errorf("got %#08x and %#08x, want the same: %v", a, b, tt.same)
			}
		})
	}
}

// TestFlowHashSpreads: flows as they are, with ports and addresses that count
// up, fall evenly into few buckets, by the upper and by the lower bits.
func TestFlowHashSpreads(t *testing.T) {
	const buckets, flows = 16, 1 << 12
	sets := map[string]func(f []byte, i int){
		"source ports":      func(f []byte, i int) { binary.BigEndian.PutUint16(f[34:], uint16(32768+i)) },
		"even source ports": func(f []byte, i int) { binary.BigEndian.PutUint16(f[34:], uint16(32768+2*i)) },
		"destination ports": func(f []byte, i int) { binary.BigEndian.PutUint16(f[36:], uint16(i)) },
		"source addresses":  func(f []byte, i int) { binary.BigEndian.PutUint32(f[26:], 0x0a050000+uint32(i)) },
		"subnets":           func(f []byte, i int) { binary.BigEndian.PutUint32(f[30:], 0x0a000002+uint32(i)<<8) },
	}
	for name, set := range sets {
		t.Run(name, func(t *testing.T) {
			var high, low [buckets]int
			var ones int
			for i := range flows {
				f := unhex(t, macs+ip4+tcp+four)
				set(f, i)
				var v View
				v.Parse(f)
				h := v.FlowHash()
				high[h>>28]++
				low[h&15]++
				ones += bits.OnesCount32(h)
			}
			for i := range buckets {
				// Six standard deviations of a binomial with p = 1/16.
				if want, dev := flows/buckets, 93; max(high[i]-want, want-high[i], low[i]-want, want-low[i]) > dev {
					t.Errorf("bucket %d: %d by the upper bits, %d by the lower, want %d give or take %d", i, high[i], low[i], want, dev)
				}
			}
			if mean := float64(ones) / flows; mean < 15.5 || mean > 16.5 {
				t.Errorf("%.2f of 32 bits are set, want 16", mean)
			}
		})
	}
}

// FuzzAgainstGopacket: where gopacket and we both read a frame, we read the
// same.
func FuzzAgainstGopacket(f *testing.F) {
	for _, s := range seeds(f) {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		var v View
		if v.Parse(frame) != None || v.Version == 0 || v.Fragment {
			return
		}
		p := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.DecodeOptions{NoCopy: true})
		if p.ErrorLayer() != nil || p.NetworkLayer() == nil {
			return
		}
		src, dst := p.NetworkLayer().NetworkFlow().Endpoints()
		if !bytes.Equal(src.Raw(), v.Src().AsSlice()) || !bytes.Equal(dst.Raw(), v.Dst().AsSlice()) {
			t.Fatalf("addresses %v %v, gopacket %v %v", v.Src(), v.Dst(), src, dst)
		}
		switch l := p.TransportLayer().(type) {
		case *layers.TCP:
			if v.Proto != ProtoTCP || !v.HasPorts() {
				return // behind a header that we do not walk over
			}
			s, d := v.Ports()
			if s != uint16(l.SrcPort) || d != uint16(l.DstPort) || v.Csum() != l.Checksum || len(l.Contents) != v.Payload-v.L4 {
				t.Fatalf("got ports %d %d, checksum %#04x, header %d, gopacket %+v", s, d, v.Csum(), v.Payload-v.L4, l)
			}
			if (v.TCPFlags()&SYN != 0) != l.SYN || (v.TCPFlags()&CWR != 0) != l.CWR || (v.TCPFlags()&PSH != 0) != l.PSH {
				t.Fatalf("flags %#02x, gopacket %+v", v.TCPFlags(), l)
			}
		case *layers.UDP:
			if v.Proto != ProtoUDP || !v.HasPorts() {
				return
			}
			s, d := v.Ports()
			if s != uint16(l.SrcPort) || d != uint16(l.DstPort) || v.Csum() != l.Checksum || v.L4Len() != int(l.Length) {
				t.Fatalf("got ports %d %d, checksum %#04x, length %d, gopacket %+v", s, d, v.Csum(), v.L4Len(), l)
			}
		}
	})
}
