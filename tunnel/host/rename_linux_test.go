// SPDX-License-Identifier: Apache-2.0

package host

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
)

func TestApplyGivesARenamedDeviceItsNameBack(t *testing.T) {
	for _, down := range []bool{false, true} {
		inNamespace(t, func() {
			link := addTAP(t, "flannel.1")
			p := plan("flannel.1", "10.5.72.0/24")
			p.Index = link.Attrs().Index
			apply(t, p)
			want := state(t, "flannel.1")
			if down { // as it has to be before Linux 6.2, by which its route goes as well
				must(t, netlink.LinkSetDown(link))
			}
			must(t, netlink.LinkSetName(link, "uplink7"))
			if changed := apply(t, p); !slices.Contains(changed, "the name") || slices.Contains(changed, "the route") != down {
				t.Errorf("taken down %v: got %q set, want the name, and the route only if it was taken down", down, changed)
			}
			if diff := cmp.Diff(want, state(t, "flannel.1")); diff != "" {
				t.Errorf("after Apply (-want +got):\n%s", diff)
			}
			if changed := apply(t, p); len(changed) > 0 {
				t.Errorf("got %q set again", changed)
			}
		})
	}
}

// Whoever has the name of our device must not get its MAC, its address and its
// route.
func TestApplyToADeviceThatIsNotOurs(t *testing.T) {
	for _, tt := range []struct {
		name string
		do   func(t *testing.T, ours netlink.Link)
		want string
	}{
		{"ours has another name", func(t *testing.T, ours netlink.Link) {
			must(t, netlink.LinkSetName(ours, "uplink7"))
			addInterface(t, "flannel.1", "192.0.2.7/24")
		}, "device flannel.1 was renamed to uplink7, and another device, of type bridge, has its name"},
		{"ours is gone", func(t *testing.T, ours netlink.Link) {
			must(t, netlink.LinkDel(ours))
			addInterface(t, "flannel.1", "192.0.2.7/24")
		}, "device flannel.1 is gone, or in another network namespace"},
		{"another one has its number", func(t *testing.T, ours netlink.Link) {
			must(t, netlink.LinkDel(ours))
			addLink(t, &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br7", Index: ours.Attrs().Index}})
		}, "device flannel.1 is gone, or in another network namespace"},
	} {
		inNamespace(t, func() {
			ours := addTAP(t, "flannel.1")
			p := plan("flannel.1", "10.5.72.0/24")
			p.Index = ours.Attrs().Index
			apply(t, p)
			tt.do(t, ours)
			before := links(t)
			changed, err := Apply(p)
			checkError(t, err, tt.want)
			if now := links(t); now != before || len(changed) > 0 {
				t.Errorf("%s: got %q set and links %s, want %s as before", tt.name, changed, now, before)
			}
		})
	}
}

// links tells of all links what must not change.
func links(t *testing.T) string {
	t.Helper()
	all, err := netlink.LinkList()
	must(t, err)
	var b strings.Builder
	for _, l := range all {
		addrs, err := netlink.AddrList(l, netlink.FAMILY_V4)
		must(t, err)
		b.WriteString(l.Attrs().Name + " " + l.Attrs().HardwareAddr.String())
		for _, a := range addrs {
			b.WriteString(" " + a.IPNet.String())
		}
		b.WriteString("; ")
	}
	return b.String()
}
