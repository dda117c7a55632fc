// SPDX-License-Identifier: Apache-2.0

package host

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// nftablesGroup is NFNLGRP_NFTABLES of linux/netfilter/nfnetlink.h.
const nftablesGroup = 7

// Changes calls changed each time that the host's links, addresses, routes, routing rules or nftables rules, or the device's neighbours, have
// changed, until ctx ends; then it returns nil. Calls come one at a time, and one
// may stand for many changes. Rules of iptables' old kind cannot be seen at all:
// whoever depends on something looks for itself, and looks now and then without
// being told.
func Changes(ctx context.Context, device string, changed func(Change)) error {
	link, err := netlink.LinkByName(device)
	if err != nil {
		return fmt.Errorf("look for device %s: %w", device, err)
	}
	g, ctx := errgroup.WithContext(ctx)
	events := [...]chan struct{}{Neighbour: make(chan struct{}, 1), Elsewhere: make(chan struct{}, 1), Elsewhere6: make(chan struct{}, 1)}
	for _, s := range []struct {
		protocol int
		groups   []int
	}{
		{unix.NETLINK_ROUTE, []int{unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV4_RULE, unix.RTNLGRP_IPV4_NETCONF, unix.RTNLGRP_NEIGH,
			unix.RTNLGRP_IPV6_IFADDR, unix.RTNLGRP_IPV6_ROUTE, unix.RTNLGRP_IPV6_RULE, unix.RTNLGRP_IPV6_NETCONF}},
		{unix.NETLINK_NETFILTER, []int{nftablesGroup}},
	} {
		f, err := subscribe(s.protocol, s.groups)
		if err != nil {
			if s.protocol == unix.NETLINK_NETFILTER {
				continue // a kernel without nftables has no rules of it
			}
			return err
		}
		g.Go(func() error {
			return follow(ctx, f, func(b []byte) {
				for c, is := range changesOf(b, link.Attrs().Index) {
					if !is {
						continue
					}
					select {
					case events[c] <- struct{}{}:
					default: // one is pending
					}
				}
			})
		})
	}
	g.Go(func() error {
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-events[Neighbour]:
				changed(Neighbour)
			case <-events[Elsewhere]:
				changed(Elsewhere)
			case <-events[Elsewhere6]:
				changed(Elsewhere6)
			}
		}
	})
	return g.Wait()
}

// changes says of each kind of Change whether there was one.
type changes [Elsewhere6 + 1]bool

// changesOf returns what b, one read of a netlink socket, tells of; nothing for
// the neighbours of other devices, which come and go all day. What cannot be read
// is a change of something.
func changesOf(b []byte, device int) (all changes) {
	messages, err := syscall.ParseNetlinkMessage(b)
	if err != nil || len(messages) == 0 {
		all[Elsewhere] = true
		return all
	}
	for _, m := range messages {
		switch m.Header.Type {
		case unix.RTM_NEWNEIGH, unix.RTM_DELNEIGH:
			const index = 4 // of ndm_ifindex in struct ndmsg
			if len(m.Data) >= index+4 && int(binary.NativeEndian.Uint32(m.Data[index:])) == device {
				all[Neighbour] = true
			}
		case unix.RTM_NEWADDR, unix.RTM_DELADDR, unix.RTM_NEWROUTE, unix.RTM_DELROUTE, unix.RTM_NEWRULE, unix.RTM_DELRULE,
			unix.RTM_NEWNETCONF, unix.RTM_DELNETCONF:
			// The family is the first byte of all their structures.
			if len(m.Data) > 0 && m.Data[0] == unix.AF_INET6 {
				all[Elsewhere6] = true
				continue
			}
			all[Elsewhere] = true
		default:
			all[Elsewhere] = true
		}
	}
	return all
}

// subscribe opens a netlink socket that the runtime's poller waits for.
func subscribe(protocol int, groups []int) (*os.File, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, protocol)
	if err != nil {
		return nil, fmt.Errorf("open netlink socket: %w", err)
	}
	err = unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
	for _, group := range groups {
		if err == nil {
			err = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, group)
		}
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("subscribe to netlink: %w", err)
	}
	return os.NewFile(uintptr(fd), "netlink"), nil
}

// follow calls heard for whatever f brings, with nothing for lost messages, and
// closes f when ctx ends.
func follow(ctx context.Context, f *os.File, heard func([]byte)) error {
	defer f.Close()
	defer context.AfterFunc(ctx, func() { f.Close() })()
	b := make([]byte, 1<<16)
	for {
		n, err := f.Read(b)
		if err != nil && !errors.Is(err, unix.ENOBUFS) {
			if ctx.Err() != nil {
				return nil //nolint:nilerr // that is why it was closed
			}
			return fmt.Errorf("read netlink: %w", err)
		}
		heard(b[:max(n, 0)])
	}
}
