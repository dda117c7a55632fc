// SPDX-License-Identifier: Apache-2.0

package uplink

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"vxtap/tunnel"
)

// Somebody may give our TAP another name, and ours to something else: that is not
// ours to set up.
func TestSetUpAgainUnderAnotherName(t *testing.T) {
	d := openOn(t)
	link, err := netlink.LinkByName("vxup.1")
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{netlink.LinkSetDown(link), netlink.LinkSetName(link, "foo"), netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "vxup.1"}})} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if a := prove(d); a.verdict != passes {
		t.Errorf("got %v", a)
	}
	other, err := netlink.LinkByName("vxup.1")
	if err != nil {
		t.Fatal(err)
	}
	if other.Attrs().RawFlags&(unix.IFF_UP|unix.IFF_NOARP) == unix.IFF_UP {
		t.Error("a stranger's device was brought up")
	}
	if v, err := os.ReadFile("/proc/sys/net/ipv4/conf/vxup.1/accept_local"); err != nil || string(v) != "0\n" {
		t.Errorf("a stranger's device has accept_local=%q, %v", v, err)
	}
}

// What somebody does to the TAP or its settings is undone, and whoever writes
// goes on with the same descriptor.
func TestSetUpAgain(t *testing.T) {
	set := func(name, value string) func(*testing.T, netlink.Link) {
		return func(t *testing.T, _ netlink.Link) { sysctl(t, name, value) }
	}
	tests := []struct {
		name string
		do   func(*testing.T, netlink.Link)
	}{
		{"taken down", func(t *testing.T, l netlink.Link) {
			if err := netlink.LinkSetDown(l); err != nil {
				t.Fatal(err)
			}
		}},
		{"deleted", func(t *testing.T, l netlink.Link) {
			if err := netlink.LinkDel(l); err != nil {
				t.Fatal(err)
			}
		}},
		{"forwarding off", set("net/ipv4/conf/vxup.1/forwarding", "0")},
		{"its addresses not accepted", set("net/ipv4/conf/vxup.1/accept_local", "0")},
		{"its reverse paths filtered", set("net/ipv4/conf/vxup.1/rp_filter", "1")},
		{"reverse paths of all loosely filtered", set("net/ipv4/conf/all/rp_filter", "2")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := openOn(t)
			if a := prove(d); a.verdict != passes {
				t.Fatalf("closed: %s", a.reason)
			}
			link, err := netlink.LinkByName("vxup.1")
			if err != nil {
				t.Fatal(err)
			}
			tt.do(t, link)
			if a := d.proveAll([]question{{vtep: peerAddr}})[0]; a.verdict != blocked {
				t.Errorf("got %v, want blocked: nothing has been mended yet", a)
			}
			if a := prove(d); a.verdict != passes {
				t.Errorf("closed: %s", a.reason)
			}
			if changed, err := d.mend(); changed || err != nil {
				t.Errorf("there is something to set up again, %v: %v", changed, err)
			}
		})
	}
}

// Whoever has the host's interface in a filter before us finds it as it was:
// all that is set belongs to the device.
func TestNothingStaysBehind(t *testing.T) {
	newHost(t)
	before := settings(t)
	d := openFor(t)
	prove(d)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	after := settings(t)
	if before != after {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
}

// settings are all of the namespace's IPv4 settings, addresses and routes.
func settings(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	for _, name := range []string{"all", "default", "eth0"} {
		for _, conf := range []string{"forwarding", "accept_local", "rp_filter"} {
			v, err := os.ReadFile("/proc/sys/net/ipv4/conf/" + name + "/" + conf)
			if err != nil {
				t.Fatal(err)
			}
			b.WriteString(name + "." + conf + "=" + string(v))
		}
	}
	routes, err := netlink.RouteList(nil, netlink.FAMILY_V4)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range routes {
		b.WriteString(r.String() + "\n")
	}
	links, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		b.WriteString(l.Name + "\n")
	}
	return b.String()
}

func TestWriteFrame(t *testing.T) {
	d := openOn(t)
	g, ok := d.Gates([]netip.Addr{peerAddr})[0].(*gate)
	if !ok {
		t.Fatal("no gate")
	}
	g.take(prove(d), time.Now())
	if !g.Open() {
		t.Fatal("closed")
	}
	outer, err := d.outerTo(peerAddr)
	if err != nil {
		t.Fatal(err)
	}
	b, err := probe{40000, 2800, 1400}.frame(outer, testMark)
	if err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(10, func() {
		if err := g.WriteFrame(b); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
	bad := bytes.Clone(b)
	bad[1] = 0x20 | 0x1f // a kind of super-frame that there is not
	if err := g.WriteFrame(bad); !errors.Is(err, tunnel.ErrRefused) || g.Open() {
		t.Errorf("got %v, open %v: want %v, and the gate closed", err, g.Open(), tunnel.ErrRefused)
	}
	if a := prove(d); a.verdict != passes {
		t.Errorf("got %v after one bad frame", a)
	}
}

// A host with another address has super-frames leave whole from there.
func TestMoveOfARealHost(t *testing.T) {
	d := openOn(t)
	if a := prove(d); a.verdict != passes {
		t.Fatalf("before: got %+v", a)
	}
	link, err := netlink.LinkByName("eth0")
	if err != nil {
		t.Fatal(err)
	}
	moved := netip.MustParseAddr("192.0.2.77")
	if err := d.Move(moved); err == nil {
		t.Error("moved to an address that the host has not")
	}
	if err := netlink.AddrAdd(link, &netlink.Addr{IPNet: &net.IPNet{IP: moved.AsSlice(), Mask: net.CIDRMask(24, 32)}}); err != nil {
		t.Fatal(err)
	}
	if err := d.Move(moved); err != nil {
		t.Fatal(err)
	}
	if a := prove(d); a.verdict != passes {
		t.Errorf("after: got %+v", a)
	}
	if got := d.Endpoint().Local.Addr(); got != moved {
		t.Errorf("frames are made for %s, want %s", got, moved)
	}
}
