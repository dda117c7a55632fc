// SPDX-License-Identifier: Apache-2.0

package lease

import (
	"bytes"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"vxtap/encap/ether"
)

const goldenMemory = `{"format":1,"prefix":"/coreos.com/network/","at":"2026-11-24T10:00:00Z","expires":"2026-11-25T09:00:00Z",` +
	`"config":{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}},` +
	`"own":{"key":"subnets/10.5.1.0-24","value":{"PublicIP":"192.0.2.1","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"02:00:00:00:00:01"}},"created":3,"revision":4,"grant":1000},` +
	`"revision":9,"leases":[` +
	`{"key":"subnets/10.5.1.0-24","value":{"PublicIP":"192.0.2.1","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"02:00:00:00:00:01"}},"created":3,"revision":4,"grant":1000},` +
	`{"key":"subnets/10.5.2.0-24","value":{"PublicIP":"192.0.2.2","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"02:00:00:00:00:02"}},"created":5,"revision":6,"grant":0},` +
	`{"key":"subnets/10.5.3.0-24","value":{"PublicIP":"192.0.2.3","PublicIPv6":null,"BackendType":"host-gw"},"created":7,"revision":7,"grant":1002}]}`

// usualMemory is what goldenMemory says.
func usualMemory(t testing.TB) Memory {
	t.Helper()
	value := []byte(`{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}`)
	c, err := ParseConfig(value)
	if err != nil {
		t.Fatal(err)
	}
	host := func(n byte, grant GrantID) Lease {
		return Lease{
			Key: "subnets/10.5." + string('0'+n) + ".0-24", Subnet: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 5, n, 0}), 24),
			Attrs: Attrs{PublicIP: netip.AddrFrom4([4]byte{192, 0, 2, n}), BackendType: "vxlan", VNI: 1, MAC: ether.MAC{2, 0, 0, 0, 0, n}},
			Grant: grant,
		}
	}
	one, two, three := host(1, 1000), host(2, 0), host(3, 1002)
	one.Created, one.Revision = 3, 4
	two.Created, two.Revision = 5, 6
	three.Created, three.Revision = 7, 7
	three.Attrs = Attrs{PublicIP: three.Attrs.PublicIP, BackendType: "host-gw"}
	m := Memory{
		Prefix: "/coreos.com/network/", At: time.Date(2026, 11, 24, 10, 0, 0, 0, time.UTC),
		Config: c, ConfigValue: value, Own: one, All: Snapshot{Leases: []Lease{one, two, three}, Revision: 9},
	}
	m.Own.Expires = time.Date(2026, 11, 25, 9, 0, 0, 0, time.UTC)
	return m
}

var sameMemory = cmp.Options{cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}), cmpopts.EquateEmpty()}

func TestMemoryToTheByte(t *testing.T) {
	m := usualMemory(t)
	b, err := m.encode()
	if err != nil || string(b) != goldenMemory {
		t.Errorf("got %v and\n%s\nwant\n%s", err, b, goldenMemory)
	}
	got, err := ParseMemory([]byte(goldenMemory))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(m, got, sameMemory); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}

	m.IPv6MAC = ether.MAC{2, 0, 0, 0, 6, 1} // of a host without IPv6 at present
	want := strings.Replace(goldenMemory, `"at":`, `"ipv6_mac":"02:00:00:00:06:01","at":`, 1)
	if b, err = m.encode(); err != nil || string(b) != want {
		t.Errorf("got %v and\n%s\nwant\n%s", err, b, want)
	}
	if got, err = ParseMemory(b); err != nil || got.IPv6MAC != m.IPv6MAC {
		t.Errorf("got MAC %s, %v, want %s", got.IPv6MAC, err, m.IPv6MAC)
	}
}

func TestParseMemoryRefuses(t *testing.T) {
	change := func(old, with string) string {
		if !strings.Contains(goldenMemory, old) {
			t.Fatalf("there is no %q", old)
		}
		return strings.Replace(goldenMemory, old, with, 1)
	}
	for _, tt := range []struct{ name, text, want string }{
		{"nothing", "", "not JSON"},
		{"half of it", goldenMemory[:len(goldenMemory)/2], "not whole"},
		{"zeros, as after a crash of the disk", strings.Repeat("\x00", 4096), "not JSON"},
		{"JSON of something else", `[1]`, "not JSON"},
		{"a field of another type", change(`"leases":[`, `"leases":"x","x":[`), "JSON of something else"},
		{"a later format", change(`"format":1`, `"format":2`), "format 2"},
		{"no format", change(`"format":1,`, ``), "format 0"},
		{"no time", change(`"at":"2026-11-24T10:00:00Z"`, `"at":"0001-01-01T00:00:00Z"`), "when it was true"},
		{"no end", change(`"expires":"2026-11-25T09:00:00Z"`, `"expires":null`), "when it ends"},
		{"a config that flanneld refuses", change(`"Type":"vxlan"`, `"Type":"ipsec"`), "Backend"},
		{"no config", change(`"config":{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}`, `"config":null`), "network config"},
		{"own lease in another network", change(`"own":{"key":"subnets/10.5.1.0-24"`, `"own":{"key":"subnets/10.6.1.0-24"`), "does not fit"},
		{"own lease of another length", change(`"own":{"key":"subnets/10.5.1.0-24"`, `"own":{"key":"subnets/10.5.1.0-25"`), "does not fit"},
		{"own lease beside the directory", change(`"own":{"key":"subnets/`, `"own":{"key":"/`), "own lease"},
		{"own MAC of a group", change(`02:00:00:00:00:01`, `ff:ff:ff:ff:ff:ff`), "VtepMAC"},
		{"a MAC for IPv6 that is none", change(`"at":`, `"ipv6_mac":"x","at":`), "MAC for IPv6"},
		{"a MAC for IPv6 of a group", change(`"at":`, `"ipv6_mac":"33:33:00:00:00:01","at":`), "MAC for IPv6"},
		{"a MAC for IPv6 of zeros", change(`"at":`, `"ipv6_mac":"00:00:00:00:00:00","at":`), "MAC for IPv6"},
		{"own address in the overlay", change(`"PublicIP":"192.0.2.1"`, `"PublicIP":"10.5.9.9"`), "inside the overlay"},
		{"own backend is another", change(`"BackendType":"vxlan","BackendData"`, `"BackendType":"udp","BackendData"`), "backend"},
		{"a key twice", change(`10.5.2.0-24`, `10.5.3.0-24`), "twice"},
		{"too large", strings.Repeat(" ", maxMemory+1), "larger"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m, err := ParseMemory([]byte(tt.text))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want an error with %q", err, tt.want)
			}
			if d := cmp.Diff(Memory{}, m, sameMemory); d != "" {
				t.Errorf("got something beside the error: %s", d)
			}
		})
	}
}

// What strangers wrote about others costs those alone.
func TestParseMemoryLeavesOutOneLease(t *testing.T) {
	m, err := ParseMemory([]byte(strings.ReplaceAll(goldenMemory, "192.0.2.2", "224.0.0.1")))
	if err != nil {
		t.Fatal(err)
	}
	if len(m.All.Leases) != 2 || len(m.All.Rejected) != 1 || m.All.Rejected[0].Key != "subnets/10.5.2.0-24" {
		t.Errorf("got %+v, want 10.5.2.0/24 left out", m.All)
	}
}

func TestMemoryFile(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made", "for it")
	path := filepath.Join(dir, "m.json")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, left := range []string{".m.json123", ".m.json9"} { // by writers that were killed
		if err := os.WriteFile(filepath.Join(dir, left), []byte("{"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	m := usualMemory(t)
	for range 2 {
		if err := m.WriteFile(path); err != nil {
			t.Fatal(err)
		}
	}
	got, err := ReadMemory(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(m, got, sameMemory); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
	assertMode(t, path, 0o600)
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("got %v, %v, want the one file and no temporary one", left, err)
	}
}

// FuzzParseMemory: what is read is whole, and reads back as the same.
func FuzzParseMemory(f *testing.F) {
	f.Add([]byte(goldenMemory))
	f.Add([]byte(strings.ReplaceAll(goldenMemory, "192.0.2.2", "nowhere")))
	f.Add([]byte(strings.Replace(goldenMemory, `"grant":1000`, `"grant":0`, 1)))
	f.Add([]byte(strings.Replace(goldenMemory, `10.5.2.0-24`, `10.5.2.0-24\u0026fd00::-64`, 1)))
	f.Add([]byte(strings.Replace(goldenMemory, `"at":`, `"ipv6_mac":"02:00:00:00:06:01","at":`, 1)))
	f.Add([]byte(goldenMemory[:100]))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := ParseMemory(b)
		if err != nil {
			return
		}
		own := m.Own
		switch {
		case m.At.IsZero() || !within(m.Config.Network, own.Subnet) || m.Config.Network.Contains(own.Attrs.PublicIP):
			t.Errorf("got %+v", m)
		case !own.Attrs.PublicIP.Is4() || own.Attrs.MAC.IsZero() || own.Attrs.MAC.IsMulticast():
			t.Errorf("got own %+v", own)
		case own.Expires.IsZero() && !own.Reserved():
			t.Errorf("own %+v never ends", own)
		}
		for _, p := range m.All.Select(m.Config, own).Peers {
			if p.Subnet.Overlaps(own.Subnet) || p.Attrs.PublicIP == own.Attrs.PublicIP || p.Attrs.MAC == own.Attrs.MAC {
				t.Errorf("got peer %+v of %+v", p, own)
			}
		}
		m.All.Rejected = nil // is not written
		written, err := m.encode()
		if err != nil {
			t.Fatalf("%+v is not written: %v", m, err)
		}
		back, err := ParseMemory(written)
		if err != nil {
			t.Fatalf("%s is not read: %v", written, err)
		}
		again, err := back.encode()
		if err != nil || !bytes.Equal(written, again) {
			t.Errorf("got %v and\n%s\nof\n%s", err, again, written)
		}
	})
}
