// SPDX-License-Identifier: Apache-2.0

package lease

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestRejectedStaysSmallAndPrintable(t *testing.T) {
	for _, tt := range []struct{ name, key, value, want string }{
		{"a key of a megabyte", subnetsDir + strings.Repeat("x", 1<<20), golden, subnetsDir + "xxx"},
		{"a megabyte of what is quoted", subnetsDir + strings.Repeat("\x1b", 1<<20), golden, subnetsDir + `\x1b\x1b`},
		{"a terminal's command", subnetsDir + "\x1b[2J\n", golden, subnetsDir + `\x1b[2J\n`},
		{"letters that turn round", subnetsDir + "\u202eabc", golden, subnetsDir + `\u202eabc`},
		{"no UTF-8", subnetsDir + "\xff\xfe", golden, subnetsDir},
		{"beside the directory", subnetsList + strings.Repeat("-", 1<<20) + "/x", golden, subnetsList + "---"},
		{"a long IPv6 half", subnetsDir + "10.5.1.0-24&" + strings.Repeat("f", 1<<20), golden, subnetsDir + "10.5.1.0-24&fff"},
		{"a PublicIP of a megabyte", subnetsDir + "10.5.1.0-24", `{"BackendType":"vxlan","PublicIP":"` + strings.Repeat("x\\u001b", 1<<18) + `"}`, subnetsDir + "10.5.1.0-24"},
		{"a MAC of a megabyte", subnetsDir + "10.5.1.0-24", `{"BackendType":"vxlan","PublicIP":"1.2.3.4","BackendData":{"VtepMAC":"` + strings.Repeat("\\n", 1<<19) + `"}}`, subnetsDir + "10.5.1.0-24"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := snapshot(readEntries([]Pair{{Key: tt.key, Value: []byte(tt.value)}}), 1)
			if len(s.Rejected) != 1 {
				t.Fatalf("got %d rejected, want one", len(s.Rejected))
			}
			got := s.Rejected[0]
			if !strings.HasPrefix(got.Key, tt.want) {
				t.Errorf("got key %q, want it to begin with %q", got.Key, tt.want)
			}
			for _, v := range []string{got.Key, got.Reason} {
				if len(v) > maxPrintable+3 || !utf8.ValidString(v) || strings.ContainsAny(v, "\x1b\n\u202e") {
					t.Errorf("got %d bytes: %q", len(v), v)
				}
			}
		})
	}
}

func TestRejectedPeerStaysSmall(t *testing.T) {
	c := mustConfig(t, usual)
	key := subnetsDir + "10.6.1.0-24&" + strings.Repeat("0", 1<<20) + "::-56"
	s := Snapshot{Leases: []Lease{{Key: key, Subnet: pfx("10.6.1.0/24"), Attrs: Attrs{BackendType: backendVXLAN}}}}
	sel := s.Select(c, Lease{})
	if len(sel.Rejected) != 1 || len(sel.Rejected[0].Key) > maxPrintable+3 {
		t.Errorf("got %d rejected, the first with a key of %d bytes", len(sel.Rejected), len(sel.Rejected[0].Key))
	}
}
