// SPDX-License-Identifier: Apache-2.0

package lease

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"vxtap/encap/ether"
)

const usualDual = `{"EnableIPv6": true, "Network": "10.5.0.0/16", "IPv6Network": "fd00:5::/48", "Backend": {"Type": "vxlan"}}`

// dualHost is host with an IPv6 half, fd00:5:0:n::/64.
func dualHost(n byte, created int64) Lease {
	return with6(host(n, created), func(l *Lease) {
		l.IPv6Subnet = pfx(fmt.Sprintf("fd00:5:0:%x::/64", n))
		l.Attrs.PublicIPv6 = ip(fmt.Sprintf("fd01::%x", n))
		l.Attrs.IPv6VNI, l.Attrs.IPv6MAC = 1, ether.MAC{2, 0, 0, 0, 6, n}
	})
}

func with6(l Lease, change func(*Lease)) Lease {
	change(&l)
	l.Key = subnetsDir + SubnetKey{IPv4: l.Subnet, IPv6: l.IPv6Subnet}.String()
	return l
}

func subnetsOf(peers []Lease, of func(*Lease) half) string {
	var all []string
	for _, p := range peers {
		all = append(all, of(&p).subnet.String())
	}
	return strings.Join(all, " ")
}

// A bad IPv6 half costs a peer that half and nothing else, and is shown.
func TestSelectDual(t *testing.T) {
	own := dualHost(1, 10)
	six := func(change func(*Lease)) []Lease { return []Lease{with6(dualHost(3, 20), change), dualHost(9, 12)} }
	const v4, both, good = "10.5.3.0/24 10.5.9.0/24", "fd00:5:0:3::/64 fd00:5:0:9::/64", "fd00:5:0:9::/64"
	for _, tt := range []struct {
		name     string
		leases   []Lease
		v4, v6   string
		rejected string // part of the one reason
	}{
		{"both halves", six(func(*Lease) {}), v4, both, ""},
		{"IPv4 alone", []Lease{host(3, 20), dualHost(9, 12)}, v4, good, ""},
		{"our own is no peer", []Lease{own, dualHost(9, 12)}, "10.5.9.0/24", good, ""},
		{"outside the IPv6 network", six(func(l *Lease) { l.IPv6Subnet = pfx("fd00:6::/64") }), v4, good, "for IPv6: subnet fd00:6::/64 is outside the IPv6 network"},
		{"larger than the IPv6 network", six(func(l *Lease) { l.IPv6Subnet = pfx("fd00::/16") }), v4, good, "outside the IPv6 network"},
		{"the whole IPv6 network", six(func(l *Lease) { l.IPv6Subnet = pfx("fd00:5::/48") }), v4, good, "overlaps this host's, fd00:5:0:1::/64"},
		{"part of our own", six(func(l *Lease) { l.IPv6Subnet = pfx("fd00:5:0:1:8000::/65") }), v4, good, "overlaps this host's"},
		{"our own address", six(func(l *Lease) { l.Attrs.PublicIPv6 = own.Attrs.PublicIPv6 }), v4, good, "PublicIPv6 fd01::1 is this host's own"},
		{"our own MAC for IPv6", six(func(l *Lease) { l.Attrs.IPv6MAC = own.Attrs.IPv6MAC }), v4, good, "is this host's own"},
		{"a link-local address, where ours is not", six(func(l *Lease) { l.Attrs.PublicIPv6 = ip("fe80::7") }), v4, good, "PublicIPv6 fe80::7 is link-local"},
		{"VTEP inside the overlay", six(func(l *Lease) { l.Attrs.PublicIPv6 = ip("fd00:5::7") }), v4, good, "PublicIPv6 fd00:5::7 is inside the overlay network fd00:5::/48"},
		{"a value that is broken for IPv6", six(func(l *Lease) { l.IPv6Fault = "BackendV6Data is not the JSON of a VTEP" }), v4, good, "for IPv6: BackendV6Data is not"},
		{"overlapping an older one", six(func(l *Lease) { l.IPv6Subnet = pfx("fd00:5:0:8::/62") }), v4, good, "for IPv6: subnet fd00:5:0:8::/62 overlaps fd00:5:0:9::/64"},
		{"a bad IPv4 half costs no more than that either", six(func(l *Lease) { l.Attrs.MAC = own.Attrs.MAC }), "10.5.9.0/24", both, "VtepMAC 02:00:00:00:00:01 is this host's own"},
		{"one MAC for both families, as other programs might", six(func(l *Lease) { l.Attrs.IPv6MAC = l.Attrs.MAC }), v4, both, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			slices.SortFunc(tt.leases, func(a, b Lease) int { return strings.Compare(a.Key, b.Key) })
			got := Snapshot{Leases: tt.leases}.Select(mustConfig(t, usualDual), own)
			if v4, v6 := subnetsOf(got.Peers, ipv4Half), subnetsOf(got.IPv6Peers, ipv6Half); v4 != tt.v4 || v6 != tt.v6 {
				t.Errorf("got %q and %q, want %q and %q", v4, v6, tt.v4, tt.v6)
			}
			switch {
			case tt.rejected == "":
				if len(got.Rejected) != 0 {
					t.Errorf("got rejected %v", got.Rejected)
				}
			case len(got.Rejected) != 1 || got.Rejected[0].Key != tt.leases[0].Key || !strings.Contains(got.Rejected[0].Reason, tt.rejected):
				t.Errorf("got rejected %v, want the key %s and %q", got.Rejected, tt.leases[0].Key, tt.rejected)
			}
		})
	}
}

// F8: a network without IPv6 takes no notice of IPv6 halves, broken ones included.
func TestF8NoIPv6NoFaults(t *testing.T) {
	bad := with6(dualHost(3, 2), func(l *Lease) { l.IPv6Subnet, l.IPv6Fault = pfx("fd99::/64"), "broken" })
	got := Snapshot{Leases: []Lease{bad, dualHost(9, 2)}}.Select(mustConfig(t, usual), host(1, 1))
	if len(got.Peers) != 2 || len(got.IPv6Peers) != 0 || len(got.Rejected) != 0 {
		t.Errorf("got %+v, want two peers", got)
	}
}

// A host without IPv6 in a dual-stack network has no half of its own to compare.
func TestSelectDualWithoutOwnHalf(t *testing.T) {
	got := Snapshot{Leases: []Lease{dualHost(9, 2)}}.Select(mustConfig(t, usualDual), host(1, 1))
	if len(got.Peers) != 1 || len(got.IPv6Peers) != 1 || len(got.Rejected) != 0 {
		t.Errorf("got %+v", got)
	}
}

// On one link hosts may go without other addresses, as flanneld lets them.
func TestSelectLinkLocal(t *testing.T) {
	link := func(l *Lease) { l.Attrs.PublicIPv6 = ip(fmt.Sprintf("fe80::%d", l.Subnet.Addr().As4()[2])) }
	got := Snapshot{Leases: []Lease{with6(dualHost(9, 2), link)}}.Select(mustConfig(t, usualDual), with6(dualHost(1, 1), link))
	if len(got.IPv6Peers) != 1 || len(got.Rejected) != 0 {
		t.Errorf("got %+v", got)
	}
}

func TestReadEntryIPv6Fault(t *testing.T) {
	const v4 = `{"PublicIP":"192.168.64.3","BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"c6:d2:32:6f:8f:44"}`
	good := `,"PublicIPv6":"fd00::1","BackendV6Data":{"VNI":1,"VtepMAC":"c6:d2:32:6f:8f:45"}}`
	for _, tt := range []struct{ name, key, rest, want string }{
		{"good", "10.5.9.0-24&fd00:5:0:9::-64", good, ""},
		{"no IPv6 at all", "10.5.9.0-24", "}", ""},
		{"in the value alone, which flannel does not look at", "10.5.9.0-24", `,"PublicIPv6":"x"}`, ""},
		{"in the key alone", "10.5.9.0-24&fd00:5:0:9::-64", "}", "names no PublicIPv6"},
		{"null", "10.5.9.0-24&fd00:5:0:9::-64", `,"PublicIPv6":null}`, "names no PublicIPv6"},
		{"no address", "10.5.9.0-24&fd00:5:0:9::-64", strings.Replace(good, "fd00::1", "host-3", 1), `PublicIPv6 "host-3" is no IPv6 address`},
		{"IPv4-compatible", "10.5.9.0-24&fd00:5:0:9::-64", strings.Replace(good, "fd00::1", "::1.2.3.4", 1), "PublicIPv6 ::102:304 is an IPv4 address written as an IPv6 one"},
		{"IPv4-compatible, written otherwise", "10.5.9.0-24&fd00:5:0:9::-64", strings.Replace(good, "fd00::1", "0::c0:2", 1), "is an IPv4 address written as an IPv6 one"},
		{"IPv4-mapped", "10.5.9.0-24&fd00:5:0:9::-64", strings.Replace(good, "fd00::1", "::ffff:1.2.3.4", 1), "is no IPv6 address"},
		{"multicast", "10.5.9.0-24&fd00:5:0:9::-64", strings.Replace(good, "fd00::1", "ff02::1", 1), "is no address of one host"},
		{"loopback", "10.5.9.0-24&fd00:5:0:9::-64", strings.Replace(good, "fd00::1", "::1", 1), "is no address of one host"},
		{"with a zone", "10.5.9.0-24&fd00:5:0:9::-64", strings.Replace(good, "fd00::1", "fe80::1%eth0", 1), "is no IPv6 address"},
		{"multicast MAC", "10.5.9.0-24&fd00:5:0:9::-64", strings.Replace(good, "c6:d2:32:6f:8f:45", "01:00:5e:00:00:01", 1), "BackendV6Data has VtepMAC 01:00:5e:00:00:01"},
		{"zero MAC", "10.5.9.0-24&fd00:5:0:9::-64", strings.Replace(good, "c6:d2:32:6f:8f:45", "00:00:00:00:00:00", 1), "which no single station can have"},
		{"no MAC", "10.5.9.0-24&fd00:5:0:9::-64", `,"PublicIPv6":"fd00::1"}`, "BackendV6Data is not"},
		{"control characters", "10.5.9.0-24&fd00:5:0:9::-64", strings.Replace(good, "fd00::1", `\u001b[2J`, 1), "is no IPv6 address"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := readEntry(Pair{Key: subnetsDir + tt.key, Value: []byte(v4 + tt.rest), Created: 1, Revision: 1})
			if e.fault != "" || (e.IPv6Fault == "") != (tt.want == "") || !strings.Contains(e.IPv6Fault, tt.want) {
				t.Errorf("got fault %q and for IPv6 %q, want %q", e.fault, e.IPv6Fault, tt.want)
			}
			if strings.Contains(e.IPv6Fault, "\x1b") {
				t.Errorf("got %q with a control character", e.IPv6Fault)
			}
		})
	}
}

func TestFreeIPv6(t *testing.T) {
	for _, tt := range []struct {
		name, config string
		held         []string
		want         string
	}{
		{"nothing leased", usualDual, nil, "fd00:5:0:1::/64 fd00:5:0:2::/64"},
		{"one leased, and part of another", usualDual, []string{"fd00:5:0:1::/64", "fd00:5:0:3::1/127"}, "fd00:5:0:2::/64 fd00:5:0:4::/64"},
		{"half the network", usualDual, []string{"fd00:5::/49"}, "fd00:5:0:8000::/64 fd00:5:0:8001::/64"},
		{"all of it in two", usualDual, []string{"fd00:5::/49", "fd00:5:0:8000::/49"}, ""},
		{"the whole network is nobody's", usualDual, []string{"fd00:5::/48"}, "fd00:5:0:1::/64 fd00:5:0:2::/64"},
		{"at the end of the address space", `{"EnableIPv6": true, "Network": "10.5.0.0/16", "IPv6Network": "fd7f:ffff:ffff:ffff:ffff:ffff:ffff:fff0/124", "Backend": {"Type": "vxlan"}}`,
			[]string{"fd7f:ffff:ffff:ffff:ffff:ffff:ffff:fff4/126"}, "fd7f:ffff:ffff:ffff:ffff:ffff:ffff:fff8/126 fd7f:ffff:ffff:ffff:ffff:ffff:ffff:fffc/126"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var entries []*entry
			for _, s := range tt.held {
				entries = append(entries, &entry{held: pfx("10.5.1.0/24"), heldIPv6: pfx(s)})
			}
			var got []string
			for _, p := range free(mustConfig(t, tt.config).ipv6(), entries, 2) {
				got = append(got, p.String())
			}
			if strings.Join(got, " ") != tt.want {
				t.Errorf("got %v, want %s", got, tt.want)
			}
		})
	}
}

// As the IPv4 test of the same name does, with the last subnet there is.
func TestFreeIPv6AgainstThePlainWay(t *testing.T) {
	n := plan{family: ipv6, network: pfx("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ff00/120"), len: 124,
		min: ip("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ff10"), max: ip("ffff:ffff:ffff:ffff:ffff:ffff:ffff:fff0")}
	r := rand.New(rand.NewPCG(5, 6))
	for range 300 {
		var entries []*entry
		var held []netip.Prefix
		for range r.IntN(12) {
			a := n.network.Addr().As16()
			a[15] = byte(r.IntN(256))
			p, _ := netip.AddrFrom16(a).Prefix(121 + r.IntN(7))
			held, entries = append(held, p), append(entries, &entry{heldIPv6: p})
		}
		var want []netip.Prefix
		for b := 0x10; b < 0x100; b += 0x10 {
			a := n.network.Addr().As16()
			a[15] = byte(b)
			if p := netip.PrefixFrom(netip.AddrFrom16(a), 124); !slices.ContainsFunc(held, p.Overlaps) {
				want = append(want, p)
			}
		}
		if got := free(n, entries, 100); !slices.Equal(got, want) {
			t.Fatalf("held %v: got %v, want %v", held, got, want)
		}
	}
}

func TestFitsDual(t *testing.T) {
	c := mustConfig(t, usualDual)
	for _, tt := range []struct {
		name string
		key  SubnetKey
		want bool
	}{
		{"both", SubnetKey{pfx("10.5.2.0/24"), pfx("fd00:5:0:2::/64")}, true},
		{"IPv4 alone, of a host without IPv6", SubnetKey{IPv4: pfx("10.5.2.0/24")}, true},
		{"below IPv6SubnetMin", SubnetKey{pfx("10.5.2.0/24"), pfx("fd00:5::/64")}, false},
		{"of another length", SubnetKey{pfx("10.5.2.0/24"), pfx("fd00:5:0:2::/65")}, false},
		{"of another network", SubnetKey{pfx("10.5.2.0/24"), pfx("fd00:6:0:2::/64")}, false},
		{"an IPv4 half of another network", SubnetKey{pfx("10.6.2.0/24"), pfx("fd00:5:0:2::/64")}, false},
	} {
		if got := c.fits(tt.key); got != tt.want {
			t.Errorf("%s: got %v, want %v", tt.name, got, tt.want)
		}
	}
}
