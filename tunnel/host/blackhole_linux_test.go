// SPDX-License-Identifier: Apache-2.0

package host

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// blackholed returns the blackhole routes of the host, whoever set them.
func blackholed(t *testing.T) []string {
	t.Helper()
	routes, err := netlink.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Type: unix.RTN_BLACKHOLE}, netlink.RT_FILTER_TYPE)
	must(t, err)
	var all []string
	for _, r := range routes {
		all = append(all, r.Dst.String())
	}
	return all
}

func TestBlackhole(t *testing.T) {
	inNamespace(t, func() {
		addTAP(t, "flannel.1")
		foreign := &netlink.Route{Dst: ipNet(netip.MustParsePrefix("10.5.8.0/24")), Type: unix.RTN_BLACKHOLE}
		must(t, netlink.RouteAdd(foreign))
		p := plan("flannel.1", "10.5.72.0/24")
		p.Blackhole = netip.MustParsePrefix("10.5.72.0/24")
		if got := apply(t, p); !slices.Contains(got, "the blackhole route") {
			t.Errorf("got %v set", got)
		}
		if got, want := blackholed(t), []string{"10.5.8.0/24", "10.5.72.0/24"}; !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
		if got := apply(t, p); got != nil {
			t.Errorf("got %v set again", got)
		}
		// The bridge comes later, and its own route must win: not so with a route
		// such as flanneld's.
		addInterface(t, "cni0", "10.5.72.1/24")
		routes, err := netlink.RouteGet(netip.MustParseAddr("10.5.72.9").AsSlice())
		if err != nil || len(routes) != 1 || routes[0].Gw != nil {
			t.Errorf("got %v and error %v on the way to a container", routes, err)
		}
		must(t, netlink.RouteDel(blackholeRoute(p.Blackhole)))
		if got, want := apply(t, p), []string{"the blackhole route"}; !slices.Equal(got, want) {
			t.Errorf("got %v mended, want %v", got, want)
		}

		moved := plan("flannel.1", "10.5.9.0/24")
		moved.Blackhole = netip.MustParsePrefix("10.5.9.0/24")
		apply(t, moved)
		if got, want := blackholed(t), []string{"10.5.8.0/24", "10.5.9.0/24"}; !slices.Equal(got, want) {
			t.Errorf("got %v after the subnet changed, want %v", got, want)
		}
		moved.Blackhole = netip.Prefix{}
		apply(t, moved)
		if got, want := blackholed(t), []string{"10.5.8.0/24"}; !slices.Equal(got, want) {
			t.Errorf("got %v without, want %v", got, want)
		}
	})
}

func TestRemove(t *testing.T) {
	inNamespace(t, func() {
		addTAP(t, "flannel.1")
		p := plan("flannel.1", "10.5.72.0/24")
		p.Blackhole = netip.MustParsePrefix("10.5.72.0/24")
		apply(t, p)
		must(t, netlink.RouteAdd(&netlink.Route{Dst: ipNet(netip.MustParsePrefix("10.5.8.0/24")), Type: unix.RTN_BLACKHOLE}))
		remove := func(flanneld string) string {
			var theirs netip.Prefix
			if flanneld != "" {
				theirs = netip.MustParsePrefix(flanneld)
			}
			removed, err := RemoveBlackholes(theirs)
			must(t, err)
			return strings.Join(removed, ", ")
		}
		for _, tt := range []struct{ flanneld, want string }{
			{"", "route blackhole 10.5.72.0/24"},
			{"", ""},
			{"10.5.8.0/24", "route blackhole 10.5.8.0/24"},
			{"10.5.8.0/24", ""},
		} {
			if got := remove(tt.flanneld); got != tt.want {
				t.Errorf("got %q removed, want %q", got, tt.want)
			}
		}
		// A device with the name that is no kernel vxlan is somebody else's.
		if got, err := RemoveKernelVXLAN(); len(got) != 0 || err != nil {
			t.Errorf("got %v removed, and %v", got, err)
		}
	})
}

func TestRemoveKernelVXLAN(t *testing.T) {
	inNamespace(t, func() {
		for id, name := range []string{"flannel.1", "flannel-v6.1", "mine.1"} {
			l := &netlink.Vxlan{LinkAttrs: netlink.LinkAttrs{Name: name}, VxlanId: 10 + id, Port: 8472}
			if err := netlink.LinkAdd(l); err != nil {
				t.Logf("this kernel has no vxlan: %v", err)
				return
			}
		}
		got, err := RemoveKernelVXLAN()
		if want := []string{"kernel vxlan device flannel.1", "kernel vxlan device flannel-v6.1"}; err != nil || !slices.Equal(got, want) {
			t.Errorf("got %v removed and %v, want %v", got, err, want)
		}
		if _, err := netlink.LinkByName("mine.1"); err != nil {
			t.Errorf("mine.1: %v", err)
		}
	})
}

func TestProcessNamed(t *testing.T) {
	t.Parallel()
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Fatal(err)
	}
	// Other tests have processes too: this one has a name that none of them has.
	name := fmt.Sprintf("vxs%d", os.Getpid())
	path := filepath.Join(t.TempDir(), name)
	if err := os.Symlink(sleep, path); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it has not ended by itself
		_ = cmd.Wait()         // killed
	})
	want := fmt.Sprintf("%s (pid %d)", name, cmd.Process.Pid)
	if got, ok := ProcessNamed(name); !ok || got != want {
		t.Errorf("got %q, %v, want %q", got, ok, want)
	}
	if got, ok := ProcessNamed("no such program"); ok {
		t.Errorf("got %q", got)
	}
}
