// SPDX-License-Identifier: Apache-2.0

package underlay

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// errPortTaken is what bindRandom tries again after.
var errPortTaken error = unix.EADDRINUSE

// mmsg is the Linux back end.
type mmsg struct {
	receiver
	sender
	wake int
}

func open(c Config) (*Conn, error) {
	m := &mmsg{wake: -1}
	m.receiver.fd = -1
	if err := m.open(c); err != nil {
		m.Close()
		return nil, err
	}
	return &Conn{conn: m, offloads: m.inUse}, nil
}

func (m *mmsg) open(c Config) error {
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return fmt.Errorf("eventfd: %w", err)
	}
	m.wake = wake
	if err := m.receiver.open(c, wake); err != nil {
		return fmt.Errorf("open UDP socket %s: %w", c.Local, err)
	}
	if err := m.sender.open(c); err != nil {
		return fmt.Errorf("open sending sockets on %s: %w", c.Local.Addr(), err)
	}
	return nil
}

func (m *mmsg) inUse() []string {
	var names []string
	if m.segment.Load() {
		names = append(names, "udp-segment")
	}
	if m.gro {
		names = append(names, "udp-gro")
	}
	return names
}

// Interrupt implements tunnel.Underlay.
func (m *mmsg) Interrupt() {
	m.stopped.Store(true)
	var one [8]byte
	binary.NativeEndian.PutUint64(one[:], 1)
	_, _ = unix.Write(m.wake, one[:])
}

// Close closes all sockets. No call may be under way.
func (m *mmsg) Close() error {
	var errs []error
	for _, s := range m.sockets {
		errs = append(errs, unix.Close(s))
	}
	for _, fd := range []int{m.receiver.fd, m.wake} {
		if fd >= 0 {
			errs = append(errs, unix.Close(fd))
		}
	}
	return errors.Join(errs...)
}

// mmsghdr is struct mmsghdr of recvmmsg(2) and sendmmsg(2).
type mmsghdr struct {
	hdr unix.Msghdr
	len uint32
}

// udpSocket opens a socket bound to local. Nothing it sends is fragmented by
// this host, nor marked DF (IP_PMTUDISC_INTERFACE): kernel VXLAN leaves DF
// clear too, and RFC 7348 section 4.3 forbids a VTEP to fragment.
func udpSocket(local netip.AddrPort) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_INTERFACE); err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("forbid fragmentation: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Port: int(local.Port()), Addr: local.Addr().As4()}); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// growBuffer asks for more than net.core.[rw]mem_max where we may (that takes
// CAP_NET_ADMIN), else for what the system allows.
func growBuffer(fd, force, plain, size int) {
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, force, size) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, plain, size)
	}
}
