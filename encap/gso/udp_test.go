// SPDX-License-Identifier: Apache-2.0

package gso

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"vxtap/encap/packet"
	"vxtap/encap/virtio"
)

// The rules of udp_gro_receive and udp_gro_receive_segment (Linux 6.18,
// net/ipv4/udp_offload.c) for runs of datagrams of one flow; TestMergeRules has
// those for two of them that differ in their headers.
func TestUDPRuns(t *testing.T) {
	sized := func(sizes ...int) func(spec) [][]byte {
		return func(s spec) (frames [][]byte) {
			for _, n := range sizes {
				s.payload = pattern(n)
				frames = append(frames, s.frame())
				s = next(s)
			}
			return frames
		}
	}
	tests := []struct {
		name   string
		frames func(spec) [][]byte
		want   []int
	}{
		{"of one size", sized(64, 64, 64), []int{3}},
		{"a shorter one is the last", sized(64, 64, 63, 64, 64), []int{3, 2}},
		{"two shorter ones", sized(64, 63, 63, 63), []int{2, 2}},
		{"a longer one begins again", sized(64, 64, 65, 65), []int{2, 2}},
		{"ever longer", sized(1, 2, 3), []int{1, 1, 1}},
		{"ever shorter", sized(9, 8, 7, 6), []int{2, 2}},
		{"an empty one in between", sized(64, 64, 0, 64, 64), []int{2, 1, 2}},
		{"of one byte each", sized(slices.Repeat([]int{1}, 64)...), []int{64}},
		{"64 and one more", sized(slices.Repeat([]int{64}, 65)...), []int{64, 1}},
		{"64, the last shorter, and more", sized(append(slices.Repeat([]int{64}, 63), 5, 64, 64)...), []int{64, 2}},
		{"128", sized(slices.Repeat([]int{300}, 128)...), []int{64, 64}},
		{"as much as 64 KB hold", sized(slices.Repeat([]int{1400}, 60)...), []int{46, 14}},
		{"one without a checksum in between", func(s spec) [][]byte {
			frames := sized(64, 64, 64, 64, 64)(s)
			v := packet.View{}
			v.Parse(frames[2])
			v.SetCsum(0)
			return frames
		}, []int{2, 1, 2}},
		{"none has a checksum", func(s spec) [][]byte {
			frames := sized(64, 64)(s)
			for _, f := range frames {
				v := packet.View{}
				v.Parse(f)
				v.SetCsum(0)
			}
			return frames
		}, []int{1, 1}},
		{"checksums of zero that would be right", func(s spec) [][]byte {
			var frames [][]byte
			for range 2 {
				s.payload = append(pattern(62), 0, 0)
				sum := rfc1071([]byte{byte(s.pseudo() >> 8), byte(s.pseudo())}, s.l4Header(), s.payload)
				binary.BigEndian.PutUint16(s.payload[62:], ^sum)
				frames = append(frames, s.raw(0))
				s = next(s)
			}
			return frames
		}, []int{1, 1}},
		{"one with options behind (RFC 9868)", func(s spec) [][]byte {
			frames := sized(64, 64, 64, 64)(s)
			v := packet.View{}
			v.Parse(frames[2])
			n := uint16(v.L4Len() - 4)
			binary.BigEndian.PutUint16(frames[2][v.L4+4:], n)
			v.SetCsum(0)
			v.SetCsum(^rfc1071(v.AddrBytes(), []byte{0, packet.ProtoUDP, byte(n >> 8), byte(n)}, frames[2][v.L4:v.End-4]))
			if !goodChecksums(&v) {
				t.Fatal("the test is wrong")
			}
			return frames
		}, []int{2, 1, 1}},
	}
	for _, tt := range tests {
		for name, s := range map[string]spec{"UDPv4": udp4(nil), "UDPv6": udp6(nil)} {
			t.Run(name+" "+tt.name, func(t *testing.T) {
				frames := tt.frames(s)
				supers := coalesce(t, NewCoalescer(joinAll), frames...)
				if diff := cmp.Diff(tt.want, counts(supers)); diff != "" {
					t.Fatalf("frames (-want +got)\n%s", diff)
				}
				for _, s := range supers {
					checkUDPSuper(t, s)
				}
				for i, f := range undo(t, supers) {
					if !bytes.Equal(f, frames[i]) {
						t.Fatalf("frame %d came out changed, or in another place", i)
					}
				}
			})
		}
	}
}

// checkUDPSuper checks what every kernel since 6.2 demands of UDP_L4: 64
// segments until 6.9, checksum offset 6, an IP packet of at most 65535.
func checkUDPSuper(t *testing.T, s Super) {
	t.Helper()
	if s.Frames == 1 {
		return
	}
	h, total := s.Virtio, 0
	for i, p := range s.Payloads {
		total += len(p)
		if len(p) != int(h.GSOSize) && (i < len(s.Payloads)-1 || len(p) > int(h.GSOSize) || len(p) == 0) {
			t.Fatalf("payload %d of %d has %d bytes, the segment size is %d", i, len(s.Payloads), len(p), h.GSOSize)
		}
	}
	if h.Flags != virtio.NeedsCsum || h.GSOType != virtio.GSOUDP || h.CsumOffset != 6 || int(h.HdrLen) != len(s.Head) || int(h.CsumStart) != len(s.Head)-8 ||
		total > 64*int(h.GSOSize) || total <= int(h.GSOSize) || len(s.Head)-14+total > 65535 {
		t.Fatalf("%d bytes under %+v", total, h)
	}
}

// TestUDPOrder plays datagrams of a few flows, most of them alike, with frames
// that may not be joined in between: whatever becomes of them, each flow comes
// out in the order in which it went in.
func TestUDPOrder(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	joinedSome := false
	for range 200 {
		flows := [3]spec{udp4(pattern(64)), udp4(pattern(64)), udp6(pattern(64))}
		for i := range flows {
			flows[i].sport += uint16(i)
		}
		var in [][]byte
		for i := range 150 {
			s := &flows[r.IntN(3)]
			f := *s
			f.payload = bytes.Clone(f.payload)
			binary.BigEndian.PutUint32(f.payload, uint32(i))
			check := -1
			switch r.IntN(40) {
			case 0:
				f.payload = f.payload[:5]
			case 1:
				f.payload = append(f.payload, 1, 2, 3)
			case 2:
				f.payload = nil
			case 3:
				check = 0
			case 4:
				f.ttl--
			case 5:
				f.frag = 0x2000
			case 6:
				f.ipOptions = []byte{1, 1, 1, 1}
			case 7:
				check = 0x1234 // wrong
			}
			*s = next(*s)
			if check < 0 {
				in = append(in, f.frame())
			} else {
				in = append(in, f.raw(uint16(check)))
			}
		}
		supers := coalesce(t, NewCoalescer(joinAll), in...)
		joinedSome = joinedSome || len(supers) < len(in)/2
		out := undo(t, supers)
		for i := range flows {
			if !slices.EqualFunc(ofPort(in, flows[i].sport), ofPort(out, flows[i].sport), bytes.Equal) {
				t.Fatalf("flow %d came out in another order, or changed", i)
			}
		}
	}
	if !joinedSome {
		t.Error("next to nothing was joined: the test is wrong")
	}
}

// TestDescribeMTUs has super-frames that just fit, and just do not, at MTUs
// from the smallest that IPv4 hosts must take to the largest.
func TestDescribeMTUs(t *testing.T) {
	for _, mtu := range []int{576, 577, 1280, 1400, 1450, 1500, 2000, 4000, 8999, 9000, 16110, 32768, 65000} {
		for name, kind := range map[string]func([]byte) spec{"TCPv4": tcp4, "TCPv6": tcp6, "UDPv4": udp4, "UDPv6": udp6} {
			room := mtu - (kind(nil).headers() - 14)
			for _, payload := range []int{room - 1, room, room + 1, 2 * room, 2*room + 1, 65535 - 40 - 40} {
				if payload > 65535-40-40 {
					continue
				}
				t.Run(fmt.Sprintf("%s of %d bytes, MTU %d", name, payload, mtu), func(t *testing.T) {
					checkDescribe(t, kind(pattern(payload)), room, mtu)
				})
			}
		}
	}
}

// checkDescribe has s arrive as a kernel peer sends it, where room bytes of
// payload fit the MTU, and be cut again.
func checkDescribe(t *testing.T, s spec, room, mtu int) {
	t.Helper()
	frame, want := s.partial()
	v := mustParse(t, frame)
	h, fault := Describe(v, room, mtu)
	if len(s.payload) > room {
		_, want = s.super(room)
	}
	if s.udp && len(s.payload) > 128*room {
		if fault != TooBig {
			t.Fatalf("got %v, want %v", fault, TooBig)
		}
		return
	}
	if fault != None || h != want {
		t.Fatalf("got %+v, %v, want %+v", h, fault, want)
	}
	if why := kernelTakes(frame, h); why != "" {
		t.Fatalf("the kernel would refuse it: %s", why)
	}
	if !h.IsGSO() {
		return
	}
	segs, fault := Split(nil, NewArena(1<<20), nil, v, h)
	if fault != None || len(segs) != (len(s.payload)+room-1)/room {
		t.Fatalf("%d segments, %v", len(segs), fault)
	}
	for i, seg := range segs {
		if n := seg.Len() - 14; n > mtu || i < len(segs)-1 && n != mtu {
			t.Fatalf("segment %d has %d bytes, the MTU is %d", i, n, mtu)
		}
	}
	checkWithGopacket(t, joined(segs[len(segs)-1].Header, segs[len(segs)-1].Payload))
}
