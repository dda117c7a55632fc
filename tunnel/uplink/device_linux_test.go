// SPDX-License-Identifier: Apache-2.0

package uplink

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"vxtap/tunnel"
)

// newHost moves the test into a network namespace of its own, a host with the
// address 192.0.2.1 on eth0, whose only neighbour is 192.0.2.2.
func newHost(t *testing.T) (eth0 netlink.Link) {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("CI") != "" {
			t.Fatal("network namespaces need root")
		}
		t.Skip("not run: network namespaces need root")
	}
	runtime.LockOSThread() // and never unlocked: the thread dies with the goroutine
	far, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { far.Close() })
	if _, err := netns.New(); err != nil {
		t.Fatal(err)
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "eth0"
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "eth0", PeerNamespace: netlink.NsFd(far)}); err != nil {
		t.Fatal(err)
	}
	there, err := netlink.NewHandleAt(far)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(there.Close)
	here, err := netlink.NewHandle()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(here.Close)
	for addr, h := range map[string]*netlink.Handle{"192.0.2.1/24": here, "192.0.2.2/24": there} {
		link, err := h.LinkByName("eth0")
		if err != nil {
			t.Fatal(err)
		}
		a, err := netlink.ParseAddr(addr)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(h.AddrAdd(link, a), h.LinkSetUp(link)); err != nil {
			t.Fatal(err)
		}
		if h == here {
			eth0 = link
		}
	}
	return eth0
}

// open opens the uplink TAP of the test's host until the test ends.
func open(t *testing.T, eth0 netlink.Link) *Device {
	t.Helper()
	d := openFor(t, eth0)
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

func openFor(t *testing.T, eth0 netlink.Link) *Device {
	t.Helper()
	d, err := Open(Config{Name: "vxup.1", Interface: eth0.Attrs().Index, Local: local, MTU: 1450})
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skipf("not run: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	d.SetPeers([]tunnel.Peer{{VTEP: netip.MustParseAddr("192.0.2.2")}})
	return d
}

// proven looks until there is an answer, and reports whether the way is open. A
// neighbour may take a while to answer on a busy machine.
func proven(d *Device) bool {
	for range 20 {
		if d.look(d.prove) != unknown {
			break
		}
	}
	return d.Ready()
}

func sysctl(t *testing.T, name, value string) {
	t.Helper()
	if err := os.WriteFile("/proc/sys/"+name, []byte(value), 0); err != nil {
		t.Fatal(err)
	}
}

// The way is proven, closed while a rule of the host stands in it, and opened
// again.
func TestProve(t *testing.T) {
	d := open(t, newHost(t))
	if d.Ready() {
		t.Error("open before anything was proven")
	}
	if !proven(d) {
		_, reason := d.State()
		t.Fatalf("closed: %s", reason)
	}
	// Only what is forwarded meets this rule, as only that meets a firewall's
	// FORWARD chain.
	rule := netlink.NewRule()
	rule.IifName, rule.Type, rule.Priority = "vxup.1", unix.FR_ACT_BLACKHOLE, 10
	if err := netlink.RuleAdd(rule); err != nil {
		t.Fatal(err)
	}
	if proven(d) {
		t.Error("open although the host drops what it should forward")
	}
	if _, reason := d.State(); !strings.Contains(reason, "FORWARD") {
		t.Errorf("reason %q", reason)
	}
	if err := netlink.RuleDel(rule); err != nil {
		t.Fatal(err)
	}
	if !proven(d) {
		_, reason := d.State()
		t.Errorf("closed after the rule has gone: %s", reason)
	}
}

// A peer that no datagram reaches proves nothing, and closes nothing.
func TestProveWithAPeerThatIsDown(t *testing.T) {
	d := open(t, newHost(t))
	d.ready.Store(true)
	d.SetPeers([]tunnel.Peer{{VTEP: netip.MustParseAddr("192.0.2.77")}, {VTEP: netip.MustParseAddr("198.51.100.1")}})
	if d.look(d.prove) != unknown || !d.Ready() {
		_, reason := d.State()
		t.Errorf("closed: %s", reason)
	}
}

func TestReversePathFilter(t *testing.T) {
	tests := []struct {
		all  string
		open bool
	}{
		{"0", true}, {"1", false}, {"2", true},
	}
	for _, tt := range tests {
		t.Run("net.ipv4.conf.all.rp_filter="+tt.all, func(t *testing.T) {
			eth0 := newHost(t)
			sysctl(t, "net/ipv4/conf/all/rp_filter", tt.all)
			if !tt.open {
				d, err := Open(Config{Name: "vxup.1", Interface: eth0.Attrs().Index, Local: local, MTU: 1450})
				if err == nil {
					d.Close()
				}
				if err == nil || !strings.Contains(err.Error(), "rp_filter=1") {
					t.Errorf("got %v", err)
				}
				if _, err := netlink.LinkByName("vxup.1"); err == nil {
					t.Error("the device is still there")
				}
				return
			}
			d := open(t, eth0)
			if !proven(d) {
				_, reason := d.State()
				t.Errorf("closed: %s", reason)
			}
		})
	}
}

// Whoever has the host's interface in a filter before us finds it as it was:
// all that is set belongs to the device.
func TestNothingStaysBehind(t *testing.T) {
	eth0 := newHost(t)
	before := settings(t)
	d := openFor(t, eth0)
	proven(d)
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
	d := open(t, newHost(t))
	if !proven(d) {
		t.Fatal("closed")
	}
	b, err := probeFrame(d.Endpoint(), netip.MustParseAddr("192.0.2.2"), 1450, 40000)
	if err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(10, func() {
		if err := d.WriteFrame(b); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
	bad := bytes.Clone(b)
	bad[1] = 0x20 | 0x1f // a kind of super-frame that there is not
	if err := d.WriteFrame(bad); !errors.Is(err, tunnel.ErrRefused) || d.Ready() {
		t.Errorf("got %v, open %v: want %v, and the way closed", err, d.Ready(), tunnel.ErrRefused)
	}
	if !proven(d) {
		t.Error("not open again after one bad frame")
	}
}
