// SPDX-License-Identifier: Apache-2.0

package checksum

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
)

// naive is RFC 1071, section 4.1, word by word.
func naive(b []byte, initial uint32) uint16 {
	sum := uint64(initial)
	for i := 0; i < len(b); i += 2 {
		sum += uint64(b[i]) << 8
		if i+1 < len(b) {
			sum += uint64(b[i+1])
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return uint16(sum)
}

func random(n int) []byte {
	r := rand.New(rand.NewPCG(1, uint64(n)))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func TestSumVectors(t *testing.T) {
	tests := []struct {
		name    string
		data    []byte
		initial uint32
		want    uint32
	}{
		{name: "nothing", want: 0},
		{name: "nothing with an initial sum over 16 bits", initial: 0x1ffff, want: 1},
		{name: "one byte is the high half of a word", data: []byte{0x12}, want: 0x1200},
		{name: "the example of RFC 1071, section 3", data: []byte{0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7}, want: 0xddf2},
		{name: "zeros sum up to zero", data: make([]byte, 200), want: 0},
		{name: "ones sum up to minus zero", data: bytes.Repeat([]byte{0xff}, 200), want: 0xffff},
		{name: "minus zero stays minus zero", data: []byte{0, 0}, initial: 0xffff, want: 0xffff},
		{name: "the largest initial sum", data: []byte{0xff, 0xff}, initial: 0xffff0000, want: 0xffff},
		{
			name: "an IPv4 header with its checksum",
			data: []byte{0x45, 0x00, 0x00, 0x73, 0x00, 0x00, 0x40, 0x00, 0x40, 0x11, 0xb8, 0x61, 0xc0, 0xa8, 0x00, 0x01, 0xc0, 0xa8, 0x00, 0xc7},
			want: 0xffff,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := Sum(tt.data, tt.initial); got != tt.want {
				t.Errorf("got %#04x, want %#04x", got, tt.want)
			}
		})
	}
}

// TestSumLengths has every length around the unrolled loop, at every alignment.
func TestSumLengths(t *testing.T) {
	b := random(400)
	for n := range 300 {
		for off := range 9 {
			p := b[off : off+n]
			if got, want := Sum(p, 0x1234), uint32(naive(p, 0x1234)); got != want {
				t.Fatalf("%d bytes from %d: got %#04x, want %#04x", n, off, got, want)
			}
		}
	}
}

// TestSumCarries has words whose carries run through the whole chain: a carry
// lost between two words shows only here.
func TestSumCarries(t *testing.T) {
	for n := 8; n <= 192; n += 8 {
		for at := 0; at < n; at += 8 {
			for _, other := range []byte{0xfe, 0x00} {
				b := bytes.Repeat([]byte{0xff}, n)
				b[at] = other
				if got, want := Sum(b, 0xffff), uint32(naive(b, 0xffff)); got != want {
					t.Fatalf("%d bytes, %#02x at %d: got %#04x, want %#04x", n, other, at, got, want)
				}
			}
		}
	}
	// Words of ones and zeros in every order that 11 of them can have, which
	// is longer than a round of the loop.
	b := make([]byte, 8*11)
	for order := range 1 << 11 {
		for i := range b {
			b[i] = byte(-(order >> (i / 8) & 1))
		}
		for _, initial := range []uint32{1, 0x0100} { // least in either byte order
			if got, want := Sum(b, initial), uint32(naive(b, initial)); got != want {
				t.Fatalf("words %011b after %#04x: got %#04x, want %#04x", order, initial, got, want)
			}
		}
	}
}

func TestSum20(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var b [20]byte
	for range 1000 {
		for i := range b {
			b[i] = []byte{0, 1, 0xfe, 0xff, byte(r.Uint32())}[r.IntN(5)]
		}
		if got, want := Sum20(&b), uint32(naive(b[:], 0)); got != want {
			t.Fatalf("% x: got %#04x, want %#04x", b, got, want)
		}
	}
	// The carry of the first two words, and then one more.
	b = [20]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1}
	if got, want := Sum20(&b), uint32(naive(b[:], 0)); got != want {
		t.Fatalf("got %#04x, want %#04x", got, want)
	}
}

// TestFold has every sum that the upper half can make of a few lower ones.
func TestFold(t *testing.T) {
	for upper := range uint32(1 << 16) {
		for _, lower := range []uint32{0, 1, 0x7fff, 0xfffe, 0xffff} {
			want := upper + lower
			if want > 0xffff {
				want -= 0xffff
			}
			if got := Fold(upper<<16 | lower); uint32(got) != want {
				t.Fatalf("%#08x: got %#04x, want %#04x", upper<<16|lower, got, want)
			}
		}
	}
}

func TestSumOfPieces(t *testing.T) {
	b := random(131)
	want := Sum(b, 0)
	for cut := range b {
		head, tail := Sum(b[:cut], 0), Sum(b[cut:], 0)
		if cut%2 == 1 {
			tail = Swap(tail)
		}
		if got := uint32(Fold(head + tail)); got != want {
			t.Fatalf("cut at %d: got %#04x, want %#04x", cut, got, want)
		}
	}
}

func TestPseudo(t *testing.T) {
	v4 := []byte{10, 5, 1, 2, 10, 5, 2, 3}
	v6 := random(32)
	tests := []struct {
		name   string
		addrs  []byte
		proto  uint8
		length int
		bytes  []byte // the pseudo header in full
	}{
		{name: "IPv4", addrs: v4, proto: 6, length: 1418, bytes: append(v4[:8:8], 0, 6, 1418>>8, 1418&0xff)},
		{name: "IPv4 at the largest length", addrs: v4, proto: 17, length: 65515, bytes: append(v4[:8:8], 0, 17, 65515>>8, 65515&0xff)},
		{name: "IPv6", addrs: v6, proto: 58, length: 8, bytes: append(v6[:32:32], 0, 0, 0, 8, 0, 0, 0, 58)},
		{name: "IPv6 over 64 KB", addrs: v6, proto: 6, length: 0x12345, bytes: append(v6[:32:32], 0, 1, 0x23, 0x45, 0, 0, 0, 6)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got, want := Fold(Pseudo(tt.addrs, tt.proto, tt.length)), naive(tt.bytes, 0); got != want {
				t.Errorf("got %#04x, want %#04x", got, want)
			}
		})
	}
}

func TestUpdate16(t *testing.T) {
	// RFC 1624, section 4: where equation 2 of RFC 1141 gives 0xffff.
	if got := Update16(0xdd2f, 0x5555, 0x3285); got != 0x0000 {
		t.Errorf("example of RFC 1624: got %#04x, want 0x0000", got)
	}
	b := random(20)
	for i := range 10 {
		for _, after := range []uint16{0, 1, 0x00ff, 0x8000, 0xffff} {
			check := ^naive(b, 0)
			before := uint16(b[2*i])<<8 | uint16(b[2*i+1])
			b[2*i], b[2*i+1] = byte(after>>8), byte(after)
			if got, want := Update16(check, before, after), ^naive(b, 0); got != want {
				t.Fatalf("word %d from %#04x to %#04x: got %#04x, want %#04x", i, before, after, got, want)
			}
		}
	}
}

func TestAllocs(t *testing.T) {
	b := random(1398)
	if n := testing.AllocsPerRun(100, func() { sink = Sum(b, Pseudo(b[:8], 6, len(b))) }); n != 0 {
		t.Errorf("got %v allocations, want 0", n)
	}
}

func FuzzSum(f *testing.F) {
	f.Add([]byte(nil), uint32(0), uint16(0))
	f.Add([]byte{1}, uint32(0xffff), uint16(1))
	f.Add(bytes.Repeat([]byte{0xff}, 129), uint32(0xffff0000), uint16(64))
	f.Add(random(1501), uint32(77), uint16(700))
	f.Fuzz(func(t *testing.T, b []byte, initial uint32, at uint16) {
		want := uint32(naive(b, initial))
		if got := Sum(b, initial); got != want {
			t.Fatalf("got %#04x, want %#04x", got, want)
		}
		cut := int(at) % (len(b) + 1)
		tail := Sum(b[cut:], 0)
		if cut%2 == 1 {
			tail = Swap(tail)
		}
		if got := uint32(Fold(Sum(b[:cut], initial) + tail)); got != want {
			t.Fatalf("cut at %d: got %#04x, want %#04x", cut, got, want)
		}
	})
}

var sink uint32

func BenchmarkSum(b *testing.B) {
	for _, n := range []int{20, 64, 1400, 65536} {
		b.Run(fmt.Sprint(n, " B"), func(b *testing.B) {
			data := random(n)
			b.SetBytes(int64(n))
			b.ReportAllocs()
			for b.Loop() {
				sink = Sum(data, 0)
			}
		})
	}
}

func BenchmarkPseudo(b *testing.B) {
	addrs := random(32)
	b.Run("IPv4", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			sink = Pseudo(addrs[:8], 6, 1418)
		}
	})
	b.Run("IPv6", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			sink = Pseudo(addrs, 6, 1418)
		}
	})
}
