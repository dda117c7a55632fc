// SPDX-License-Identifier: Apache-2.0

package lease

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// diff compares structs that hold addresses.
func diff(got, want any) string {
	return cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}), cmpopts.EquateEmpty())
}

func mustConfig(t testing.TB, s string) Config {
	t.Helper()
	c, err := ParseConfig([]byte(s))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// usual is the config of most tests.
const usual = `{"Network": "10.5.0.0/16", "Backend": {"Type": "vxlan"}}`

func TestParseConfig(t *testing.T) {
	vx := Backend{Type: "vxlan", VNI: 1, Port: 8472}
	tests := []struct {
		name string
		in   string
		want Config
	}{
		{"defaults of a /16, flannel's own vector", `{"Network": "10.3.0.0/16", "Backend": {"Type": "vxlan"}}`,
			Config{EnableIPv4: true, Network: pfx("10.3.0.0/16"), SubnetLen: 24, SubnetMin: ip("10.3.1.0"), SubnetMax: ip("10.3.255.0"), Backend: vx}},
		{"field names in any case", `{"network": "10.3.0.0/16", "BACKEND": {"type": "VXLAN", "directrouting": true}}`,
			Config{EnableIPv4: true, Network: pfx("10.3.0.0/16"), SubnetLen: 24, SubnetMin: ip("10.3.1.0"), SubnetMax: ip("10.3.255.0"),
				Backend: Backend{Type: "vxlan", VNI: 1, Port: 8472, DirectRouting: true}}},
		{"host bits masked off", `{"Network": "10.3.4.5/16", "Backend": {"Type": "vxlan"}}`,
			Config{EnableIPv4: true, Network: pfx("10.3.0.0/16"), SubnetLen: 24, SubnetMin: ip("10.3.1.0"), SubnetMax: ip("10.3.255.0"), Backend: vx}},
		{"a /24 is cut in four", `{"Network": "10.3.7.0/24", "Backend": {"Type": "vxlan"}}`,
			Config{EnableIPv4: true, Network: pfx("10.3.7.0/24"), SubnetLen: 26, SubnetMin: ip("10.3.7.64"), SubnetMax: ip("10.3.7.192"), Backend: vx}},
		{"everything given", `{"EnableIPv4": true, "EnableNFTables": true, "Network": "10.3.0.0/16", "SubnetLen": 28, "SubnetMin": "10.3.5.16", "SubnetMax": "10.3.8.240",
			"Backend": {"Type": "vxlan", "VNI": 9999999, "Port": 4789, "MTU": 9000, "GBP": true, "Learning": true}}`,
			Config{EnableIPv4: true, EnableNFTables: true, Network: pfx("10.3.0.0/16"), SubnetLen: 28, SubnetMin: ip("10.3.5.16"), SubnetMax: ip("10.3.8.240"),
				Backend: Backend{Type: "vxlan", VNI: 9999999, Port: 4789, MTU: 9000, GBP: true, Learning: true}}},
		{"the smallest MTU", `{"Network": "10.3.7.0/24", "SubnetLen": 26, "Backend": {"Type": "vxlan", "MTU": 576}}`,
			Config{EnableIPv4: true, Network: pfx("10.3.7.0/24"), SubnetLen: 26, SubnetMin: ip("10.3.7.64"), SubnetMax: ip("10.3.7.192"),
				Backend: Backend{Type: "vxlan", VNI: 1, Port: 8472, MTU: 576}}},
		{"null is absent", `{"Network": "10.3.0.0/16", "SubnetLen": null, "EnableIPv4": null, "Backend": {"Type": "vxlan", "VNI": null}}`,
			Config{EnableIPv4: true, Network: pfx("10.3.0.0/16"), SubnetLen: 24, SubnetMin: ip("10.3.1.0"), SubnetMax: ip("10.3.255.0"), Backend: vx}},
		{"fields nobody knows, and one twice", `{"Network": "10.3.0.0/16", "Foo": 1, "network": "10.4.0.0/16", "Backend": {"Type": "vxlan", "Bar": {}}}`,
			Config{EnableIPv4: true, Network: pfx("10.4.0.0/16"), SubnetLen: 24, SubnetMin: ip("10.4.1.0"), SubnetMax: ip("10.4.255.0"), Backend: vx,
				Notes: []string{`network config: field "Foo" is unknown and ignored`, "network config: Network is there twice; the last one counts", `Backend: field "Bar" is unknown and ignored`}}},
		{"a null after a value leaves it", `{"Network": "10.3.0.0/16", "SubnetLen": 28, "subnetlen": null, "Backend": {"Type": "vxlan"}}`,
			Config{EnableIPv4: true, Network: pfx("10.3.0.0/16"), SubnetLen: 28, SubnetMin: ip("10.3.0.16"), SubnetMax: ip("10.3.255.240"), Backend: vx,
				Notes: []string{"network config: SubnetLen is there twice; the last one counts"}}},
		{"an address of zeros is flannel's default", `{"Network": "10.3.0.0/16", "SubnetMin": "0.0.0.0", "SubnetMax": "0.0.0.0", "IPv6SubnetMin": "::", "IPv6SubnetMax": null, "Backend": {"Type": "vxlan"}}`,
			Config{EnableIPv4: true, Network: pfx("10.3.0.0/16"), SubnetLen: 24, SubnetMin: ip("10.3.1.0"), SubnetMax: ip("10.3.255.0"), Backend: vx}},
		{"a /22 is the smallest with /24s", `{"Network": "10.3.0.0/22", "Backend": {"Type": "vxlan"}}`,
			Config{EnableIPv4: true, Network: pfx("10.3.0.0/22"), SubnetLen: 24, SubnetMin: ip("10.3.1.0"), SubnetMax: ip("10.3.3.0"), Backend: vx}},
		{"a /28 is the smallest of all", `{"Network": "10.3.0.0/28", "Backend": {"Type": "vxlan"}}`,
			Config{EnableIPv4: true, Network: pfx("10.3.0.0/28"), SubnetLen: 30, SubnetMin: ip("10.3.0.4"), SubnetMax: ip("10.3.0.12"), Backend: vx}},
		{"lists of networks for Kubernetes", `{"Network": "10.3.0.0/16", "Networks": ["10.4.0.0/16"], "Backend": {"Type": "vxlan"}}`,
			Config{EnableIPv4: true, Network: pfx("10.3.0.0/16"), SubnetLen: 24, SubnetMin: ip("10.3.1.0"), SubnetMax: ip("10.3.255.0"), Backend: vx,
				Notes: []string{`network config: field "Networks" is for Kubernetes and ignored`}}},
		{"IPv6 with everything given", `{"EnableIPv6": true, "Network": "10.3.0.0/16", "IPv6Network": "fc00::1/48", "IPv6SubnetLen": 56, "IPv6SubnetMin": "fc00:0:0:100::", "IPv6SubnetMax": "fc00:0:0:200::", "Backend": {"Type": "vxlan", "VNI": 9999}}`,
			Config{EnableIPv4: true, EnableIPv6: true, Network: pfx("10.3.0.0/16"), SubnetLen: 24, SubnetMin: ip("10.3.1.0"), SubnetMax: ip("10.3.255.0"),
				IPv6Network: pfx("fc00::/48"), IPv6SubnetLen: 56, IPv6SubnetMin: ip("fc00:0:0:100::"), IPv6SubnetMax: ip("fc00:0:0:200::"), Backend: Backend{Type: "vxlan", VNI: 9999, Port: 8472}}},
		{"dual stack with the defaults", `{"EnableIPv6": true, "Network": "10.3.0.0/16", "IPv6Network": "fc00::/48", "Backend": {"Type": "vxlan"}}`,
			Config{EnableIPv4: true, EnableIPv6: true, Network: pfx("10.3.0.0/16"), SubnetLen: 24, SubnetMin: ip("10.3.1.0"), SubnetMax: ip("10.3.255.0"),
				IPv6Network: pfx("fc00::/48"), IPv6SubnetLen: 64, IPv6SubnetMin: ip("fc00:0:0:1::"), IPv6SubnetMax: ip("fc00:0:0:ffff::"), Backend: vx}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ParseConfig([]byte(tt.in))
			if err != nil {
				t.Fatal(err)
			}
			if d := diff(got, tt.want); d != "" {
				t.Errorf("(-want +got)\n%s", d)
			}
		})
	}
}

func TestParseConfigRefuses(t *testing.T) {
	const v = `"Backend": {"Type": "vxlan"}`
	tests := []struct {
		name string
		in   string
		want []string // parts of the message
	}{
		{"nothing", ``, []string{"it is empty"}},
		{"half of it", "{\n  \"Network\": ", []string{"not JSON", "line 2, column 13"}},
		{"something behind it", `{} x`, []string{"not JSON", "column 4"}},
		{"no object", `[1]`, []string{"is not a JSON object"}},
		{"no network", `{` + v + `}`, []string{"there is no Network"}},
		{"network is no network", `{"Network": "10.5.0.0", ` + v + `}`, []string{`Network "10.5.0.0" is no network`}},
		{"network is a number", `{"Network": 10, ` + v + `}`, []string{"Network is 10"}},
		{"network is IPv6", `{"Network": "fd00::/48", ` + v + `}`, []string{"Network \"fd00::/48\" is no network"}},
		{"network is IPv4-mapped", `{"Network": "::ffff:10.5.0.0/112", ` + v + `}`, []string{"is no network"}},
		{"network is everything", `{"Network": "0.0.0.0/0", ` + v + `}`, []string{"whose addresses no host can have"}},
		{"network is multicast", `{"Network": "239.0.0.0/16", ` + v + `}`, []string{"whose addresses no host can have"}},
		{"network too small", `{"Network": "10.5.0.0/29", ` + v + `}`, []string{"too small"}},
		{"subnet length not a number", `{"Network": "10.5.0.0/16", "SubnetLen": "24", ` + v + `}`, []string{`SubnetLen is "24"`, "whole number"}},
		{"subnet length negative", `{"Network": "10.5.0.0/16", "SubnetLen": -1, ` + v + `}`, []string{"SubnetLen is -1"}},
		{"subnet length of a host", `{"Network": "10.5.0.0/16", "SubnetLen": 31, ` + v + `}`, []string{"SubnetLen is 31", "at most 30"}},
		{"subnets that do not fit four times", `{"Network": "10.5.0.0/16", "SubnetLen": 17, ` + v + `}`, []string{"put 18 or more"}},
		{"min outside", `{"Network": "10.5.0.0/16", "SubnetMin": "10.6.0.0", ` + v + `}`, []string{"SubnetMin 10.6.0.0 is outside"}},
		{"min not aligned", `{"Network": "10.5.0.0/16", "SubnetMin": "10.5.1.1", ` + v + `}`, []string{"put 10.5.1.0"}},
		{"min above max, which flannel takes", `{"Network": "10.5.0.0/16", "SubnetMin": "10.5.9.0", "SubnetMax": "10.5.8.0", ` + v + `}`, []string{"no subnet to lease"}},
		{"max is IPv6", `{"Network": "10.5.0.0/16", "SubnetMax": "fd00::", ` + v + `}`, []string{"SubnetMax"}},
		{"no backend, where flanneld runs udp", `{"Network": "10.5.0.0/16"}`, []string{"there is no Backend", "udp backend"}},
		{"backend is null", `{"Network": "10.5.0.0/16", "Backend": null}`, []string{"Backend is null", "unknown backend type"}},
		{"backend is a string", `{"Network": "10.5.0.0/16", "Backend": "vxlan"}`, []string{"Backend is not a JSON object"}},
		{"backend without type", `{"Network": "10.5.0.0/16", "Backend": {"VNI": 1}}`, []string{"there is no Type", "unknown backend type"}},
		{"another backend", `{"Network": "10.5.0.0/16", "Backend": {"Type": "host-gw"}}`, []string{`Type is "host-gw"`}},
		{"VNI too large", `{"Network": "10.5.0.0/16", "Backend": {"Type": "vxlan", "VNI": 16777216}}`, []string{"VNI is 16777216"}},
		{"VNI zero", `{"Network": "10.5.0.0/16", "Backend": {"Type": "vxlan", "VNI": 0}}`, []string{"VNI is 0"}},
		{"port too large", `{"Network": "10.5.0.0/16", "Backend": {"Type": "vxlan", "Port": 65536}}`, []string{"Port is 65536"}},
		{"MTU just too small", `{"Network": "10.5.0.0/16", "Backend": {"Type": "vxlan", "MTU": 575}}`, []string{"MTU 575 is too small"}},
		{"MTU too small", `{"Network": "10.5.0.0/16", "Backend": {"Type": "vxlan", "MTU": 100}}`, []string{"MTU 100 is too small"}},
		{"boolean in quotes", `{"Network": "10.5.0.0/16", "EnableIPv6": "true", ` + v + `}`, []string{`EnableIPv6 is "true": put true or false`}},
		{"no IPv4", `{"EnableIPv4": false, "EnableIPv6": true, "IPv6Network": "fd00::/48", ` + v + `}`, []string{"EnableIPv4 is false"}},
		{"no stack at all", `{"EnableIPv4": false, ` + v + `}`, []string{"EnableIPv4 is false"}},
		{"IPv6 without a network", `{"EnableIPv6": true, "Network": "10.5.0.0/16", ` + v + `}`, []string{"there is no IPv6Network"}},
		{"IPv6 network too small", `{"EnableIPv6": true, "Network": "10.5.0.0/16", "IPv6Network": "fd00::/125", ` + v + `}`, []string{"IPv6Network"}},
		{"IPv6 network is IPv4", `{"EnableIPv6": true, "Network": "10.5.0.0/16", "IPv6Network": "10.6.0.0/16", ` + v + `}`, []string{`IPv6Network "10.6.0.0/16" is no network`}},
		{"IPv6 subnet length of a host", `{"EnableIPv6": true, "Network": "10.5.0.0/16", "IPv6Network": "fd00::/48", "IPv6SubnetLen": 127, ` + v + `}`, []string{"IPv6SubnetLen is 127", "at most 126"}},
		{"IPv6 subnets that do not fit four times", `{"EnableIPv6": true, "Network": "10.5.0.0/16", "IPv6Network": "fd00::/48", "IPv6SubnetLen": 49, ` + v + `}`, []string{"put 50 or more"}},
		{"IPv6 min outside", `{"EnableIPv6": true, "Network": "10.5.0.0/16", "IPv6Network": "fd00::/48", "IPv6SubnetMin": "fd01::", ` + v + `}`, []string{"IPv6SubnetMin fd01:: is outside"}},
		{"IPv6 max outside", `{"EnableIPv6": true, "Network": "10.5.0.0/16", "IPv6Network": "fd00::/48", "IPv6SubnetMax": "fd01::", ` + v + `}`, []string{"IPv6SubnetMax fd01:: is outside"}},
		{"IPv6 min not aligned", `{"EnableIPv6": true, "Network": "10.5.0.0/16", "IPv6Network": "fd00::/48", "IPv6SubnetMin": "fd00:0:0:1::1", ` + v + `}`, []string{"put fd00:0:0:1::"}},
		{"IPv6 min above max", `{"EnableIPv6": true, "Network": "10.5.0.0/16", "IPv6Network": "fd00::/48", "IPv6SubnetMin": "fd00:0:0:2::", "IPv6SubnetMax": "fd00:0:0:1::", ` + v + `}`, []string{"IPv6SubnetMin fd00:0:0:2:: is above IPv6SubnetMax"}},
		{"IPv6 network of multicast addresses", `{"EnableIPv6": true, "Network": "10.5.0.0/16", "IPv6Network": "ff05::/48", ` + v + `}`, []string{"IPv6Network ff05::/48 overlaps ff00::/8"}},
		{"IPv6 network of link-local addresses", `{"EnableIPv6": true, "Network": "10.5.0.0/16", "IPv6Network": "fe80::/48", ` + v + `}`, []string{"overlaps fe80::/10"}},
		{"IPv6 network of everything", `{"EnableIPv6": true, "Network": "10.5.0.0/16", "IPv6Network": "::/0", ` + v + `}`, []string{"overlaps ::/8"}},
		{"MTU too small for IPv6", `{"EnableIPv6": true, "Network": "10.5.0.0/16", "IPv6Network": "fd00::/48", "Backend": {"Type": "vxlan", "MTU": 1349}}`, []string{"MTU 1349 leaves 1279", "at least 1350"}},
		{"max outside", `{"Network": "10.5.0.0/16", "SubnetMax": "10.6.0.0", ` + v + `}`, []string{"SubnetMax 10.6.0.0 is outside"}},
		{"max not aligned", `{"Network": "10.5.0.0/16", "SubnetMax": "10.5.9.1", ` + v + `}`, []string{"put 10.5.9.0"}},
		{"min is empty, where flanneld stops", `{"Network": "10.5.0.0/16", "SubnetMin": "", ` + v + `}`, []string{`SubnetMin "" is no address`}},
		{"network is empty", `{"Network": "", ` + v + `}`, []string{`Network "" is no network`}},
		{"network is null, where flanneld stops", `{"Network": null, ` + v + `}`, []string{"Network is null", "leave it out"}},
		{"min is null, where flanneld stops", `{"Network": "10.5.0.0/16", "SubnetMin": null, ` + v + `}`, []string{"SubnetMin is null"}},
		{"an escaped slash, as PHP writes it", `{"Network": "10.5.0.0\/16", ` + v + `}`, []string{"with a backslash", "flanneld does not understand"}},
		{"networks for Kubernetes that are none", `{"Network": "10.5.0.0/16", "Networks": "10.6.0.0/16", ` + v + `}`, []string{`Networks is "10.6.0.0/16"`}},
		{"a network for Kubernetes that is none", `{"Network": "10.5.0.0/16", "IPv6Networks": ["x"], ` + v + `}`, []string{`IPv6Networks has "x"`}},
		{"VNI too long for the name of a device", `{"Network": "10.5.0.0/16", "Backend": {"Type": "vxlan", "VNI": 10000000}}`, []string{"flannel.10000000", "at most 9999999"}},
		{"VNI too long for the IPv6 device", `{"EnableIPv6": true, "Network": "10.5.0.0/16", "IPv6Network": "fd00::/48", "Backend": {"Type": "vxlan", "VNI": 10000}}`, []string{"flannel-v6.10000", "at most 9999"}},
		{"GBP is a number", `{"Network": "10.5.0.0/16", "Backend": {"Type": "vxlan", "GBP": 1}}`, []string{"Backend: GBP is 1: put true or false"}},
		{"Learning is a word", `{"Network": "10.5.0.0/16", "Backend": {"Type": "vxlan", "Learning": "no"}}`, []string{`Learning is "no"`}},
		{"DirectRouting is a word", `{"Network": "10.5.0.0/16", "Backend": {"Type": "vxlan", "Directrouting": "yes"}}`, []string{`DirectRouting is "yes"`}},
		{"nftables is a word", `{"Network": "10.5.0.0/16", "EnableNFTables": "yes", ` + v + `}`, []string{`EnableNFTables is "yes"`}},
		{"MTU too large", `{"Network": "10.5.0.0/16", "Backend": {"Type": "vxlan", "MTU": 65536}}`, []string{"MTU is 65536"}},
		{"MTU negative", `{"Network": "10.5.0.0/16", "Backend": {"Type": "vxlan", "MTU": -1}}`, []string{"MTU is -1"}},
		{"several faults at once", `{"Network": "x", "SubnetLen": 99, "Backend": {"Type": "udp", "Port": -1}}`,
			[]string{`Network "x"`, "SubnetLen is 99", `Type is "udp"`, "Port is -1"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := ParseConfig([]byte(tt.in))
			if err == nil {
				t.Fatal("got no error")
			}
			for _, part := range tt.want {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("got %q, want it to say %q", err, part)
				}
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("got %q, want one line", err)
			}
		})
	}
}

// Whoever mends a config wants to hear all at once: a fault in one field hides
// none between others, and is not told twice.
func TestOneFaultHidesNoOther(t *testing.T) {
	const crossed = `"SubnetMin": "10.5.9.0", "SubnetMax": "10.5.2.0"`
	tests := []struct {
		name, in string
		want     []string // the faults, each by a part of it
	}{
		{"an MTU in quotes and crossed bounds", `{"Network": "10.5.0.0/16", ` + crossed + `, "Backend": {"Type": "vxlan", "MTU": "1400"}}`, []string{`MTU is "1400"`, "SubnetMin 10.5.9.0 is above"}},
		{"a negative VNI and crossed bounds", `{"Network": "10.5.0.0/16", ` + crossed + `, "Backend": {"Type": "vxlan", "VNI": -1}}`, []string{"VNI is -1", "SubnetMin 10.5.9.0 is above"}},
		{"no network, a mistyped one, and crossed bounds", `{"Network": "x", ` + crossed + `, "Backend": {"Type": "vxlan"}}`, []string{`Network "x"`, "SubnetMin 10.5.9.0 is above"}},
		{"no Network", `{"SubnetLen": 24, ` + crossed + `, "Backend": {"Type": "vxlan"}}`, []string{"there is no Network", "SubnetMin 10.5.9.0 is above"}},
		{"a length too long and crossed bounds", `{"Network": "10.5.0.0/16", "SubnetLen": 31, ` + crossed + `, "Backend": {"Type": "vxlan"}}`, []string{"SubnetLen is 31", "SubnetMin 10.5.9.0 is above"}},
		{"a length that is a word, and a bound outside", `{"Network": "10.5.0.0/16", "SubnetLen": "24", "SubnetMin": "10.6.0.1", "Backend": {"Type": "vxlan"}}`, []string{`SubnetLen is "24"`, "SubnetMin 10.6.0.1 is outside"}},
		{"one bound mistyped, one amiss", `{"Network": "10.5.0.0/16", "SubnetMin": "ten", "SubnetMax": "10.5.2.7", "Backend": {"Type": "vxlan"}}`, []string{`SubnetMin "ten"`, "SubnetMax 10.5.2.7 is not the first"}},
		{"an MTU too small, for IPv6 too", `{"EnableIPv6": true, "Network": "10.5.0.0/16", "IPv6Network": "fd00::/48", "Backend": {"Type": "vxlan", "MTU": 500}}`, []string{"MTU 500 is too small"}},
		{"no backend and a network of loopbacks", `{"Network": "127.0.0.0/8"}`, []string{"there is no Backend", "Network 127.0.0.0/8 overlaps"}},
		{"both families", `{"EnableIPv6": true, "Network": "10.5.0.0/16", "SubnetLen": 17, "IPv6Network": "fe80::/64", "Backend": {"Type": "vxlan", "VNI": 10000}}`, []string{"SubnetLen is 17", "IPv6Network fe80::/64 overlaps", "flannel-v6.10000"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := ReadConfig([]byte(tt.in)).Faults
			for _, part := range tt.want {
				if !slices.ContainsFunc(got, func(err error) bool { return strings.Contains(err.Error(), part) }) {
					t.Errorf("got %q, want one that says %q", got, part)
				}
			}
			if len(got) != len(tt.want) {
				t.Errorf("got %d faults, want %d: %q", len(got), len(tt.want), got)
			}
		})
	}
}

func TestReadConfigKnowsWhatWasGiven(t *testing.T) {
	r := ReadConfig([]byte(`{"network": "10.5.0.0/16", "SubnetLen": null, "SubnetMin": "0.0.0.0", "Backend": {"Type": "vxlan", "mtu": 1400}, "Foo": 1}`))
	if len(r.Faults) != 0 {
		t.Fatal(r.Faults)
	}
	if d := diff(r.given, map[string]bool{"Network": true, "Backend": true, "Backend.Type": true, "Backend.MTU": true}); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
	r = ReadConfig([]byte(`{"Network": "x", "SubnetLen": 99, "Foo": 1}`))
	if len(r.Faults) != 3 || len(r.Config.Notes) != 1 {
		t.Errorf("got faults %q and notes %q, want 3 and 1", r.Faults, r.Config.Notes)
	}
}

func FuzzParseConfig(f *testing.F) {
	f.Add([]byte(usual))
	f.Add([]byte(`{"EnableIPv6": true, "Network": "10.3.0.0/16", "IPv6Network": "fc00::/48", "SubnetMin": "10.3.1.0", "Backend": {"Type": "vxlan", "VNI": 7}}`))
	f.Add([]byte(`{"Network": "10.5.0.0/16", "SubnetLen": 30, "SubnetMax": "10.5.255.252", "Backend": {"Type": "VXLAN", "MTU": 1500}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := ParseConfig(b)
		if err != nil {
			if s := err.Error(); strings.ContainsAny(s, "\n\r") || len(s) > 20000 {
				t.Errorf("got %q, want one short line", s)
			}
			return
		}
		if r := ReadConfig(b); len(r.Settings()) < 14 || len(c.Changes(r.Config)) != 0 || c.Room() < 1 {
			t.Errorf("got settings %v, changes %v and room for %d", r.Settings(), c.Changes(r.Config), c.Room())
		}
		// A config that passes can be leased from.
		switch {
		case c.Network != c.Network.Masked() || !c.Network.Addr().Is4():
			t.Errorf("Network %v is not masked IPv4", c.Network)
		case !c.fitsIPv4(netip.PrefixFrom(c.SubnetMin, c.SubnetLen)) || !c.fitsIPv4(netip.PrefixFrom(c.SubnetMax, c.SubnetLen)):
			t.Errorf("SubnetMin %v or SubnetMax %v cannot be leased", c.SubnetMin, c.SubnetMax)
		case len(c.ipv4().free(nil, 1)) != 1:
			t.Error("an empty network has no free subnet")
		case c.Backend.Type != "vxlan" || c.Backend.VNI == 0 || c.Backend.Port == 0:
			t.Errorf("got backend %+v", c.Backend)
		}
	})
}

func ip(s string) netip.Addr    { return netip.MustParseAddr(s) }
func pfx(s string) netip.Prefix { return netip.MustParsePrefix(s) }
