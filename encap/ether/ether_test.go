// SPDX-License-Identifier: Apache-2.0

package ether

import (
	"bytes"
	"encoding/json"
	"net"
	"strings"
	"testing"
)

func TestParseMAC(t *testing.T) {
	tests := []struct {
		name, in string
		want     MAC
		ok       bool
	}{
		{name: "as flannel writes it", in: "c6:d2:32:6f:8f:44", want: MAC{0xc6, 0xd2, 0x32, 0x6f, 0x8f, 0x44}, ok: true},
		{name: "upper case", in: "C6:D2:32:6F:8F:44", want: MAC{0xc6, 0xd2, 0x32, 0x6f, 0x8f, 0x44}, ok: true},
		{name: "all zero", in: "00:00:00:00:00:00", ok: true},
		{name: "nothing", in: ""},
		{name: "hyphens", in: "c6-d2-32-6f-8f-44"},
		{name: "dots", in: "c6d2.326f.8f44"},
		{name: "a separator that is no colon in the last place", in: "c6:d2:32:6f:8f;44"},
		{name: "no hex digit in the first place", in: "g6:d2:32:6f:8f:44"},
		{name: "no hex digit in the last place", in: "c6:d2:32:6f:8f:4g"},
		{name: "five pairs", in: "c6:d2:32:6f:8f"},
		{name: "eight pairs", in: "c6:d2:32:6f:8f:44:00:01"},
		{name: "white space behind", in: "c6:d2:32:6f:8f:44\n"},
		{name: "white space instead of a digit", in: "c6:d2:32:6f:8f: 4"},
		{name: "single digits padded to the right length", in: "6:d2:32:6f:8f:044"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ParseMAC(tt.in)
			if (err == nil) != tt.ok || got != tt.want {
				t.Errorf("got %v, %v, want %v, ok %v", got, err, tt.want, tt.ok)
			}
		})
	}
}

func TestMACText(t *testing.T) {
	m := MAC{0x0a, 0xf0, 0x00, 0x9f, 0xff, 0x01}
	if got, want := m.String(), "0a:f0:00:9f:ff:01"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	b, err := json.Marshal(struct{ VtepMAC MAC }{m})
	if got, want := string(b), `{"VtepMAC":"0a:f0:00:9f:ff:01"}`; err != nil || got != want {
		t.Errorf("got %s, %v, want %s", got, err, want)
	}
}

func TestUnmarshalKeepsWhatItCannotReplace(t *testing.T) {
	before := MAC{1, 2, 3, 4, 5, 6}
	m := before
	if err := m.UnmarshalText([]byte("ff:ff:ff:ff:ff")); err == nil || m != before {
		t.Errorf("got %v, %v, want %v and an error", m, err, before)
	}
	if err := m.UnmarshalText([]byte("ff:00:ff:00:ff:00")); err != nil || m != (MAC{0xff, 0, 0xff, 0, 0xff, 0}) {
		t.Errorf("got %v, %v, want ff:00:ff:00:ff:00", m, err)
	}
}

func TestMACKinds(t *testing.T) {
	tests := []struct {
		name                       string
		m                          MAC
		zero, multicast, broadcast bool
	}{
		{name: "zero", zero: true},
		{name: "unicast", m: MAC{0x02, 0, 0, 0, 0, 1}},
		{name: "unicast that is zero but for the last byte", m: MAC{5: 1}},
		{name: "multicast", m: MAC{0x33, 0x33, 0, 0, 0, 1}, multicast: true},
		{name: "group bit alone", m: MAC{0x01}, multicast: true},
		{name: "broadcast", m: MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, multicast: true, broadcast: true},
		{name: "one bit short of broadcast", m: MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xfe}, multicast: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.m.IsZero(); got != tt.zero {
				t.Errorf("IsZero: got %v, want %v", got, tt.zero)
			}
			if got := tt.m.IsMulticast(); got != tt.multicast {
				t.Errorf("IsMulticast: got %v, want %v", got, tt.multicast)
			}
			if got := tt.m.IsBroadcast(); got != tt.broadcast {
				t.Errorf("IsBroadcast: got %v, want %v", got, tt.broadcast)
			}
		})
	}
}

func TestRandomMAC(t *testing.T) {
	seen := map[MAC]bool{}
	for range 100 {
		m := RandomMAC()
		if m[0]&0x03 != 0x02 {
			t.Fatalf("%v is not a locally administered unicast address", m)
		}
		if seen[m] {
			t.Fatalf("%v came twice in a hundred", m)
		}
		seen[m] = true
	}
}

// FuzzParseMAC compares with the standard library, which reads more spellings
// but must agree on ours.
func FuzzParseMAC(f *testing.F) {
	for _, s := range []string{"", "c6:d2:32:6f:8f:44", "C6:D2:32:6F:8F:44", "c6-d2-32-6f-8f-44", "c6:d2:32:6f:8f:4g", "::::::::::::::::::"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		m, err := ParseMAC(s)
		std, stdErr := net.ParseMAC(s)
		ours := stdErr == nil && len(std) == 6 && len(s) == 17 && strings.Count(s, ":") == 5
		if (err == nil) != ours {
			t.Fatalf("got %v, %v, net.ParseMAC %v, %v", m, err, std, stdErr)
		}
		if err == nil && !bytes.Equal(m[:], std) {
			t.Fatalf("got %v, want %v", m, std)
		}
		if err == nil && m.String() != strings.ToLower(s) {
			t.Fatalf("%q came back as %q", s, m)
		}
	})
}
