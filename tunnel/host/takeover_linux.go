// SPDX-License-Identifier: Apache-2.0

package host

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"vxtap/encap/ether"
	"vxtap/encap/vxlan"
)

// FindKernelVXLAN returns the kernel's vxlan device of that name, as flanneld
// leaves it, if it may be replaced by a TAP; false where no device has the name.
// The error says what forbids it: another kind of device, another VNI, a
// flanneld at work here, or somebody besides the device who has local's port:
// then the TAP would have the name and no datagram.
//
// It looks at processes by the name of their program. A flannel that is part of
// another program, as in k3s, is not seen, nor one whose process is in a PID
// namespace that is not below ours.
func FindKernelVXLAN(device string, vni vxlan.VNI, local netip.AddrPort) (KernelVXLAN, bool, error) {
	link, err := netlink.LinkByName(device)
	if _, missing := errors.AsType[netlink.LinkNotFoundError](err); missing {
		return KernelVXLAN{}, false, nil
	}
	if err != nil {
		return KernelVXLAN{}, false, fmt.Errorf("look for device %s: %w", device, err)
	}
	v, ok := link.(*netlink.Vxlan)
	if !ok {
		return KernelVXLAN{}, false, CheckDevice(device) // which says whose it is
	}
	if v.VxlanId != int(vni) {
		return KernelVXLAN{}, false, fmt.Errorf("device %s has VNI %d, and this network has %d: it is not taken over; if nobody needs it: ip link del %s",
			device, v.VxlanId, vni, device)
	}
	if p, ok := Flanneld(); ok {
		return KernelVXLAN{}, false, fmt.Errorf("%s %w and would make %s again: stop it first", p, ErrRuns, device)
	}
	if len(v.HardwareAddr) != len(ether.MAC{}) {
		return KernelVXLAN{}, false, fmt.Errorf("device %s has no MAC address", device)
	}
	if err := checkPortBut(v, local); err != nil {
		return KernelVXLAN{}, false, err
	}
	return KernelVXLAN{Name: device, MAC: ether.MAC(v.HardwareAddr), index: v.Index}, true, nil
}

// checkPortBut is checkPort for when the device mine, which may hold the port,
// will be gone.
func checkPortBut(mine *netlink.Vxlan, local netip.AddrPort) error {
	if mine.Port != int(local.Port()) || mine.Flags&net.FlagUp == 0 {
		return checkPort(local)
	}
	// Devices share one socket, and no process can have the port beside it.
	links, err := dump(netlink.LinkList)
	if err != nil {
		return fmt.Errorf("list interfaces: %w", err)
	}
	for _, l := range links {
		v, ok := l.(*netlink.Vxlan)
		if ok && v.Index != mine.Index && v.Port == mine.Port && v.Flags&net.FlagUp != 0 && carriesVXLAN(v, local.Addr()) {
			return fmt.Errorf("UDP port %d is shared by %s and the kernel vxlan device %s: if nobody needs that: ip link del %s",
				mine.Port, mine.Name, v.Name, v.Name)
		}
	}
	return nil
}

// Remove deletes the device, and with it the kernel deletes its addresses and
// the routes, neighbours and forwarding entries that go by it. A device that is
// gone already is no error; one that was made anew since is.
func (k KernelVXLAN) Remove() error {
	link, err := netlink.LinkByName(k.Name)
	if _, missing := errors.AsType[netlink.LinkNotFoundError](err); missing {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look for device %s: %w", k.Name, err)
	}
	if err := CheckDevice(k.Name); link.Attrs().Index != k.index && errors.Is(err, ErrTaken) {
		return err // another vxtap was faster, and nobody is to blame but who started both
	}
	if link.Attrs().Index != k.index {
		return fmt.Errorf("device %s is another one than a moment ago: somebody else is at work on it", k.Name)
	}
	if err := netlink.LinkDel(link); err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("delete device %s: %w", k.Name, err)
	}
	return nil
}
