// SPDX-License-Identifier: Apache-2.0

package uplink

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

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

// openOn opens the uplink TAP of a new host.
func openOn(t *testing.T) *Device {
	t.Helper()
	newHost(t)
	return open(t)
}

// open opens the uplink TAP of the test's host until the test ends.
func open(t *testing.T) *Device {
	t.Helper()
	d := openFor(t)
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

func openFor(t *testing.T) *Device {
	t.Helper()
	d, err := Open(config(false))
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skipf("not run: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func config(must bool) Config {
	return Config{Name: "vxup.1", Local: local, MTU: 1450, Must: must, Ports: []uint16{49152, 49153, 49154, 49155}}
}

// prove asks about the host's neighbour, until there is an answer: a neighbour
// may take a while to answer on a busy machine.
func prove(d *Device) answer {
	for range 20 {
		if a := d.ask([]question{{vtep: peerAddr, anew: true}})[0]; a.verdict != unknown {
			return a
		}
	}
	return answer{}
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
	d := openOn(t)
	if a := prove(d); a.verdict != passes {
		t.Fatalf("closed: %s", a.reason)
	}
	// Only what is forwarded meets this rule, as only that meets a firewall's
	// FORWARD chain.
	rule := netlink.NewRule()
	rule.IifName, rule.Type, rule.Priority = "vxup.1", unix.FR_ACT_BLACKHOLE, 10
	if err := netlink.RuleAdd(rule); err != nil {
		t.Fatal(err)
	}
	if a := prove(d); a.verdict != blocked || !strings.Contains(a.reason, "FORWARD") {
		t.Errorf("got %v although the host drops what it should forward", a)
	}
	if err := netlink.RuleDel(rule); err != nil {
		t.Fatal(err)
	}
	if a := prove(d); a.verdict != passes {
		t.Errorf("closed after the rule has gone: %s", a.reason)
	}
}

// Each peer has an answer of its own: one that is down, one behind a rule, one
// without a route, one on the way to which packets must be smaller, and one that
// is there.
func TestProveSeveral(t *testing.T) {
	eth0 := newHost(t)
	d := open(t)
	rule := netlink.NewRule()
	rule.IifName, rule.Type, rule.Priority, rule.Dst = "vxup.1", unix.FR_ACT_BLACKHOLE, 10, single("192.0.2.3")
	if err := netlink.RuleAdd(rule); err != nil {
		t.Fatal(err)
	}
	small := &netlink.Route{LinkIndex: eth0.Attrs().Index, Dst: single("192.0.2.4"), MTU: 1000}
	if err := netlink.RouteAdd(small); err != nil {
		t.Fatal(err)
	}
	for _, ip := range []string{"192.0.2.3", "192.0.2.4"} { // nobody answers for them
		neighbour := &netlink.Neigh{LinkIndex: eth0.Attrs().Index, State: unix.NUD_PERMANENT, IP: net.ParseIP(ip), HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 9}}
		if err := netlink.NeighAdd(neighbour); err != nil {
			t.Fatal(err)
		}
	}
	prove(d)
	tests := []struct {
		peer    string
		verdict verdict
		reason  string
	}{
		{"192.0.2.77", unknown, ""},
		{"192.0.2.3", blocked, "drops what it should forward"},
		{"198.51.100.1", blocked, "no way to the peer at all"},
		{"192.0.2.4", blocked, "fragments"},
		{"192.0.2.2", passes, ""},
	}
	var peers []question
	for _, tt := range tests {
		peers = append(peers, question{vtep: netip.MustParseAddr(tt.peer)})
	}
	for i, a := range d.proveAll(peers) {
		if tt := tests[i]; a.verdict != tt.verdict || !strings.Contains(a.reason, tt.reason) || (a.reason == "") != (tt.reason == "") {
			t.Errorf("%s: got %v, want %v for %q", tt.peer, a, tt.verdict, tt.reason)
		}
	}
}

// A window that sees little must see as many peers as one look asks about, at
// the largest MTU too.
func TestProveMany(t *testing.T) {
	for _, mtu := range []int{1450, 64950} {
		t.Run(strconv.Itoa(mtu), func(t *testing.T) {
			eth0 := newHost(t)
			c := config(false)
			c.MTU = mtu
			if err := netlink.LinkSetMTU(eth0, mtu+50); err != nil {
				t.Fatal(err)
			}
			d, err := Open(c)
			if errors.Is(err, errors.ErrUnsupported) {
				t.Skipf("not run: %v", err)
			}
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			prove(d) // the link takes a while to come up
			var peers []question
			for i := range perLook + curiosity {
				a := netip.AddrFrom4([4]byte{192, 0, 2, byte(100 + i)})
				peers = append(peers, question{vtep: a, anew: true})
				neighbour := &netlink.Neigh{LinkIndex: eth0.Attrs().Index, State: unix.NUD_PERMANENT, IP: a.AsSlice(), HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 9}}
				if err := netlink.NeighAdd(neighbour); err != nil {
					t.Fatal(err)
				}
			}
			for i, a := range d.proveAll(peers) {
				if a.verdict != passes {
					t.Errorf("%s: got %v", peers[i].vtep, a)
				}
			}
		})
	}
}

func single(ip string) *net.IPNet {
	return &net.IPNet{IP: net.ParseIP(ip), Mask: net.CIDRMask(32, 32)}
}

// A rule for some source ports or sizes only closes the way as any other does.
func TestProveEachPortAndSize(t *testing.T) {
	if _, err := exec.LookPath("nft"); err != nil {
		t.Fatal("no nft (.ci/deps installs it)")
	}
	for _, rule := range []string{"udp sport 49154 drop", "meta length > 9000 drop"} {
		t.Run(rule, func(t *testing.T) {
			d := openOn(t)
			if a := prove(d); a.verdict != passes {
				t.Fatalf("closed: %s", a.reason)
			}
			cmd := exec.Command("nft", "table ip t { chain f { type filter hook forward priority 0; "+rule+"; }; }")
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("nft: %v: %s", err, out)
			}
			if a := prove(d); a.verdict != blocked || !strings.Contains(a.reason, "by size or by source port") {
				t.Errorf("got %v", a)
			}
		})
	}
}

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

func TestReversePathFilter(t *testing.T) {
	newHost(t)
	sysctl(t, "net/ipv4/conf/all/rp_filter", "1")
	d, err := Open(config(true))
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skipf("not run: %v", err)
	}
	if err == nil {
		d.Close()
	}
	if err == nil || !strings.Contains(err.Error(), "rp_filter=1") {
		t.Errorf("got %v", err)
	}
	if _, err := netlink.LinkByName("vxup.1"); err == nil {
		t.Error("the device is still there")
	}

	d, err = Open(config(false))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for _, tt := range []struct {
		filter string
		want   verdict
	}{{"1", blocked}, {"2", passes}, {"1", blocked}, {"0", passes}} {
		sysctl(t, "net/ipv4/conf/all/rp_filter", tt.filter)
		if a := prove(d); a.verdict != tt.want || (a.verdict == blocked) != strings.Contains(a.reason, "rp_filter=1") {
			t.Errorf("rp_filter=%s: got %v, want %v", tt.filter, a, tt.want)
		}
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
