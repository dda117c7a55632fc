// SPDX-License-Identifier: Apache-2.0

package routes

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"vxtap/cmd/vxlab/netns"
)

// seen is what a wire carried of the overlay, in frames.
type seen struct {
	native    int // packets from containers, as they are
	tunnelled int // VXLAN datagrams
}

// watch opens a packet socket on eth0 and returns a function that tells what came
// and went since it was called last. Other traffic, and the first packets that
// hosts try each other's way with, are not counted: only IPv4 from the overlay, and
// VXLAN around it.
func watch(t *testing.T, ns *netns.Namespace, overlay netip.Prefix) func() seen {
	t.Helper()
	fd := -1
	err := ns.Do(func() (err error) {
		ifc, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0); err != nil {
			return err
		}
		all := binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, unix.ETH_P_ALL))
		return errors.Join(
			unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20),
			unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: ifc.Index}))
	})
	if err != nil {
		t.Fatalf("capture on eth0 of %s: %v", ns.Name(), err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return func() (s seen) {
		for b := make([]byte, 1<<17); ; {
			n, err := unix.Read(fd, b)
			if err != nil {
				return s
			}
			s.add(b[:n], overlay)
		}
	}
}

func (s *seen) add(frame []byte, overlay netip.Prefix) {
	const eth, ip, udp, vxlan = 14, 20, 8, 8
	inOverlay := func(b []byte) bool {
		return len(b) >= ip && b[0]>>4 == 4 && overlay.Contains(netip.AddrFrom4([4]byte(b[12:16])))
	}
	if len(frame) < eth+ip || binary.BigEndian.Uint16(frame[12:]) != unix.ETH_P_IP {
		return
	}
	packet := frame[eth:]
	if inOverlay(packet) {
		s.native++
		return
	}
	const inner = ip + udp + vxlan + eth
	if packet[9] == unix.IPPROTO_UDP && len(packet) > inner && binary.BigEndian.Uint16(packet[ip+2:]) == 8472 && inOverlay(packet[inner:]) {
		s.tunnelled++
	}
}
