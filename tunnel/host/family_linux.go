// SPDX-License-Identifier: Apache-2.0

package host

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink"
)

// What differs between the two families.

// userMetric is what the kernel gives an IPv6 route that was asked for without
// a metric (IP6_RT_PRIO_USER). An IPv4 route then has none.
const userMetric = 1024

func (p Plan) isIPv6() bool { return p.Network.Addr().Is6() }

// family is netlink's name for the plan's family.
func (p Plan) family() int { return familyOf(p.Network.Addr()) }

// gateway is the next hop of the plan's route.
func (p Plan) gateway() netip.Addr {
	if p.isIPv6() {
		return Gateway6
	}
	return Gateway
}

func familyOf(a netip.Addr) int {
	if a.Is6() {
		return netlink.FAMILY_V6
	}
	return netlink.FAMILY_V4
}

// addrOf reads an address of the family from netlink, where an IPv4 one may
// come in 4 bytes or in 16.
func addrOf(ip net.IP, family int) (netip.Addr, bool) {
	a, ok := netip.AddrFromSlice(ip)
	a = a.Unmap()
	return a, ok && familyOf(a) == family
}

// check refuses a plan of two families.
func (p Plan) check() error {
	for _, x := range []netip.Prefix{p.Addr, p.Blackhole} {
		if x.IsValid() && x.Addr().Is6() != p.isIPv6() {
			return fmt.Errorf("%s and network %s are of two families", x, p.Network)
		}
	}
	return nil
}

// CheckIPv6 reports whether this host's kernel has IPv6 at all.
func CheckIPv6() error {
	if _, err := os.Stat("/proc/sys/net/ipv6"); errors.Is(err, fs.ErrNotExist) {
		return errors.New("the network config has IPv6, and this host's kernel has not: " +
			"boot it without ipv6.disable=1, or load the module with modprobe ipv6")
	}
	return nil
}

func disableIPv6(device string) string {
	return filepath.Join("/proc/sys/net/ipv6/conf", device, "disable_ipv6")
}

// takesIPv6 is true as well where there is no such file to be read.
func takesIPv6(device string) bool {
	b, err := os.ReadFile(disableIPv6(device))
	return err != nil || strings.TrimSpace(string(b)) == "0"
}

// allowIPv6 switches IPv6 on for the device alone: a new device has it off where
// net.ipv6.conf.default says so, and gets no address then (EACCES).
func allowIPv6(device string) error {
	if err := os.WriteFile(disableIPv6(device), []byte("0"), 0); err != nil {
		return fmt.Errorf("this host has IPv6 switched off: sysctl -w net.ipv6.conf.default.disable_ipv6=0 before the start: %w", err)
	}
	return nil
}
