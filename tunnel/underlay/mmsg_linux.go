// SPDX-License-Identifier: Apache-2.0

package underlay

import (
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// errPortTaken is what bindRandom tries again after.
var errPortTaken error = unix.EADDRINUSE

// mmsg is one lane of the Linux back end.
type mmsg struct {
	receiver
	sender
}

func open(c Config) (*Conn, error) {
	conn, err := openLanes(c)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

// openLanes returns what it has opened also when it fails.
func openLanes(c Config) (*Conn, error) {
	p := &pool{log: c.Log, sendmmsg: sendmmsg}
	peers, err := remoteOf(c.Local)
	if err != nil {
		return &Conn{close: func() error { return nil }}, err
	}
	var lanes []*mmsg
	conn := &Conn{close: func() error {
		errs := []error{p.close()}
		for _, l := range lanes {
			errs = append(errs, l.receiver.close())
		}
		return errors.Join(errs...)
	}}
	for i := range c.Lanes {
		l := &mmsg{}
		l.receiver.fd = -1
		lanes = append(lanes, l)
		if err := l.receiver.open(c, sharingOf(i, c.Lanes)); err != nil {
			return conn, fmt.Errorf("open UDP socket %s: %w", c.Local, err)
		}
		l.sender.init(p, peers)
		conn.lanes = append(conn.lanes, l)
	}
	if err := p.open(c); err != nil {
		return conn, fmt.Errorf("open sending sockets on %s: %w", c.Local.Addr(), err)
	}
	conn.ports = p.ports
	conn.rebind = (&rebinder{c, lanes, p}).rebind
	conn.offloads = func() []string {
		var names []string
		if p.segment.Load() {
			names = append(names, "udp-segment")
		}
		if lanes[0].gro {
			names = append(names, "udp-gro")
		}
		return names
	}
	return conn, nil
}

// sharingOf returns how socket i of n is bound.
func sharingOf(i, n int) sharing {
	switch {
	case n == 1:
		return alone
	case i == 0:
		return first
	}
	return joined
}

// mmsghdr is struct mmsghdr of recvmmsg(2) and sendmmsg(2).
type mmsghdr struct {
	hdr unix.Msghdr
	len uint32
}

// sharing says how a socket is bound to its port.
type sharing int

const (
	alone  sharing = iota // the port is taken by nobody else
	first                 // by nobody so far, but others may join
	joined                // together with the first
)

// udpSocket opens a socket bound to local. Nothing it sends is fragmented by
// this host, nor marked DF (IP_PMTUDISC_INTERFACE): kernel VXLAN leaves DF
// clear too, and RFC 7348 section 4.3 forbids a VTEP to fragment. Routers do not
// fragment IPv6 in any case.
func udpSocket(local netip.AddrPort, share sharing) (int, error) {
	r, err := remoteOf(local)
	if err != nil {
		return -1, err
	}
	domain, level, discover := unix.AF_INET, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER
	if r.six {
		domain, level, discover = unix.AF_INET6, unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER
	}
	fd, err := unix.Socket(domain, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	// The number is the same for both (IPV6_PMTUDISC_INTERFACE).
	if err := unix.SetsockoptInt(fd, level, discover, unix.IP_PMTUDISC_INTERFACE); err != nil {
		return -1, errors.Join(fmt.Errorf("forbid fragmentation: %w", err), unix.Close(fd))
	}
	if r.six {
		// The same port is another switch's on IPv4.
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1); err != nil {
			return -1, errors.Join(fmt.Errorf("keep to IPv6: %w", err), unix.Close(fd))
		}
	}
	if share == joined {
		if err := sharePort(fd); err != nil {
			unix.Close(fd)
			return -1, err
		}
	}
	if err := bind(fd, r, local); err != nil {
		unix.Close(fd)
		return -1, err
	}
	if share == first {
		if err := sharePort(fd); err != nil {
			unix.Close(fd)
			return -1, err
		}
	}
	return fd, nil
}

func bind(fd int, r remote, local netip.AddrPort) error {
	if r.six {
		return unix.Bind(fd, &unix.SockaddrInet6{Port: int(local.Port()), ZoneId: r.scope, Addr: local.Addr().As16()})
	}
	return unix.Bind(fd, &unix.SockaddrInet4{Port: int(local.Port()), Addr: local.Addr().As4()})
}

// sharePort lets sockets of this user join fd on its port. The first socket is
// bound before that: with SO_REUSEPORT from the start it would join whoever has
// the port, and take half of another daemon's datagrams.
func sharePort(fd int) error {
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
		return fmt.Errorf("share the port: %w", err)
	}
	return nil
}

// growBuffer asks for more than net.core.[rw]mem_max where we may (that takes
// CAP_NET_ADMIN), else for what the system allows.
func growBuffer(fd, force, plain, size int) {
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, force, size) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, plain, size)
	}
}
