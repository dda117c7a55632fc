// SPDX-License-Identifier: Apache-2.0

package traffic

import (
	"net"

	"golang.org/x/sys/unix"
)

// setSegmentSize makes every send on conn a run of datagrams of size bytes.
func setSegmentSize(conn *net.UDPConn, size int) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var set error
	if err := raw.Control(func(fd uintptr) {
		set = unix.SetsockoptInt(int(fd), unix.IPPROTO_UDP, unix.UDP_SEGMENT, size)
	}); err != nil {
		return err
	}
	return set
}
