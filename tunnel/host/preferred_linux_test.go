// SPDX-License-Identifier: Apache-2.0

package host

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// flannel's order (pkg/ip/iface.go).
func TestPreferred(t *testing.T) {
	addr := func(a string, scope, flags int) netlink.Addr {
		return netlink.Addr{IPNet: ipNet(netip.MustParsePrefix(a + "/24")), Scope: scope, Flags: flags}
	}
	got := preferred([]netlink.Addr{
		addr("169.254.0.1", unix.RT_SCOPE_LINK, unix.IFA_F_PERMANENT),
		addr("192.0.2.3", 0, 0),
		addr("192.0.2.1", 0, unix.IFA_F_PERMANENT),
		addr("192.0.2.2", 0, unix.IFA_F_PERMANENT|unix.IFA_F_SECONDARY),
		addr("192.0.2.4", 0, unix.IFA_F_PERMANENT|unix.IFA_F_DEPRECATED),
	}, netlink.FAMILY_V4)
	if want := "[192.0.2.1 192.0.2.2 192.0.2.3 169.254.0.1]"; fmt.Sprint(got) != want {
		t.Errorf("got %v, want %s", got, want)
	}
}
