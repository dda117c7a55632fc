// SPDX-License-Identifier: Apache-2.0

package flannel

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"vxtap/cmd/vxlab/lab"
	"vxtap/test/bed"
	"vxtap/test/traffic"
)

// In a dual-stack network a host's vxtap is replaced by a real flanneld and that by
// vxtap again. Both families reach the other host all the time, and neither subnet
// changes.
func TestHandoverDualStack(t *testing.T) {
	flanneld := bed.FlanneldBinary(t)
	b := bed.Up(t, lab.Options{
		Hosts: 2, Args: []string{"-takeover"},
		IPv6Underlay: netip.MustParsePrefix("2001:db8:77::/64"), IPv6Network: netip.MustParsePrefix("fd00:30::/48"),
	})
	reached := func() {
		t.Helper()
		for _, pair := range [][2]traffic.End{{b.ContainerEnd(1), b.ContainerEnd(2)}, {b.ContainerEnd6(1), b.ContainerEnd6(2)}} {
			for _, way := range [][2]traffic.End{pair, {pair[1], pair[0]}} {
				bed.Eventually(t, 10*time.Second, func() error { return reaches(t, way[0], way[1]) })
			}
		}
	}
	reached()
	before := b.Host(1)
	env := subnetFile(t, before)
	key, _ := b.LeaseOf(before)

	// flanneld wants a default route for each family.
	bed.Run(t, b.Node("h1"), "ip", "-6", "route", "add", "default", "via", "2001:db8:77::1", "dev", "eth0")
	if err := b.StopHost(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	f := b.FlanneldOn(1, flanneld)
	got := subnetFile(t, before)
	if want := strings.Replace(env, "FLANNEL_MTU=1430", "FLANNEL_MTU=1450", 1); got != want { // F13
		t.Errorf("flanneld wrote subnet file %q, want %q", got, want)
	}
	if k, _ := b.LeaseOf(before); k != key {
		t.Errorf("flanneld took %s, want %s", k, key)
	}
	reached()

	f.Stop()
	if err := b.StartHost(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	if after := b.Host(1); after.Subnet != before.Subnet || after.IPv6Subnet != before.IPv6Subnet {
		t.Errorf("got %+v, had %+v", after, before)
	}
	text, err := os.ReadFile(filepath.Join(before.RunDir, "vxtap.log"))
	if err != nil || strings.Count(string(text), "the kernel's vxlan device is replaced") != 2 {
		t.Errorf("the log does not say that two devices were replaced: %v\n%s", err, text)
	}
	reached()
}
