// SPDX-License-Identifier: Apache-2.0

package packet

import (
	"bytes"
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"vxtap/encap/ether"
)

// Frames by hand: Ethernet, tag, IP, transport, payload.
const (
	macs  = "0a0000000002 0a0000000001 "
	tag   = "8100 2064 "
	ip4   = "0800 4500 002c 1234 4000 40 06 0000 0a050102 0a050203 " // 44 bytes, TCP
	tcp   = "9c40 1451 00000001 00000002 5018 01f6 0000 0000 "
	udp   = "9c40 01bb 000c 0000 "
	ip6   = "86dd 6a0a bcde 0018 06 40 fd000000000000000000000000000001 fd000000000000000000000000000002 " // 24 bytes, TCP
	four  = "61626364 "
	ip6of = "86dd 6000 0000 %len %next 40 fd000000000000000000000000000001 fd000000000000000000000000000002 "
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// edit returns frame with the two hex digits pairs of with at offset.
func edit(t testing.TB, frame string, offset int, with string) string {
	t.Helper()
	b := unhex(t, frame)
	copy(b[offset:], unhex(t, with))
	return hex.EncodeToString(b)
}

// v6 returns an IPv6 frame with the given first next header and contents.
func v6(next, length, contents string) string {
	return macs + strings.NewReplacer("%len", length, "%next", next).Replace(ip6of) + contents
}

func TestParse(t *testing.T) {
	tests := []struct {
		name  string
		frame string
		want  View // without Frame
		fault Fault
	}{
		{
			name: "TCPv4", frame: macs + ip4 + tcp + four,
			want: View{L3: 14, L4: 34, Payload: 54, End: 58, EtherType: ether.TypeIPv4, Version: 4, Proto: ProtoTCP},
		},
		{
			name: "TCPv4 with Ethernet padding", frame: macs + ip4 + tcp + four + "0000",
			want: View{L3: 14, L4: 34, Payload: 54, End: 58, EtherType: ether.TypeIPv4, Version: 4, Proto: ProtoTCP},
		},
		{
			name: "TCPv4 behind a tag", frame: macs + tag + ip4 + tcp + four,
			want: View{L3: 18, L4: 38, Payload: 58, End: 62, EtherType: ether.TypeIPv4, Version: 4, Proto: ProtoTCP, Tagged: true},
		},
		{
			name: "TCPv4 behind an 802.1ad tag", frame: macs + "88a8 0001" + ip4 + tcp + four,
			want: View{L3: 18, L4: 38, Payload: 58, End: 62, EtherType: ether.TypeIPv4, Version: 4, Proto: ProtoTCP, Tagged: true},
		},
		{
			name: "two tags: the second is not looked behind", frame: macs + tag + tag + ip4 + tcp + four,
			want: View{L3: 18, L4: 18, Payload: 18, End: 66, EtherType: ether.TypeVLAN, Tagged: true},
		},
		{
			name: "TCPv6", frame: macs + ip6 + tcp + four,
			want: View{L3: 14, L4: 54, Payload: 74, End: 78, EtherType: ether.TypeIPv6, Version: 6, Proto: ProtoTCP},
		},
		{
			name: "ARP", frame: macs + "0806 00010800060400010a00000000010a0501010000000000000a050201",
			want: View{L3: 14, L4: 14, Payload: 14, End: 42, EtherType: ether.TypeARP},
		},
		{name: "an Ethernet header and no more", frame: macs + "0806", want: View{L3: 14, L4: 14, Payload: 14, End: 14, EtherType: ether.TypeARP}},
		{name: "a tag and no more", frame: macs + tag + "0806", want: View{L3: 18, L4: 18, Payload: 18, End: 18, EtherType: ether.TypeARP, Tagged: true}},
		{name: "an 802.3 length", frame: macs + "0003 424203", want: View{L3: 14, L4: 14, Payload: 14, End: 17, EtherType: 3}},

		{name: "nothing", frame: "", fault: TooShort},
		{name: "one byte short of an Ethernet header", frame: macs + "08", fault: TooShort},
		{name: "one byte short of a tag", frame: macs + "8100 0001 08", want: View{Tagged: true}, fault: TooShort},
		{name: "one byte short of an IPv4 header", frame: edit(t, macs+ip4, 0, "")[:2*33], want: View{EtherType: ether.TypeIPv4}, fault: TooShort},
		{name: "one byte short of an IPv6 header", frame: edit(t, macs+ip6, 0, "")[:2*53], want: View{EtherType: ether.TypeIPv6}, fault: TooShort},
		{name: "IPv4 with version 6", frame: edit(t, macs+ip4+tcp+four, 14, "65"), want: View{EtherType: ether.TypeIPv4}, fault: BadIPHeader},
		{name: "IPv6 with version 4", frame: edit(t, macs+ip6+tcp+four, 14, "4a"), want: View{EtherType: ether.TypeIPv6}, fault: BadIPHeader},
		{name: "IPv4 header length 4", frame: edit(t, macs+ip4+tcp+four, 14, "44"), want: View{EtherType: ether.TypeIPv4}, fault: BadIPHeader},
		{name: "IPv4 length 0, as BIG TCP has it", frame: edit(t, macs+ip4+tcp+four, 16, "0000"), want: View{EtherType: ether.TypeIPv4}, fault: BadLength},
		{name: "IPv4 length less than its header", frame: edit(t, macs+ip4+tcp+four, 16, "0013"), want: View{EtherType: ether.TypeIPv4}, fault: BadLength},
		{name: "IPv4 length one more than the frame", frame: edit(t, macs+ip4+tcp+four, 16, "002d"), want: View{EtherType: ether.TypeIPv4}, fault: BadLength},
		{name: "IPv4 header length more than its length", frame: edit(t, macs+ip4+tcp+four, 14, "4f"), want: View{EtherType: ether.TypeIPv4}, fault: BadLength},
		{name: "IPv6 length one more than the frame", frame: edit(t, macs+ip6+tcp+four, 18, "0019"), want: View{EtherType: ether.TypeIPv6}, fault: BadLength},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			check(t, unhex(t, tt.frame), tt.want, tt.fault)
		})
	}
}

// check parses into a view that is full of something else.
func check(t *testing.T, frame []byte, want View, fault Fault) {
	t.Helper()
	v := View{
		Frame: []byte("dirty"), L3: 99, L4: 98, Payload: 97, End: 96, EtherType: 0xdead,
		Version: 9, Proto: 255, Fragment: true, Tagged: true,
	}
	want.Frame = frame
	if got := v.Parse(frame); got != fault {
		t.Errorf("got fault %v, want %v", got, fault)
	}
	if diff := cmp.Diff(want, v); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestTransport(t *testing.T) {
	v4 := func(proto, length, contents string) string {
		return edit(t, edit(t, macs+ip4, 16, length), 23, proto) + contents
	}
	ok := func(proto uint8, payload, end int) View {
		return View{L3: 14, L4: 34, Payload: payload, End: end, EtherType: ether.TypeIPv4, Version: 4, Proto: proto}
	}
	fragment := ok(ProtoTCP, 34, 58)
	fragment.Fragment = true
	options := ok(ProtoTCP, 58, 62)
	options.L4 = 38
	bad := View{EtherType: ether.TypeIPv4}
	tests := []struct {
		name  string
		frame string
		want  View
		fault Fault
	}{
		{name: "TCP options to the end", frame: v4("06", "002c", edit(t, tcp, 12, "60")+four), want: ok(ProtoTCP, 58, 58)},
		{name: "IPv4 options", frame: edit(t, edit(t, macs+ip4, 14, "46"), 16, "0030") + "01010100" + tcp + four, want: options},
		{name: "TCP header length 4", frame: v4("06", "002c", edit(t, tcp, 12, "40")+four), want: bad, fault: BadTransport},
		{name: "TCP header longer than the packet", frame: v4("06", "002c", edit(t, tcp, 12, "70")+four), want: bad, fault: BadTransport},
		{name: "TCP header longer than the packet, padding behind", frame: v4("06", "002c", edit(t, tcp, 12, "70")+four+"00000000"), want: bad, fault: BadTransport},
		{name: "no room for a TCP header", frame: v4("06", "0027", tcp), want: bad, fault: BadTransport},
		{name: "UDP", frame: v4("11", "0020", udp+four), want: ok(ProtoUDP, 42, 46)},
		{name: "UDP without payload", frame: v4("11", "001c", edit(t, udp, 4, "0008")), want: ok(ProtoUDP, 42, 42)},
		{name: "UDP shorter than its packet", frame: v4("11", "0020", edit(t, udp, 4, "000a")+four), want: ok(ProtoUDP, 42, 46)},
		{name: "UDP longer than its packet", frame: v4("11", "0020", edit(t, udp, 4, "000d")+four), want: bad, fault: BadTransport},
		{name: "UDP longer than its packet, padding behind", frame: v4("11", "0020", edit(t, udp, 4, "000d")+four+four), want: bad, fault: BadTransport},
		{name: "UDP shorter than its header", frame: v4("11", "0020", edit(t, udp, 4, "0007")+four), want: bad, fault: BadTransport},
		{name: "UDP length 0", frame: v4("11", "0020", edit(t, udp, 4, "0000")+four), want: bad, fault: BadTransport},
		{name: "no room for a UDP header", frame: v4("11", "001b", udp), want: bad, fault: BadTransport},
		{name: "ICMP", frame: v4("01", "001c", "0800 0000 0001 0001"), want: ok(ProtoICMP, 34, 42)},
		{name: "nothing behind the IP header", frame: v4("01", "0014", ""), want: ok(ProtoICMP, 34, 34)},
		{name: "an unknown protocol is not looked into", frame: v4("fd", "0018", four), want: ok(253, 34, 38)},
		{name: "a first fragment", frame: edit(t, macs+ip4, 20, "2000") + tcp + four, want: fragment},
		{name: "a middle fragment", frame: edit(t, macs+ip4, 20, "2001") + tcp + four, want: fragment},
		{name: "a last fragment", frame: edit(t, macs+ip4, 20, "0001") + tcp + four, want: fragment},
		{name: "a fragment that has no whole transport header", frame: edit(t, v4("11", "0018", four), 20, "2000"), want: func() View {
			v := ok(ProtoUDP, 34, 38)
			v.Fragment = true
			return v
		}()},
		{name: "the reserved bit and DF are no fragment", frame: edit(t, macs+ip4, 20, "c000") + tcp + four, want: ok(ProtoTCP, 54, 58)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			check(t, unhex(t, tt.frame), tt.want, tt.fault)
		})
	}
}

func TestExtensionHeaders(t *testing.T) {
	// 8 bytes each; the first two are next header and length.
	const pad = "0104 00000000 "
	ok := func(l4, payload, end int, proto uint8) View {
		return View{L3: 14, L4: l4, Payload: payload, End: end, EtherType: ether.TypeIPv6, Version: 6, Proto: proto}
	}
	fragment := func(v View) View { v.Fragment = true; return v }
	bad := View{EtherType: ether.TypeIPv6}
	tests := []struct {
		name  string
		frame string
		want  View
		fault Fault
	}{
		{name: "hop by hop", frame: v6("00", "0020", "0600"+pad+tcp+four), want: ok(62, 82, 86, ProtoTCP)},
		{name: "destination options of 16 bytes", frame: v6("3c", "0028", "0601"+pad+"00000000 00000000"+tcp+four), want: ok(70, 90, 94, ProtoTCP)},
		{name: "all in the order of RFC 8200", frame: v6("00", "0028", "3c00"+pad+"2b00"+pad+"3c00 0000 00000000"+"1100"+pad+"9c4001bb00080000"), want: ok(86, 94, 94, ProtoUDP)},
		{name: "no next header", frame: v6("3b", "0000", ""), want: ok(54, 54, 54, 59)},
		{name: "hop by hop, and no next header", frame: v6("00", "0008", "3b00"+pad), want: ok(62, 62, 62, 59)},
		{name: "a routing header with segments left: no transport", frame: v6("2b", "0020", "0600 0401 00000000"+tcp+four), want: ok(54, 54, 86, 43)},
		{name: "a first fragment", frame: v6("2c", "0020", "0600 0001 00000007"+tcp+four), want: fragment(ok(62, 62, 86, ProtoTCP))},
		{name: "a last fragment, an extension header next", frame: v6("2c", "0020", "3c00 0008 00000007"+tcp+four), want: fragment(ok(62, 62, 86, 60))},
		{name: "an atomic fragment", frame: v6("2c", "0020", "0600 0000 00000007"+tcp+four), want: fragment(ok(62, 62, 86, ProtoTCP))},
		{name: "an unknown header is not walked over", frame: v6("33", "0008", "0600"+pad), want: ok(54, 54, 62, 51)},
		{name: "eight headers", frame: v6("3c", "0054", strings.Repeat("3c00"+pad, 7)+"0600"+pad+tcp), want: ok(118, 138, 138, ProtoTCP)},
		{name: "nine headers", frame: v6("3c", "005c", strings.Repeat("3c00"+pad, 8)+"0600"+pad+tcp), want: bad, fault: BadIPHeader},
		{name: "a header that names itself for ever", frame: v6("00", "0190", strings.Repeat("0000"+pad, 50)), want: bad, fault: BadIPHeader},
		{name: "no room for a header", frame: v6("00", "0007", "0600 0104 000000"), want: bad, fault: BadLength},
		{name: "a header longer than the packet", frame: v6("00", "001f", "0603"+pad+tcp+four), want: bad, fault: BadLength},
		{name: "the longest header, which overflows eight bits", frame: v6("00", "0018", "06ff"+pad+tcp), want: bad, fault: BadLength},
		{name: "a header that ends behind the packet but inside the frame", frame: v6("00", "0008", "0601"+pad+tcp), want: bad, fault: BadLength},
		{name: "payload length 0, as BIG TCP has it", frame: v6("06", "0000", tcp+four), want: bad, fault: BadTransport},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			check(t, unhex(t, tt.frame), tt.want, tt.fault)
		})
	}
}

func TestLongestExtensionHeader(t *testing.T) {
	frame := unhex(t, v6("00", "0800", "06ff"))
	frame = append(frame, make([]byte, 2046)...)
	var v View
	if fault := v.Parse(frame); fault != BadTransport {
		t.Errorf("nothing behind 2048 bytes of options: got %v, want %v", fault, BadTransport)
	}
	frame[18], frame[19] = 0x08, 0x14
	frame = append(frame, unhex(t, tcp)...)
	if fault := v.Parse(frame); fault != None || v.L4 != 54+2048 {
		t.Errorf("TCP behind 2048 bytes of options: got L4 %d, %v", v.L4, fault)
	}
}

func TestFaultNames(t *testing.T) {
	seen := map[string]bool{}
	for f := None; f <= BadTransport; f++ {
		if s := f.String(); s == "" || s == "unknown" || seen[s] {
			t.Errorf("fault %d is called %q", f, s)
		}
		seen[f.String()] = true
	}
	if got := (BadTransport + 1).String(); got != "unknown" {
		t.Errorf("got %q, want unknown", got)
	}
}

func TestParseAllocs(t *testing.T) {
	var v View
	frames := [][]byte{unhex(t, macs+ip4+tcp+four), unhex(t, macs+ip6+tcp+four), unhex(t, v6("00", "0020", "060001040000000"+"0"+tcp+four)), unhex(t, macs)}
	var addr netip.Addr
	var hash uint32
	if n := testing.AllocsPerRun(100, func() {
		for _, f := range frames {
			v.Parse(f)
			addr, hash = v.Dst(), v.FlowHash()
			v.SetECN(ECT0)
			v.SetCsum(v.Csum())
		}
	}); n != 0 {
		t.Errorf("got %v allocations, want 0", n)
	}
	_, _ = addr, hash
}

func seeds(t testing.TB) [][]byte {
	t.Helper()
	return [][]byte{
		unhex(t, macs+ip4+tcp+four),
		unhex(t, macs+tag+ip4+tcp+four+"0000"),
		unhex(t, macs+ip6+tcp+four),
		unhex(t, edit(t, edit(t, macs+ip4+udp+four, 16, "0020"), 23, "11")),
		unhex(t, v6("00", "0028", "3c00010400000000"+"2b00010400000000"+"3c00000000000000"+"1100010400000000"+"9c4001bb00080000")),
		unhex(t, v6("2c", "0020", "0600000100000007"+tcp+four)),
		unhex(t, macs+"0806 00010800060400010a00000000010a0501010000000000000a050201"),
		unhex(t, macs),
		nil,
	}
}

// FuzzParse checks what View promises, and calls everything that could reach
// outside the frame.
func FuzzParse(f *testing.F) {
	for _, s := range seeds(f) {
		f.Add(s, uint8(0))
	}
	f.Fuzz(func(t *testing.T, frame []byte, ecn uint8) {
		v := View{L3: 1, L4: 2, Payload: 3, End: 4, EtherType: 5, Version: 6, Proto: 7, Fragment: true, Tagged: true}
		before := bytes.Clone(frame)
		fault := v.Parse(frame)
		if fault != None && (v.L3 != 0 || v.L4 != 0 || v.Payload != 0 || v.End != 0 || v.Version != 0) {
			t.Fatalf("%v, but %+v", fault, v)
		}
		if fault == None && (v.L3 < 14 || v.L4 < v.L3 || v.Payload < v.L4 || v.End < v.Payload || v.End > len(frame)) {
			t.Fatalf("offsets out of order: %+v", v)
		}
		if n := v.L4Len(); n < v.Payload-v.L4 || n > v.End-v.L4 {
			t.Fatalf("transport length %d: %+v", n, v)
		}
		hash := v.FlowHash()
		ports, _ := v.Ports()
		v.DstMAC()
		v.SrcMAC()
		v.TCPFlags()
		v.AddrBytes()
		if (v.Version == 4) != (v.Src().Is4() && v.Dst().Is4()) || (v.Version == 6) != (v.Src().Is6() && v.Dst().Is6()) {
			t.Fatalf("version %d, addresses %v %v", v.Version, v.Src(), v.Dst())
		}
		v.SetCsum(v.Csum())
		tos := v.TOS()
		v.SetECN(v.ECN())
		if v.Version == 6 && !bytes.Equal(frame, before) {
			t.Fatal("writing what was there changed the frame")
		}
		v.SetECN(ecn)
		if v.Version != 0 && (v.ECN() != ecn&3 || v.TOS()&^3 != tos&^3) {
			t.Fatalf("ECN %d over %#02x gave %#02x", ecn, tos, v.TOS())
		}
		var again View
		if again.Parse(frame) != fault || again.FlowHash() != hash {
			t.Fatal("ECN changed what the frame is")
		}
		if again, _ := again.Ports(); again != ports {
			t.Fatal("ECN changed the ports")
		}
	})
}

// BenchmarkClassify is what the out loop does to learn whose frame it has:
// parse it, and hash its flow. The frames are of 64 flows.
func BenchmarkClassify(b *testing.B) {
	for _, bb := range []struct{ name, frame string }{
		{"TCPv4", macs + ip4 + tcp + four}, {"TCPv6", macs + ip6 + tcp + four},
		{"TCPv4 tagged", macs + tag + ip4 + tcp + four}, {"ARP", macs + "0806" + four},
	} {
		b.Run(bb.name, func(b *testing.B) {
			var frames [64][]byte
			for i := range frames {
				frames[i] = unhex(b, bb.frame)
				frames[i][len(frames[i])-1] = byte(i)
				if bb.name != "ARP" {
					frames[i][len(frames[i])-24] ^= byte(i) // the source port
				}
			}
			var v View
			b.ReportAllocs()
			i, hash := 0, uint32(0)
			for b.Loop() {
				if v.Parse(frames[i%64]) != None {
					b.Fatal("a frame does not parse")
				}
				hash ^= v.FlowHash()
				i++
			}
			sink = hash
		})
	}
}

var sink uint32
