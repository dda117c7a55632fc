// SPDX-License-Identifier: Apache-2.0

package buffer

import (
	"bytes"
	"net"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

func TestPrependAppend(t *testing.T) {
	b := New(4, 4)
	if got := b.Bytes(); len(got) != 0 {
		t.Fatalf("a new buffer has % x, want nothing", got)
	}
	put := func(p []byte, err error, s string) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		if len(p) != len(s) || cap(p) != len(s) {
			t.Fatalf("got %d bytes of capacity %d, want %d", len(p), cap(p), len(s))
		}
		copy(p, s)
	}
	p, err := b.AppendBytes(2)
	put(p, err, "cd")
	p, err = b.PrependBytes(1)
	put(p, err, "b")
	p, err = b.AppendBytes(2)
	put(p, err, "ef")
	p, err = b.PrependBytes(3)
	put(p, err, "xya")
	if got, want := string(b.Bytes()), "xyabcdef"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestBounds(t *testing.T) {
	tests := []struct {
		name string
		do   func(*Buffer) ([]byte, error)
		ok   bool
	}{
		{name: "all of the headroom", do: func(b *Buffer) ([]byte, error) { return b.PrependBytes(4) }, ok: true},
		{name: "more than the headroom", do: func(b *Buffer) ([]byte, error) { return b.PrependBytes(5) }},
		{name: "less than nothing before", do: func(b *Buffer) ([]byte, error) { return b.PrependBytes(-1) }},
		{name: "all of the room", do: func(b *Buffer) ([]byte, error) { return b.AppendBytes(6) }, ok: true},
		{name: "more than the room", do: func(b *Buffer) ([]byte, error) { return b.AppendBytes(7) }},
		{name: "less than nothing behind", do: func(b *Buffer) ([]byte, error) { return b.AppendBytes(-1) }},
		{name: "nothing", do: func(b *Buffer) ([]byte, error) { return b.AppendBytes(0) }, ok: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := New(4, 8)
			p, _ := b.AppendBytes(2)
			copy(p, "ab")
			_, err := tt.do(b)
			if (err == nil) != tt.ok {
				t.Fatalf("got %v, want ok %v", err, tt.ok)
			}
			if err != nil && string(b.Bytes()) != "ab" {
				t.Errorf("a refused call left %q, want %q", b.Bytes(), "ab")
			}
		})
	}
}

// TestRoom is how a frame is read into a buffer.
func TestRoom(t *testing.T) {
	b := New(8, 16)
	n := copy(b.Room(), "frame")
	if _, err := b.AppendBytes(n); err != nil {
		t.Fatal(err)
	}
	if got := string(b.Bytes()); got != "frame" {
		t.Errorf("got %q, want %q", got, "frame")
	}
	if got := len(b.Room()); got != 11 {
		t.Errorf("got room for %d, want 11", got)
	}
}

func TestClear(t *testing.T) {
	b := New(4, 4)
	_, _ = b.AppendBytes(4)
	_, _ = b.PrependBytes(4)
	b.PushLayer(layers.LayerTypeVXLAN)
	if err := b.Clear(); err != nil {
		t.Fatal(err)
	}
	if len(b.Bytes()) != 0 || len(b.Layers()) != 0 {
		t.Errorf("got % x and %v, want nothing", b.Bytes(), b.Layers())
	}
	if _, err := b.PrependBytes(4); err != nil {
		t.Errorf("the headroom is not back: %v", err)
	}
	if _, err := b.AppendBytes(4); err != nil {
		t.Errorf("the room is not back: %v", err)
	}
}

func TestAppendToBytesStaysOutside(t *testing.T) {
	b := New(0, 4)
	_, _ = b.AppendBytes(2)
	_ = append(b.Bytes(), 0xff)
	if got := b.Room()[0]; got != 0 {
		t.Errorf("appending to Bytes wrote %#x into the buffer", got)
	}
}

func outer() []gopacket.SerializableLayer {
	ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolUDP, SrcIP: net.IP{192, 0, 2, 1}, DstIP: net.IP{192, 0, 2, 2}}
	udp := &layers.UDP{SrcPort: 50001, DstPort: 8472}
	_ = udp.SetNetworkLayerForChecksum(ip)
	return []gopacket.SerializableLayer{
		&layers.Ethernet{SrcMAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, DstMAC: net.HardwareAddr{2, 0, 0, 0, 0, 2}, EthernetType: layers.EthernetTypeIPv4},
		ip, udp,
		&layers.VXLAN{ValidIDFlag: true, VNI: 1},
	}
}

// TestGopacketWritesTheSameBytes serialises a full encapsulation into a Buffer
// and into gopacket's own.
func TestGopacketWritesTheSameBytes(t *testing.T) {
	opts := gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}
	all := append(outer(), gopacket.Payload(bytes.Repeat([]byte{0xab}, 100)))
	want := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(want, opts, all...); err != nil {
		t.Fatal(err)
	}
	got := New(150, 0) // gopacket prepends payload too
	if err := gopacket.SerializeLayers(got, opts, all...); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want.Bytes(), got.Bytes()); diff != "" {
		t.Errorf("(-gopacket +ours)\n%s", diff)
	}
	if diff := cmp.Diff(want.Layers(), got.Layers()); diff != "" {
		t.Errorf("layers (-gopacket +ours)\n%s", diff)
	}
}

// TestHeadersGoBeforeAFrame puts headers before a frame that stays where it
// was read.
func TestHeadersGoBeforeAFrame(t *testing.T) {
	b := New(50, 100)
	frame, _ := b.AppendBytes(100)
	copy(frame, bytes.Repeat([]byte{0xab}, 100))
	for _, layer := range slices.Backward(outer()) {
		if err := layer.SerializeTo(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}); err != nil {
			t.Fatal(err)
		}
	}
	if &b.Bytes()[50] != &frame[0] {
		t.Error("the frame was moved")
	}
	p := gopacket.NewPacket(b.Bytes(), layers.LayerTypeEthernet, gopacket.Default)
	udp, _ := p.Layer(layers.LayerTypeUDP).(*layers.UDP)
	if udp == nil || udp.Length != 8+8+100 || udp.Checksum == 0 {
		t.Fatalf("got %v", p)
	}
	vx := &layers.VXLAN{}
	if err := vx.DecodeFromBytes(udp.Payload, gopacket.NilDecodeFeedback); err != nil || vx.VNI != 1 || !vx.ValidIDFlag {
		t.Errorf("got %+v, %v", vx, err)
	}
}

func TestNoHeadroomIsAnError(t *testing.T) {
	b := New(7, 100)
	if err := (&layers.VXLAN{ValidIDFlag: true}).SerializeTo(b, gopacket.SerializeOptions{}); err == nil {
		t.Error("eight bytes fitted a headroom of seven")
	}
}

func TestPool(t *testing.T) {
	p := NewPool(8, 16)
	for range 4 {
		b := p.Get()
		if len(b.Bytes()) != 0 || len(b.Room()) != 16 {
			t.Fatalf("got %d bytes and room for %d, want an empty buffer with room for 16", len(b.Bytes()), len(b.Room()))
		}
		_, _ = b.AppendBytes(16)
		_, _ = b.PrependBytes(8)
		p.Put(b)
	}
}

func TestSerialiseAllocs(t *testing.T) {
	b := New(8, 0)
	vx := &layers.VXLAN{ValidIDFlag: true, VNI: 1}
	if n := testing.AllocsPerRun(100, func() {
		_ = b.Clear()
		_ = vx.SerializeTo(b, gopacket.SerializeOptions{})
	}); n != 0 {
		t.Errorf("got %v allocations, want 0", n)
	}
}
