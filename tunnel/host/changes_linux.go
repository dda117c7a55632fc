// SPDX-License-Identifier: Apache-2.0

package host

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// nftablesGroup is NFNLGRP_NFTABLES of linux/netfilter/nfnetlink.h.
const nftablesGroup = 7

// Changes calls changed each time that the host's links, addresses, IPv4
// routes, routing rules or nftables rules have changed, until ctx ends; then it
// returns nil. Calls come one at a time. What it was told by is not said, and
// rules of iptables' old kind cannot be seen at all: whoever depends on
// something looks for itself, and looks now and then without being told.
func Changes(ctx context.Context, changed func()) error {
	g, ctx := errgroup.WithContext(ctx)
	events := make(chan struct{}, 1)
	for _, s := range []struct {
		protocol int
		groups   []int
	}{
		{unix.NETLINK_ROUTE, []int{unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV4_RULE, unix.RTNLGRP_IPV4_NETCONF}},
		{unix.NETLINK_NETFILTER, []int{nftablesGroup}},
	} {
		f, err := subscribe(s.protocol, s.groups)
		if err != nil {
			if s.protocol == unix.NETLINK_NETFILTER {
				continue // a kernel without nftables has no rules of it
			}
			return err
		}
		g.Go(func() error { return follow(ctx, f, events) })
	}
	g.Go(func() error {
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-events:
				changed()
			}
		}
	})
	return g.Wait()
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

// follow puts an event on the channel for whatever f brings, lost messages
// included, and closes f when ctx ends.
func follow(ctx context.Context, f *os.File, events chan<- struct{}) error {
	defer f.Close()
	defer context.AfterFunc(ctx, func() { f.Close() })()
	b := make([]byte, 1<<16)
	for {
		if _, err := f.Read(b); err != nil && !errors.Is(err, unix.ENOBUFS) {
			if ctx.Err() != nil {
				return nil //nolint:nilerr // that is why it was closed
			}
			return fmt.Errorf("read netlink: %w", err)
		}
		select {
		case events <- struct{}{}:
		default: // one is pending
		}
	}
}
