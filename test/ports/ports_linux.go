// SPDX-License-Identifier: Apache-2.0

package ports

import (
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// keep binds a socket and does not listen. With SO_REUSEADDR on both sides the
// kernel lets somebody who names the port listen on it all the same, as Go's
// servers do, and passes it over when it chooses a port: inet_csk_find_open_port
// and __inet_hash_connect, Linux 3.9 and later.
func keep() (addr string, release func(), err error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return "", nil, err
	}
	defer func() {
		if err != nil {
			unix.Close(fd)
		}
	}()
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return "", nil, err
	}
	loopback := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: loopback.As4()}); err != nil {
		return "", nil, err
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		return "", nil, err
	}
	bound, ok := name.(*unix.SockaddrInet4)
	if !ok {
		return "", nil, fmt.Errorf("an address of type %T", name)
	}
	return netip.AddrPortFrom(loopback, uint16(bound.Port)).String(), func() { unix.Close(fd) }, nil
}
