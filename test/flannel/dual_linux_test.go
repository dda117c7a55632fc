// SPDX-License-Identifier: Apache-2.0

package flannel

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"

	"vxtap/cmd/vxlab/lab"
	"vxtap/test/bed"
	"vxtap/test/traffic"
)

// dualLab is a lab of a dual-stack network.
func dualLab(hosts int, args ...string) lab.Options {
	return lab.Options{
		Hosts: hosts, Args: args,
		IPv6Underlay: netip.MustParsePrefix("2001:db8:77::/64"), IPv6Network: netip.MustParsePrefix("fd00:30::/48"),
	}
}

// bothFamilies is what a packet of full size may have in either family.
const bothFamilies = 1500 - 70

// pair is two ends that are to reach each other.
type pair struct {
	name string
	a, b traffic.End
}

// TestTrafficDualStack is TestTraffic in a dual-stack network: IPv4 by
// flannel.1 over IPv4, IPv6 by flannel-v6.1 over IPv6, with kernel VXLAN on the
// other side.
func TestTrafficDualStack(t *testing.T) {
	flanneld := bed.FlanneldBinary(t)
	for _, tt := range []struct {
		name string
		args []string
	}{
		{"offloads on", nil},
		{"offloads off", []string{"-offload=off"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := bed.Up(t, dualLab(2, tt.args...))
			f := b.JoinDualFlanneld(t.Context(), flanneld)
			fitContainer(t, f)
			for _, p := range dualPairs(b, f) {
				t.Run(p.name, func(t *testing.T) {
					bed.Eventually(t, 5*time.Second, func() error { return reaches(t, p.b, p.a) })
					ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
					defer cancel()
					if err := traffic.BothWays(ctx, p.a, p.b, bothFamilies, streamBytes); err != nil {
						t.Error(err)
					}
				})
			}
		})
	}
}

func dualPairs(b *bed.Bed, f *bed.DualFlanneld) []pair {
	return []pair{
		{"IPv4, container of ours, container of ours", b.ContainerEnd(1), b.ContainerEnd(2)},
		{"IPv6, container of ours, container of ours", b.ContainerEnd6(1), b.ContainerEnd6(2)},
		{"IPv4, container of ours, container of flanneld's", b.ContainerEnd(1), f.ContainerEnd()},
		{"IPv6, container of ours, container of flanneld's", b.ContainerEnd6(1), f.ContainerEnd6()},
		{"IPv4, host of ours, host of flanneld's", b.HostEnd(1), f.HostEnd()},
		{"IPv6, host of ours, host of flanneld's", b.HostEnd6(1), f.HostEnd6()},
		{"IPv6, container of ours, host of flanneld's", b.ContainerEnd6(2), f.HostEnd6()},
		{"IPv6, host of ours, container of flanneld's", b.HostEnd6(2), f.ContainerEnd6()},
	}
}

// fitContainer gives a flanneld's container the MTU that it ought to have said,
// see F13.
func fitContainer(t *testing.T, f *bed.DualFlanneld) {
	t.Helper()
	err := errors.Join(f.Container.SetMTU("eth0", bothFamilies), f.Namespace.SetMTU("veth0", bothFamilies), f.Namespace.SetMTU("cni0", bothFamilies))
	if err != nil {
		t.Fatal(err)
	}
}

// What both write into etcd and for container runtimes is the same, but for the
// addresses, and for the MTU: F13.
func TestLeaseDualStack(t *testing.T) {
	flanneld := bed.FlanneldBinary(t)
	b := bed.Up(t, dualLab(1))
	f := b.JoinDualFlanneld(t.Context(), flanneld)
	ourKey, ours := b.LeaseOf(b.Host(1))
	theirKey, theirs := b.LeaseOf(lab.Host{VTEP: f.VTEP})
	for _, tt := range []struct{ name, ours, theirs, want string }{
		{"key", ourKey, theirKey, bed.Prefix + "/subnets/172.30.N.0-24&fd00:30:0:N::-64"},
		{
			"value", ours, theirs,
			`{"PublicIP":"192.168.77.N","PublicIPv6":"2001:db8:77::N","BackendType":"vxlan",` +
				`"BackendData":{"VNI":1,"VtepMAC":"MAC"},"BackendV6Data":{"VNI":1,"VtepMAC":"MAC"}}`,
		},
	} {
		if got := nameless(tt.ours); got != tt.want {
			t.Errorf("got %s %s, want %s", tt.name, got, tt.want)
		}
		if got := nameless(tt.theirs); got != tt.want {
			t.Errorf("flanneld has %s %s, want %s", tt.name, got, tt.want)
		}
	}
	for _, ns := range []string{"h1", f.Node} {
		_, value := b.LeaseOf(hostOf(t, b, ns))
		v4, err4 := bed.MAC(b.Node(ns))
		v6, err6 := bed.MAC6(b.Node(ns))
		if err := errors.Join(err4, err6); err != nil {
			t.Fatal(err)
		}
		if want := fmt.Sprintf(`"BackendData":{"VNI":1,"VtepMAC":"%s"},"BackendV6Data":{"VNI":1,"VtepMAC":"%s"}`, v4, v6); !strings.Contains(value, want) || v4 == v6 {
			t.Errorf("%s has %s, want %s, of its two devices", ns, value, want)
		}
	}
}

// nameless takes out of a key, a value or a subnet file what differs between
// hosts.
func nameless(s string) string {
	for _, r := range []struct{ find, put string }{
		{`(172\.30)\.[1-9]\d*\.`, "$1.N."},
		{`(fd00:30:0):[0-9a-f]+::`, "$1:N::"},
		{`(192\.168\.77)\.\d+`, "$1.N"},
		{`(2001:db8:77:):[0-9a-f]+`, "$1:N"},
		{`[0-9a-f]{2}(:[0-9a-f]{2}){5}`, "MAC"},
	} {
		s = regexp.MustCompile(r.find).ReplaceAllString(s, r.put)
	}
	return s
}

// F13: containers of a flanneld's host are told an MTU that is 20 bytes more than
// its IPv6 device has: what they send of that size is refused by their host. Ours
// are told one that fits both families.
func TestF13MTUOfIPv6(t *testing.T) {
	flanneld := bed.FlanneldBinary(t)
	b := bed.Up(t, dualLab(1))
	f := b.JoinDualFlanneld(t.Context(), flanneld)
	ours := subnetFile(t, b.Host(1))
	const env = "FLANNEL_NETWORK=172.30.0.0/16\nFLANNEL_SUBNET=172.30.N.1/24\nFLANNEL_IPV6_NETWORK=fd00:30::/48\nFLANNEL_IPV6_SUBNET=fd00:30:0:N::1/64\nFLANNEL_MTU=%d\nFLANNEL_IPMASQ=false\n"
	if got, want := nameless(ours), fmt.Sprintf(env, bothFamilies); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := nameless(f.SubnetFile()), fmt.Sprintf(env, 1450); got != want {
		t.Errorf("flanneld has %q, want %q: it has been mended?", got, want)
	}
	for _, ns := range []string{"h1", f.Node} {
		i, err := b.Node(ns).Interface("flannel-v6.1")
		if err != nil || i.MTU != bothFamilies {
			t.Errorf("%s: got an MTU of %d, error %v, want %d", ns, i.MTU, err, bothFamilies)
		}
	}
	bed.Eventually(t, 5*time.Second, func() error { return reaches(t, b.ContainerEnd6(1), f.ContainerEnd6()) })
	full := func(from, to traffic.End, mtu int) error {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		return traffic.Datagrams(ctx, from, to, mtu-40-8)
	}
	if err := full(f.ContainerEnd6(), b.ContainerEnd6(1), 1450); err == nil {
		t.Error("a container of flanneld's may use the MTU that it was told: it has been mended")
	}
	if err := full(b.ContainerEnd6(1), f.ContainerEnd6(), bothFamilies); err != nil {
		t.Errorf("a container of ours may not use the MTU that it was told: %v", err)
	}
}
