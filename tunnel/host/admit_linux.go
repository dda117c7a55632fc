// SPDX-License-Identifier: Apache-2.0

package host

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
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
// its source. All that is set belongs to the device and ends with it. What is
// set already is left alone, so that nobody is told of a change that is none;
// changed says whether anything was not.
//
// It is set by netlink, so that a container with a read-only /proc/sys can have
// it. What would have to be changed for the whole host is not: then the error
// says what stands in the way.
func AdmitUplink(device string) (changed bool, err error) {
	link, err := netlink.LinkByName(device)
	if err != nil {
		return false, fmt.Errorf("look for device %s: %w", device, err)
	}
	filter, err := readSysctl("net/ipv4/conf/all/rp_filter")
	if err != nil {
		return false, err
	}
	if filter == "1" {
		return false, errors.New("net.ipv4.conf.all.rp_filter=1 drops what the host sends through itself: 0 or 2 lets it pass")
	}
	for _, step := range []struct {
		name string
		done func() bool
		do   func() error
	}{
		{"let the host forward what comes from", func() bool { return hasInetConf(device) }, func() error {
			return setInetConf(link, map[int]uint32{confForwarding: 1, confAcceptLocal: 1, confRPFilter: 0})
		}},
		// Nothing but our frames is to come this way: no ARP, no IPv6 discovery.
		{"switch ARP off on", func() bool { return link.Attrs().RawFlags&unix.IFF_NOARP != 0 }, func() error {
			// IPv6 that cannot be switched off here does no harm, nobody reads it.
			_ = os.WriteFile("/proc/sys/net/ipv6/conf/"+device+"/disable_ipv6", []byte("1"), 0)
			return netlink.LinkSetARPOff(link)
		}},
		{"give an address to", func() bool { return filter != "2" || hasAddr(link, uplinkAddr) }, func() error {
			return netlink.AddrReplace(link, &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(uplinkAddr, 32)), Scope: unix.RT_SCOPE_LINK})
		}},
		{"bring up", func() bool { return link.Attrs().RawFlags&unix.IFF_UP != 0 }, func() error { return netlink.LinkSetUp(link) }},
	} {
		if step.done() {
			continue
		}
		if err := step.do(); err != nil {
			return changed, fmt.Errorf("%s %s: %w", step.name, device, err)
		}
		changed = true
	}
	return changed, nil
}

// hasInetConf reports whether the device has what AdmitUplink sets.
func hasInetConf(device string) bool {
	for name, want := range map[string]string{"forwarding": "1", "accept_local": "1", "rp_filter": "0"} {
		// With slashes for separators a name may have dots.
		if got, err := readSysctl("net/ipv4/conf/" + device + "/" + name); err != nil || got != want {
			return false
		}
	}
	return true
}

func hasAddr(link netlink.Link, addr netip.Addr) bool {
	addrs, err := netlink.AddrList(link, netlink.FAMILY_V4)
	return err == nil && slices.ContainsFunc(addrs, func(a netlink.Addr) bool { return a.IP.Equal(addr.AsSlice()) })
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
