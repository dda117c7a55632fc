// SPDX-License-Identifier: Apache-2.0

package host

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// CheckFree reports whether the name device and the UDP port on local are
// free. Where not, the error names who has it and what to do. The answer is
// for people and may be stale at once: it reserves nothing. It matches ErrTaken
// where a process has it, or may have had it until now.
//
// An IPv6 address that the kernel is still looking for a duplicate of cannot be
// bound to, and counts as missing: see AwaitAddress. A link-local one has its
// zone.
func CheckFree(device string, port uint16, local netip.Addr) error {
	if err := CheckDevice(device); err != nil {
		return err
	}
	return checkPort(netip.AddrPortFrom(local, port))
}

// CheckDevice is CheckFree for the name of a device alone.
func CheckDevice(name string) error {
	if len(name) >= unix.IFNAMSIZ { // the size counts a NUL at the end
		return fmt.Errorf("device name %s is longer than the %d characters that Linux allows: choose a shorter VNI", name, unix.IFNAMSIZ-1)
	}
	link, err := netlink.LinkByName(name)
	if _, missing := errors.AsType[netlink.LinkNotFoundError](err); missing {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look for device %s: %w", name, err)
	}
	if link.Type() == "vxlan" {
		return fmt.Errorf("device %s is there already, a kernel vxlan device as flanneld leaves it: "+
			"stop flanneld; then start with -takeover, which keeps its MAC and subnet, or: ip link del %s", name, name)
	}
	if holder, ok := DeviceHolder(name); ok {
		return takenError{fmt.Sprintf("device %s is in use by %s: stop it, or choose another VNI", name, holder)}
	}
	words := fmt.Sprintf("device %s is there already, of type %s: if nobody needs it: ip link del %s", name, link.Type(), name)
	if link.Type() == "tuntap" { // the kernel removes it after the process has no descriptor any more
		return takenError{words}
	}
	return errors.New(words)
}

// checkPort binds and lets go again: the kernel alone knows all the rules by
// which two sockets get in each other's way.
func checkPort(addr netip.AddrPort) error {
	err := tryPort(addr)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EADDRNOTAVAIL) && isTentative(addr.Addr()):
		return fmt.Errorf("address %s cannot be used yet: the kernel is still looking whether somebody else has it", addr.Addr())
	case errors.Is(err, unix.EADDRNOTAVAIL):
		return fmt.Errorf("address %s is not on this host", addr.Addr())
	case !errors.Is(err, unix.EADDRINUSE):
		return fmt.Errorf("bind UDP port %d on %s: %w", addr.Port(), addr.Addr(), err)
	}
	if name, ok := vxlanHolder(addr); ok {
		return fmt.Errorf("UDP port %d is taken by the kernel vxlan device %s: if it is flanneld's, stop flanneld; then: ip link del %s",
			addr.Port(), name, name)
	}
	if holder, ok := portHolder(addr); ok {
		return takenError{fmt.Sprintf("UDP port %d on %s is taken by %s: stop it, or set Backend.Port for the whole network",
			addr.Port(), addr.Addr(), holder)}
	}
	return takenError{fmt.Sprintf("UDP port %d on %s is taken: ss -lunp shows by whom", addr.Port(), addr.Addr())}
}

// tryPort binds to addr and lets go.
func tryPort(addr netip.AddrPort) error {
	network := "udp4"
	if addr.Addr().Is6() {
		network = "udp6" // and IPv6 alone
	}
	conn, err := net.ListenUDP(network, net.UDPAddrFromAddrPort(addr))
	if err != nil {
		return err
	}
	return conn.Close()
}

// duplicateWait is how long the kernel may take to look for a duplicate of an
// address: with its defaults up to a second before it asks, and one after (RFC
// 4862, section 5.4).
const duplicateWait = 3 * time.Second

// AwaitAddress waits while the kernel is still looking for a duplicate of a new
// IPv6 address, for a few seconds, as a daemon that starts with its host has to.
// It returns early when ctx ends. Whether the address can be used afterwards
// CheckFree says.
func AwaitAddress(ctx context.Context, a netip.Addr) {
	limit, tick := time.NewTimer(duplicateWait), time.NewTicker(duplicateWait/60)
	defer limit.Stop()
	defer tick.Stop()
	for isTentative(a) {
		select {
		case <-ctx.Done():
			return
		case <-limit.C:
			return
		case <-tick.C:
		}
	}
}

// isTentative reports whether the kernel is still looking for a duplicate of a.
func isTentative(a netip.Addr) bool {
	if !a.Is6() {
		return false
	}
	addrs, err := dump(func() ([]netlink.Addr, error) { return netlink.AddrList(nil, netlink.FAMILY_V6) })
	return err == nil && slices.ContainsFunc(addrs, func(x netlink.Addr) bool {
		return x.IP.Equal(a.AsSlice()) && x.Flags&unix.IFA_F_TENTATIVE != 0 && x.Flags&unix.IFA_F_DADFAILED == 0
	})
}

// vxlanHolder finds the kernel vxlan device whose socket is in the way of
// addr. That socket belongs to no process, is there while the device is up, and
// is bound to all addresses of its family whatever the device's own, so the port
// alone decides.
func vxlanHolder(addr netip.AddrPort) (string, bool) {
	links, err := dump(netlink.LinkList)
	if err != nil {
		return "", false
	}
	for _, l := range links {
		v, ok := l.(*netlink.Vxlan)
		if ok && v.Port == int(addr.Port()) && v.Flags&net.FlagUp != 0 && carriesVXLAN(v, addr.Addr()) {
			return v.Name, true
		}
	}
	return "", false
}

// carriesVXLAN reports whether v has a socket of a's family: that of its
// addresses, both where its routes say where to (vxlan_open).
func carriesVXLAN(v *netlink.Vxlan, a netip.Addr) bool {
	if v.FlowBased {
		return true
	}
	for _, ip := range []net.IP{v.SrcAddr, v.Group} {
		if len(ip) > 0 && ip.To4() == nil {
			return a.Is6()
		}
	}
	return a.Is4()
}
