// SPDX-License-Identifier: Apache-2.0

package uplink

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// seeWithin is how long to wait for the probes to come by. The kernel forwards
// while we write; only a neighbour that has to be asked for first takes time.
const seeWithin = 200 * time.Millisecond

// prove sends a probe to the peer and looks whether it leaves by the interface.
func (d *Device) prove(peer netip.Addr) (verdict, string) {
	v, reason, err := d.try(peer)
	if err != nil {
		return blocked, fmt.Sprintf("the way cannot be proven: %v", err)
	}
	return v, reason
}

func (d *Device) try(peer netip.Addr) (verdict, string, error) {
	// The window is open for a moment only: while it is, the kernel copies
	// the head of every packet that leaves.
	window, err := openWindow(d.Interface, peer, d.Local.Port())
	if err != nil {
		return unknown, "", err
	}
	defer unix.Close(window)
	frame, err := probeFrame(d.endpoint, peer, d.MTU, d.port)
	if err != nil {
		return unknown, "", err
	}
	if err := unix.Sendto(int(d.control), make([]byte, controlLen), 0, &unix.SockaddrInet4{Port: int(d.Local.Port()), Addr: peer.As4()}); err != nil {
		return unknown, "", nil // no way there at all
	}
	if err := d.tap.write(frame); err != nil {
		return blocked, fmt.Sprintf("%s takes no super-frame: %v", d.Name, err), nil
	}
	const ahead = 24 + 50 // the virtio header and the outer ones
	want := len(frame) - ahead
	var s sighting
	deadline := time.Now().Add(seeWithin)
	for b := make([]byte, 2048); s.changed == "" && s.bytes < want; {
		n, err := receiveUntil(window, b, deadline)
		if err != nil {
			break
		}
		s.see(b[:n], netip.AddrPortFrom(d.Local.Addr(), d.port))
	}
	v, reason := s.judge(want)
	return v, reason, nil
}

// openControl opens an ordinary socket on an ordinary port. It serves all
// proofs: what waited for a neighbour to answer may leave while the next proof
// is under way, and must not look like something else then.
func openControl(local netip.Addr) (fd int, port uint16, err error) {
	fd, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, 0, fmt.Errorf("open UDP socket: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: local.As4()}); err != nil {
		return -1, 0, errors.Join(fmt.Errorf("bind UDP socket to %s: %w", local, err), unix.Close(fd))
	}
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 0) // nobody reads
	name, err := unix.Getsockname(fd)
	if in4, ok := name.(*unix.SockaddrInet4); ok {
		return fd, uint16(in4.Port), nil
	}
	return -1, 0, errors.Join(fmt.Errorf("name of UDP socket: %w", err), unix.Close(fd))
}

// openWindow opens a packet socket that sees, from their IP header on, the
// probes to the peer that leave by the interface.
func openWindow(index int, peer netip.Addr, port uint16) (int, error) {
	to := peer.As4()
	// Each test that fails goes to the last instruction but one.
	equal := func(value uint32, rest uint8) bpf.Instruction {
		return bpf.JumpIf{Cond: bpf.JumpEqual, Val: value, SkipFalse: rest}
	}
	steps := []bpf.Instruction{
		bpf.LoadExtension{Num: bpf.ExtType}, equal(unix.PACKET_OUTGOING, 10),
		bpf.LoadAbsolute{Off: 9, Size: 1}, equal(unix.IPPROTO_UDP, 8),
		bpf.LoadAbsolute{Off: 16, Size: 4}, equal(binary.BigEndian.Uint32(to[:]), 6),
		bpf.LoadMemShift{Off: 0}, // X: length of the IP header
		bpf.LoadIndirect{Off: 2, Size: 2}, equal(uint32(port), 3),
		bpf.LoadIndirect{Off: 8, Size: 4}, equal(0, 1), // the flags of the VXLAN header
		bpf.RetConstant{Val: 128},
		bpf.RetConstant{Val: 0},
	}
	raw, err := bpf.Assemble(steps)
	if err != nil {
		return -1, fmt.Errorf("assemble filter: %w", err)
	}
	filter := make([]unix.SockFilter, len(raw))
	for i, r := range raw {
		filter[i] = unix.SockFilter{Code: r.Op, Jt: r.Jt, Jf: r.Jf, K: r.K}
	}
	// Protocol 0 sees nothing before the filter is there.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open packet socket, which takes CAP_NET_RAW: %w", err)
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &program); err != nil {
		return -1, errors.Join(fmt.Errorf("attach filter: %w", err), unix.Close(fd))
	}
	var all [2]byte // only ETH_P_ALL sees what leaves
	binary.BigEndian.PutUint16(all[:], unix.ETH_P_ALL)
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: binary.NativeEndian.Uint16(all[:]), Ifindex: index}); err != nil {
		return -1, errors.Join(fmt.Errorf("bind packet socket: %w", err), unix.Close(fd))
	}
	return fd, nil
}

// receiveUntil receives one packet, of which b takes the head.
func receiveUntil(fd int, b []byte, deadline time.Time) (int, error) {
	for {
		left := time.Until(deadline)
		if left <= 0 {
			return 0, unix.EAGAIN
		}
		wait := unix.NsecToTimeval(max(left, time.Millisecond).Nanoseconds())
		if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait); err != nil {
			return 0, err
		}
		n, _, err := unix.Recvfrom(fd, b, 0)
		if !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}
