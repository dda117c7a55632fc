// SPDX-License-Identifier: Apache-2.0

package virtio

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func littleEndian() bool { return binary.NativeEndian.Uint16([]byte{1, 0}) == 1 }

// A full-size TCPv4 super-frame with ECN behind an MTU of 1450, in both byte
// orders.
var (
	tsoHeader = Header{
		Flags: NeedsCsum, GSOType: GSOTCPv4 | GSOECN,
		HdrLen: 0x0042, GSOSize: 0x0576, CsumStart: 0x0022, CsumOffset: 0x0010,
	}
	tsoLittle = []byte{0x01, 0x81, 0x42, 0x00, 0x76, 0x05, 0x22, 0x00, 0x10, 0x00}
	tsoBig    = []byte{0x01, 0x81, 0x00, 0x42, 0x05, 0x76, 0x00, 0x22, 0x00, 0x10}
)

func tsoBytes() []byte {
	if littleEndian() {
		return tsoLittle
	}
	return tsoBig
}

func TestPut(t *testing.T) {
	b := bytes.Repeat([]byte{0xee}, HeaderLen+1)
	tsoHeader.Put(b)
	if want := append(tsoBytes()[:HeaderLen:HeaderLen], 0xee); !bytes.Equal(b, want) {
		t.Errorf("got % x, want % x", b, want)
	}
	new(Header).Put(b)
	if want := append(make([]byte, HeaderLen), 0xee); !bytes.Equal(b, want) {
		t.Errorf("zero header over an old one: got % x, want % x", b, want)
	}
}

// TestDecodeAssignsEveryField decodes into a header that is used again and
// again, as the loops do.
func TestDecodeAssignsEveryField(t *testing.T) {
	dirty := Header{Flags: 0xff, GSOType: 0xff, HdrLen: 0xffff, GSOSize: 0xffff, CsumStart: 0xffff, CsumOffset: 0xffff}
	h := dirty
	h.Decode(tsoBytes())
	if diff := cmp.Diff(tsoHeader, h); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	h = dirty
	h.Decode(make([]byte, HeaderLen))
	if diff := cmp.Diff(Header{}, h); diff != "" {
		t.Errorf("zero header over an old one (-want +got)\n%s", diff)
	}
}

func TestIsGSO(t *testing.T) {
	tests := []struct {
		name string
		typ  GSOType
		want bool
	}{
		{name: "none", typ: GSONone},
		{name: "ECN without a kind", typ: GSOECN},
		{name: "TCPv4", typ: GSOTCPv4, want: true},
		{name: "TCPv4 with ECN", typ: GSOTCPv4 | GSOECN, want: true},
		{name: "TCPv6", typ: GSOTCPv6, want: true},
		{name: "UDP_L4", typ: GSOUDP, want: true},
		{name: "UFO, which we do not ask for", typ: 3, want: true},
		{name: "unknown", typ: 0x40, want: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := (&Header{GSOType: tt.typ}).IsGSO(); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

func TestAllocs(t *testing.T) {
	b := make([]byte, HeaderLen)
	var h Header
	if n := testing.AllocsPerRun(100, func() { tsoHeader.Put(b); h.Decode(b); h.IsGSO() }); n != 0 {
		t.Errorf("got %v allocations, want 0", n)
	}
}

func FuzzRoundTrip(f *testing.F) {
	f.Add(make([]byte, HeaderLen))
	f.Add(tsoLittle)
	f.Add(bytes.Repeat([]byte{0xff}, HeaderLen+3))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < HeaderLen {
			return
		}
		var h Header
		h.Decode(b)
		got := make([]byte, HeaderLen)
		h.Put(got)
		if !bytes.Equal(got, b[:HeaderLen]) {
			t.Fatalf("got % x, want % x", got, b[:HeaderLen])
		}
	})
}

// The layout is that of include/uapi/linux/virtio_net.h: ten bytes as before,
// num_buffers, hash, hash_report, padding, and two offsets, little endian.
func TestPutTunnel(t *testing.T) {
	h := Header{Flags: NeedsCsum, GSOType: GSOTCPv4 | GSOECN, HdrLen: 0x68, GSOSize: 0x0576, CsumStart: 0x54, CsumOffset: 16}
	b := bytes.Repeat([]byte{0xff}, TunnelHeaderLen+1)
	h.PutTunnel(b, 34, 64)
	want := make([]byte, TunnelHeaderLen+1)
	want[0], want[1] = 1|8, 1|0x80|0x20
	for i, v := range []uint16{0x68, 0x0576, 0x54, 16} {
		binary.NativeEndian.PutUint16(want[2+2*i:], v)
	}
	want[20], want[22], want[24] = 34, 64, 0xff
	if !bytes.Equal(b, want) {
		t.Errorf("got  %x\nwant %x", b, want)
	}
}
