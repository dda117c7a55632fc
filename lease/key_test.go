// SPDX-License-Identifier: Apache-2.0

package lease

import (
	"net/netip"
	"testing"
)

func TestParseKey(t *testing.T) {
	tests := []struct {
		in     string
		v4, v6 string
	}{
		{"10.5.52.0-24", "10.5.52.0/24", ""},
		{"10.5.52.128-25", "10.5.52.128/25", ""},
		{"0.0.0.0-0", "0.0.0.0/0", ""},
		{"10.12.13.0-24&fd00:12:13::-56", "10.12.13.0/24", "fd00:12:13::/56"},
	}
	for _, tt := range tests {
		t.Run(tt.in, func(t *testing.T) {
			k, err := ParseKey(tt.in)
			if err != nil {
				t.Fatal(err)
			}
			if k.IPv4 != pfx(tt.v4) || (tt.v6 != "") != k.IPv6.IsValid() || (tt.v6 != "" && k.IPv6 != pfx(tt.v6)) {
				t.Errorf("got %v and %v, want %s and %s", k.IPv4, k.IPv6, tt.v4, tt.v6)
			}
			if k.String() != tt.in {
				t.Errorf("got %q back, want %q", k, tt.in)
			}
		})
	}
}

func TestParseKeyIPv6Spellings(t *testing.T) {
	for _, in := range []string{"10.12.13.0-24&fd00:12:13:0:0:0:0:0-56", "10.12.13.0-24&fd00:12:13::7-56"} {
		k, err := ParseKey(in)
		if err != nil {
			t.Fatal(err)
		}
		if k.IPv6 != pfx("fd00:12:13::/56") {
			t.Errorf("%s: got %v", in, k.IPv6)
		}
	}
}

func TestParseKeyRefuses(t *testing.T) {
	tests := []struct {
		name, in string
		held     string // what is kept free all the same, because flanneld may believe in it
	}{
		{"nothing", "", ""},
		{"no length", "10.5.52.0", ""},
		{"empty length", "10.5.52.0-", ""},
		{"host route", "10.5.52.0-32", ""},
		{"length of another family", "10.5.52.0-64", ""},
		{"negative length", "10.5.52.0--24", ""},
		{"slash instead of dash", "10.5.52.0/24", ""},
		{"three numbers", "10.5.52-24", ""},
		{"number too large", "10.5.256.0-24", ""},
		{"leading zero", "10.05.52.0-24", ""},
		{"leading zero in the length", "10.5.52.0-024", "10.5.52.0/24"},
		{"host bits", "10.5.52.7-24", "10.5.52.0/24"},
		{"something before it", "x10.5.52.0-24", "10.5.52.0/24"},
		{"a number before it", "1.10.5.52.0-24", "10.5.52.0/24"},
		{"a directory before it", "a/10.5.52.0-24", "10.5.52.0/24"},
		{"something behind it", "10.5.52.0-24x", ""},
		{"a space", "10.5.52.0-24 ", ""},
		{"IPv4-mapped", "::ffff:10.5.52.0-24", "10.5.52.0/24"},
		{"IPv6 alone", "fd00:12:13::-56", ""},
		{"empty IPv6", "10.5.52.0-24&", "10.5.52.0/24"},
		{"IPv6 in capitals", "10.5.52.0-24&FD00::-56", "10.5.52.0/24"},
		{"IPv6 host route", "10.5.52.0-24&fd00::-128", "10.5.52.0/24"},
		{"IPv4 twice", "10.5.52.0-24&10.5.53.0-24", "10.5.52.0/24"},
		{"IPv6 with a zone", "10.5.52.0-24&fe80::%eth0-64", "10.5.52.0/24"},
		{"a length of many zeros", "10.5.52.0-24&fd00::-00000056", "10.5.52.0/24"},
		{"IPv4-mapped IPv6", "10.5.52.0-24&::ffff:102:304-100", "10.5.52.0/24"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if k, err := ParseKey(tt.in); err == nil {
				t.Errorf("got %v, want an error", k)
			}
			var want netip.Prefix
			if tt.held != "" {
				want = pfx(tt.held)
			}
			if got, ok := heldBy(subnetsDir + tt.in); got != want || ok != want.IsValid() {
				t.Errorf("held: got %v, want %v", got, want)
			}
		})
	}
}

func FuzzParseKey(f *testing.F) {
	for _, s := range []string{"10.5.52.0-24", "10.12.13.0-24&fd00:12:13::-56", "x10.5.52.0-24", "10.5.52.7-24", "&-", "1.2.3.4-031&::-0"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		k, err := ParseKey(s)
		held, ok := heldBy(s)
		if ok && (held != held.Masked() || !held.Addr().Is4()) {
			t.Errorf("held %v is no masked IPv4 subnet", held)
		}
		if six := heldIPv6By(s); six.IsValid() && (six != six.Masked() || !six.Addr().Is6()) {
			t.Errorf("held %v is no masked IPv6 subnet", six)
		}
		if err != nil {
			return
		}
		if six := heldIPv6By(s); six != k.IPv6 {
			t.Errorf("%q: a good key holds %v, want %v", s, six, k.IPv6)
		}
		if again, err := ParseKey(k.String()); err != nil || again != k {
			t.Errorf("%q: %v reads back as %v, %v", s, k, again, err)
		}
		if !ok || held != k.IPv4 {
			t.Errorf("%q: a good key holds %v, want %v", s, held, k.IPv4)
		}
	})
}
