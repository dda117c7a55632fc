// SPDX-License-Identifier: Apache-2.0

package host

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// link returns the plan's device, and whether it had another name, which it has no
// more. What has the name meanwhile is somebody else's, and is left alone.
func (p Plan) link() (link netlink.Link, renamed bool, err error) {
	named, err := netlink.LinkByName(p.Device)
	if _, missing := errors.AsType[netlink.LinkNotFoundError](err); err != nil && (!missing || p.Index == 0) {
		return nil, false, fmt.Errorf("look for device %s: %w", p.Device, err)
	}
	if p.Index == 0 || err == nil && named.Attrs().Index == p.Index {
		return named, false, nil
	}
	ours, lost := netlink.LinkByIndex(p.Index)
	if lost != nil || ours.Type() != "tuntap" {
		return nil, false, fmt.Errorf("device %s is gone, or in another network namespace: start vxtap again", p.Device)
	}
	name := ours.Attrs().Name
	if err == nil {
		return nil, false, fmt.Errorf("device %s was renamed to %s, and another device, of type %s, has its name: give that one another, and %s gets its own back",
			p.Device, name, named.Type(), name)
	}
	if err := rename(ours, p.Device); err != nil {
		return nil, false, fmt.Errorf("device %s was renamed to %s: give it its name back: %w", p.Device, name, err)
	}
	if link, err = netlink.LinkByIndex(p.Index); err != nil {
		return nil, true, fmt.Errorf("look for device %s: %w", p.Device, err)
	}
	return link, true, nil
}

// rename gives link the name. Before Linux 6.2 it has to be down for that, and
// whoever renamed it has taken it down too; it comes up with all else that a Plan
// asks for.
func rename(link netlink.Link, name string) error {
	err := netlink.LinkSetName(link, name)
	if !errors.Is(err, unix.EBUSY) {
		return err
	}
	if err := netlink.LinkSetDown(link); err != nil {
		return err
	}
	if err := netlink.LinkSetName(link, name); err != nil {
		return errors.Join(err, netlink.LinkSetUp(link))
	}
	return nil
}
