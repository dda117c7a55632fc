// SPDX-License-Identifier: Apache-2.0

package vxlan

import (
	"fmt"
	"testing"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"

	"vxtap/encap/buffer"
)

func TestTemplate(t *testing.T) {
	tests := []struct {
		name string
		vni  VNI
		want Header
		bad  bool
	}{
		{name: "flannel's", vni: 1, want: Header{0x08, 0, 0, 0, 0, 0, 1, 0}},
		{name: "zero", vni: 0, want: Header{0x08}},
		{name: "every byte in its place", vni: 0x123456, want: Header{0x08, 0, 0, 0, 0x12, 0x34, 0x56, 0}},
		{name: "largest", vni: MaxVNI, want: Header{0x08, 0, 0, 0, 0xff, 0xff, 0xff, 0}},
		{name: "25 bits", vni: MaxVNI + 1, bad: true},
		{name: "32 bits", vni: 1<<32 - 1, bad: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Template(tt.vni, buffer.New(HeaderLen, 0))
			if (err != nil) != tt.bad || got != tt.want {
				t.Errorf("got % x, %v, want % x, bad %v", got, err, tt.want, tt.bad)
			}
		})
	}
}

func TestParse(t *testing.T) {
	tests := []struct {
		name  string
		in    []byte
		gbp   bool
		vni   VNI
		fault Fault
	}{
		{name: "flannel's", in: []byte{0x08, 0, 0, 0, 0, 0, 1, 0}, vni: 1},
		{name: "largest VNI", in: []byte{0x08, 0, 0, 0, 0xff, 0xff, 0xff, 0}, vni: MaxVNI},
		{name: "a frame behind it", in: []byte{0x08, 0, 0, 0, 0x12, 0x34, 0x56, 0, 0xff, 0xff}, vni: 0x123456},
		{name: "nothing", fault: Short},
		{name: "one byte short", in: []byte{0x08, 0, 0, 0, 0, 0, 1}, fault: Short},
		{name: "no I flag", in: []byte{0x00, 0, 0, 0, 0, 0, 1, 0}, fault: NoVNIFlag},
		{name: "no I flag, and reserved bits", in: []byte{0xf7, 0, 0, 0, 0, 0, 1, 1}, fault: NoVNIFlag},
		{name: "remote checksum offload (draft-herbert-vxlan-rco)", in: []byte{0x08, 0x20, 0, 0, 0, 0, 1, 0x10}, fault: ReservedBits},
		{name: "generic protocol extension (draft-ietf-nvo3-vxlan-gpe)", in: []byte{0x0c, 0, 0, 1, 0, 0, 1, 0}, fault: ReservedBits},
		{name: "group policy where none is expected", in: []byte{0x88, 0, 0, 42, 0, 0, 1, 0}, fault: ReservedBits},
		{name: "group policy", in: []byte{0x88, 0, 0, 42, 0, 0, 1, 0}, gbp: true, vni: 1},
		{name: "group policy, don't learn, applied", in: []byte{0x88, 0x48, 0xff, 0xff, 0, 0, 1, 0}, gbp: true, vni: 1},
		{name: "group policy with A where gopacket has it", in: []byte{0x88, 0x80, 0, 42, 0, 0, 1, 0}, gbp: true, fault: ReservedBits},
		{name: "group policy without the I flag", in: []byte{0x80, 0, 0, 42, 0, 0, 1, 0}, gbp: true, fault: NoVNIFlag},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			vni, fault := Parse(tt.in, tt.gbp)
			if vni != tt.vni || fault != tt.fault {
				t.Errorf("got VNI %d, fault %d, want VNI %d, fault %d", vni, fault, tt.vni, tt.fault)
			}
		})
	}
}

// TestEachReservedBit sets one bit at a time beside the I flag.
func TestEachReservedBit(t *testing.T) {
	for bit := range 8 * HeaderLen {
		h := Header{0x08}
		h[bit/8] |= 0x80 >> (bit % 8)
		isVNI := bit/8 >= 4 && bit/8 <= 6
		isGBP := bit == 0 || bit == 9 || bit == 12 || bit/8 == 2 || bit/8 == 3
		for _, gbp := range []bool{false, true} {
			t.Run(fmt.Sprintf("bit %d, group policy %v", bit, gbp), func(t *testing.T) {
				want := ReservedBits
				if bit == 4 || isVNI || gbp && isGBP {
					want = None
				}
				if _, fault := Parse(h[:], gbp); fault != want {
					t.Errorf("got fault %d, want %d", fault, want)
				}
			})
		}
	}
}

func TestParseAllocs(t *testing.T) {
	h := Header{0x08, 0, 0, 0, 0, 0, 1, 0}
	if n := testing.AllocsPerRun(100, func() { Parse(h[:], false) }); n != 0 {
		t.Errorf("got %v allocations, want 0", n)
	}
}

// FuzzParse compares with gopacket's decoder, which reads the same VNI but
// checks nothing.
func FuzzParse(f *testing.F) {
	f.Add([]byte(nil), false)
	f.Add([]byte{0x08, 0, 0, 0, 0, 0, 1, 0}, false)
	f.Add([]byte{0x88, 0x48, 0, 42, 0, 0, 1, 0}, true)
	f.Add([]byte{0x00, 0, 0, 0, 0xff, 0xff, 0xff, 0xff}, false)
	f.Fuzz(func(t *testing.T, b []byte, gbp bool) {
		vni, fault := Parse(b, gbp)
		if (fault == Short) != (len(b) < HeaderLen) {
			t.Fatalf("fault %d for %d bytes", fault, len(b))
		}
		if fault != None {
			if vni != 0 {
				t.Fatalf("VNI %d with fault %d", vni, fault)
			}
			return
		}
		var l layers.VXLAN
		if err := l.DecodeFromBytes(b, gopacket.NilDecodeFeedback); err != nil {
			t.Fatalf("gopacket: %v", err)
		}
		if !l.ValidIDFlag || VNI(l.VNI) != vni {
			t.Fatalf("got VNI %d, gopacket %d, I flag %v", vni, l.VNI, l.ValidIDFlag)
		}
		if gbp {
			return
		}
		want, err := Template(vni, buffer.New(HeaderLen, 0))
		if err != nil || want != Header(b) {
			t.Fatalf("% x was taken for % x, %v", b[:HeaderLen], want, err)
		}
	})
}

// BenchmarkHeader has both ends of the template, and, to compare, what it would
// cost to have gopacket write every header.
func BenchmarkHeader(b *testing.B) {
	h := Header{0x08, 0, 0, 0, 0, 0, 1, 0}
	frames := make([]byte, 64*128) // each behind its headroom
	b.Run("copy template", func(b *testing.B) {
		b.ReportAllocs()
		i := 0
		for b.Loop() {
			copy(frames[i%64*128:], h[:])
			i++
		}
	})
	b.Run("parse", func(b *testing.B) {
		b.ReportAllocs()
		i := 0
		for b.Loop() {
			if _, fault := Parse(frames[i%64*128:], false); fault != None {
				b.Fatal(fault)
			}
			i++
		}
	})
	b.Run("gopacket", func(b *testing.B) {
		buf := buffer.New(HeaderLen, 0)
		layer := &layers.VXLAN{ValidIDFlag: true, VNI: 1}
		b.ReportAllocs()
		for b.Loop() {
			_ = buf.Clear()
			_ = layer.SerializeTo(buf, gopacket.SerializeOptions{})
		}
	})
}
