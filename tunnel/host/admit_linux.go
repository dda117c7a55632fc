// SPDX-License-Identifier: Apache-2.0

package host

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Numbers of net.ipv4.conf entries in netlink (include/uapi/linux/ip.h).
const (
	confForwarding  = 1
	confRPFilter    = 8
	confAcceptLocal = 23
	inetConf        = 1 // IFLA_INET_CONF
)

// uplinkAddr is what the uplink TAP gets where reverse path filtering is loose
// for all devices: the kernel then wants any address at all on the device
// (fib_validate_source, measured on Linux 6.18). Link-local and /32: nobody is
// reached through it.
var uplinkAddr = netip.AddrFrom4([4]byte{169, 254, 84, 73})

// AdmitUplink lets what we write into device, the uplink TAP, pass through the
// host to its other interfaces, although it carries the host's own address as
// its source. All that is set belongs to the device and ends with it.
//
// It is set by netlink, so that a container with a read-only /proc/sys can have
// it. What would have to be changed for the whole host is not: then the error
// says what stands in the way.
func AdmitUplink(device string) error {
	link, err := netlink.LinkByName(device)
	if err != nil {
		return fmt.Errorf("look for device %s: %w", device, err)
	}
	filter, err := readSysctl("net/ipv4/conf/all/rp_filter")
	if err != nil {
		return err
	}
	if filter == "1" {
		return errors.New("net.ipv4.conf.all.rp_filter=1 drops what the host sends through itself: 0 or 2 lets it pass")
	}
	if err := setInetConf(link, map[int]uint32{confForwarding: 1, confAcceptLocal: 1, confRPFilter: 0}); err != nil {
		return fmt.Errorf("let the host forward what comes from %s: %w", device, err)
	}
	// Nothing but our frames is to come this way: no ARP, no IPv6 discovery.
	// IPv6 that cannot be switched off here does no harm, nobody reads it.
	_ = os.WriteFile("/proc/sys/net/ipv6/conf/"+device+"/disable_ipv6", []byte("1"), 0)
	if err := netlink.LinkSetARPOff(link); err != nil {
		return fmt.Errorf("switch ARP off on %s: %w", device, err)
	}
	if filter == "2" {
		addr := &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(uplinkAddr, 32)), Scope: unix.RT_SCOPE_LINK}
		if err := netlink.AddrReplace(link, addr); err != nil {
			return fmt.Errorf("set address %s on %s: %w", uplinkAddr, device, err)
		}
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("bring %s up: %w", device, err)
	}
	return nil
}

// setInetConf sets net.ipv4.conf entries of one device.
func setInetConf(link netlink.Link, values map[int]uint32) error {
	req := nl.NewNetlinkRequest(unix.RTM_SETLINK, unix.NLM_F_ACK)
	msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
	msg.Index = int32(link.Attrs().Index)
	req.AddData(msg)
	spec := nl.NewRtAttr(unix.IFLA_AF_SPEC|unix.NLA_F_NESTED, nil)
	conf := spec.AddRtAttr(unix.AF_INET|unix.NLA_F_NESTED, nil).AddRtAttr(inetConf|unix.NLA_F_NESTED, nil)
	for name, v := range values {
		conf.AddRtAttr(name, nl.Uint32Attr(v))
	}
	req.AddData(spec)
	_, err := req.Execute(unix.NETLINK_ROUTE, 0)
	return err
}

func readSysctl(name string) (string, error) {
	b, err := os.ReadFile("/proc/sys/" + name)
	if err != nil {
		return "", fmt.Errorf("read sysctl: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

// MAC returns the MAC of a device.
func MAC(device string) ([6]byte, error) {
	link, err := netlink.LinkByName(device)
	if err != nil {
		return [6]byte{}, fmt.Errorf("look for device %s: %w", device, err)
	}
	mac := link.Attrs().HardwareAddr
	if len(mac) != 6 {
		return [6]byte{}, fmt.Errorf("device %s has no MAC", device)
	}
	return [6]byte(mac), nil
}
