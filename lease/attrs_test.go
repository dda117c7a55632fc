// SPDX-License-Identifier: Apache-2.0

package lease

import (
	"encoding/json"
	"strings"
	"testing"

	"vxtap/encap/ether"
)

// golden is a value as flanneld wrote it, to the byte.
const golden = `{"PublicIP":"192.168.64.3","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"c6:d2:32:6f:8f:44"}}`

const goldenDual = `{"PublicIP":"192.168.64.3","PublicIPv6":"fd00::1","BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"c6:d2:32:6f:8f:44"},"BackendV6Data":{"VNI":1,"VtepMAC":"c6:d2:32:6f:8f:45"}}`

func mac(t testing.TB, s string) ether.MAC {
	t.Helper()
	m, err := ether.ParseMAC(s)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestAttrsByteExact(t *testing.T) {
	a := Attrs{PublicIP: ip("192.168.64.3"), BackendType: "vxlan", VNI: 1, MAC: mac(t, "c6:d2:32:6f:8f:44")}
	dual := a
	dual.PublicIPv6, dual.IPv6VNI, dual.IPv6MAC = ip("fd00::1"), 1, mac(t, "c6:d2:32:6f:8f:45")
	for _, tt := range []struct {
		name string
		a    Attrs
		want string
	}{{"IPv4", a, golden}, {"dual stack", dual, goldenDual}} {
		t.Run(tt.name, func(t *testing.T) {
			b, err := json.Marshal(tt.a)
			if err != nil {
				t.Fatal(err)
			}
			if string(b) != tt.want {
				t.Errorf("got  %s\nwant %s", b, tt.want)
			}
			back, err := ParseAttrs([]byte(tt.want))
			if err != nil {
				t.Fatal(err)
			}
			if back != tt.a {
				t.Errorf("got %+v, want %+v", back, tt.a)
			}
		})
	}
}

func TestParseAttrsTolerates(t *testing.T) {
	m := mac(t, "c6:d2:32:6f:8f:44")
	tests := []struct {
		name, in string
		want     Attrs
	}{
		{"no VNI, as before 2019", `{"PublicIP":"1.2.3.4","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VtepMAC":"c6:d2:32:6f:8f:44"}}`,
			Attrs{PublicIP: ip("1.2.3.4"), BackendType: "vxlan", MAC: m}},
		{"fields of a newer flannel", `{"PublicIP":"1.2.3.4","New":{"a":[1]},"BackendType":"vxlan","BackendData":{"VNI":7,"VtepMAC":"C6:D2:32:6F:8F:44","Port":1}}`,
			Attrs{PublicIP: ip("1.2.3.4"), BackendType: "vxlan", VNI: 7, MAC: m}},
		{"a broken IPv6 half", `{"PublicIP":"1.2.3.4","PublicIPv6":"fd00::1","BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"c6:d2:32:6f:8f:44"},"BackendV6Data":7}`,
			Attrs{PublicIP: ip("1.2.3.4"), PublicIPv6: ip("fd00::1"), BackendType: "vxlan", VNI: 1, MAC: m}},
		{"an IPv6 address that is none", `{"PublicIP":"1.2.3.4","PublicIPv6":"x","BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"c6:d2:32:6f:8f:44"}}`,
			Attrs{PublicIP: ip("1.2.3.4"), BackendType: "vxlan", VNI: 1, MAC: m}},
		{"another backend", `{"PublicIP":"1.2.3.4","PublicIPv6":null,"BackendType":"host-gw"}`, Attrs{PublicIP: ip("1.2.3.4"), BackendType: "host-gw"}},
		{"the udp backend", `{"PublicIP":"1.2.3.4","PublicIPv6":null}`, Attrs{PublicIP: ip("1.2.3.4")}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ParseAttrs([]byte(tt.in))
			if err != nil {
				t.Fatal(err)
			}
			if got != tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

func TestParseAttrsRefuses(t *testing.T) {
	value := func(ip, data string) string {
		return `{"PublicIP":"` + ip + `","PublicIPv6":null,"BackendType":"vxlan","BackendData":` + data + `}`
	}
	const good = `{"VNI":1,"VtepMAC":"c6:d2:32:6f:8f:44"}`
	tests := []struct{ name, in, want string }{
		{"nothing", "", "not the JSON of a lease"},
		{"no JSON", "hello", "not the JSON of a lease"},
		{"null", "null", "names neither"},
		{"an empty object", "{}", "names neither"},
		{"nothing that is known", `{"PublicIPv6":"fd00::1","x":1}`, "names neither"},
		{"a list", "[]", "not the JSON of a lease"},
		{"no PublicIP", `{"BackendType":"vxlan","BackendData":` + good + `}`, `PublicIP "" is no IPv4 address`},
		{"PublicIP is a name", value("host", good), "is no IPv4 address"},
		{"PublicIP is IPv6", value("fd00::1", good), "is no IPv4 address"},
		{"PublicIP is IPv4-mapped", value("::ffff:1.2.3.4", good), "is no IPv4 address"},
		{"PublicIP is unspecified", value("0.0.0.0", good), "no address of one host"},
		{"PublicIP is loopback", value("127.0.0.1", good), "no address of one host"},
		{"PublicIP is multicast", value("239.1.1.1", good), "no address of one host"},
		{"PublicIP is broadcast", value("255.255.255.255", good), "no address of one host"},
		{"no BackendData", `{"PublicIP":"1.2.3.4","BackendType":"vxlan"}`, "BackendData is not the JSON of a VTEP"},
		{"BackendData is null", value("1.2.3.4", "null"), `VtepMAC ""`},
		{"BackendData is a string", value("1.2.3.4", `"x"`), "BackendData is not the JSON of a VTEP"},
		{"no MAC", value("1.2.3.4", `{"VNI":1}`), `VtepMAC "", which is no MAC address`},
		{"a MAC that does not parse", value("1.2.3.4", `{"VNI":1,"VtepMAC":"c6:d2"}`), "which is no MAC address"},
		{"a MAC of eight bytes", value("1.2.3.4", `{"VtepMAC":"c6:d2:32:6f:8f:44:00:00"}`), "which is no MAC address"},
		{"the zero MAC", value("1.2.3.4", `{"VtepMAC":"00:00:00:00:00:00"}`), "no single station"},
		{"a multicast MAC", value("1.2.3.4", `{"VtepMAC":"01:00:5e:00:00:01"}`), "no single station"},
		{"the broadcast MAC", value("1.2.3.4", `{"VtepMAC":"ff:ff:ff:ff:ff:ff"}`), "no single station"},
		{"a VNI of 25 bits", value("1.2.3.4", `{"VNI":16777216,"VtepMAC":"c6:d2:32:6f:8f:44"}`), "does not fit 24 bits"},
		{"a VNI below zero", value("1.2.3.4", `{"VNI":-1,"VtepMAC":"c6:d2:32:6f:8f:44"}`), "not the JSON of a VTEP"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a, err := ParseAttrs([]byte(tt.in))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %+v, %v, want an error that says %q", a, err, tt.want)
			}
		})
	}
}

func TestBrokenValueKeepsItsOwner(t *testing.T) {
	a, err := ParseAttrs([]byte(`{"PublicIP":"1.2.3.4","BackendType":"vxlan","BackendData":7}`))
	if err == nil || a.PublicIP != ip("1.2.3.4") {
		t.Errorf("got %+v, %v, want an error beside the PublicIP", a, err)
	}
}

func FuzzParseAttrs(f *testing.F) {
	f.Add([]byte(golden))
	f.Add([]byte(goldenDual))
	f.Add([]byte(`{"PublicIP":"1.2.3.4","BackendType":"host-gw"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := ParseAttrs(b)
		if err != nil || a.BackendType != "vxlan" {
			return
		}
		if a.MAC.IsZero() || a.MAC.IsMulticast() || !a.PublicIP.Is4() || a.PublicIP.IsMulticast() || a.PublicIP.IsUnspecified() {
			t.Fatalf("got %+v from %q", a, b)
		}
		out, err := json.Marshal(a)
		if err != nil {
			t.Fatal(err)
		}
		if !a.PublicIPv6.IsValid() && !a.IPv6MAC.IsZero() {
			t.Fatalf("got half an IPv6 half: %+v", a)
		}
		if back, err := ParseAttrs(out); err != nil || back != a {
			t.Errorf("%+v reads back as %+v, %v", a, back, err)
		}
	})
}
