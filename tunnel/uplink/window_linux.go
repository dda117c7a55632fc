// SPDX-License-Identifier: Apache-2.0

package uplink

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// window is a packet socket that sees, from their IP header on, the VXLAN
// datagrams without the I flag that leave by any interface.
type window int

const (
	// snap is how much of each packet it sees.
	snap = 128
	// windowBytes is room for the packets of one peer, with what the kernel
	// keeps beside them: a probe has 64 KiB at the most, and may leave by a
	// bond and one of its ports.
	windowBytes = 4 << 20
)

func openWindow(port uint16) (window, error) {
	filter, err := windowFilter(port)
	if err != nil {
		return -1, err
	}
	// Protocol 0 sees nothing before the filter is there.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, fmt.Errorf("open packet socket, which takes CAP_NET_RAW: %w", err)
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &program); err != nil {
		return -1, errors.Join(fmt.Errorf("attach filter: %w", err), unix.Close(fd))
	}
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, windowBytes) // less will do for small MTUs
	var all [2]byte                                                               // only ETH_P_ALL sees what leaves
	binary.BigEndian.PutUint16(all[:], unix.ETH_P_ALL)
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: binary.NativeEndian.Uint16(all[:])}); err != nil {
		return -1, errors.Join(fmt.Errorf("bind packet socket: %w", err), unix.Close(fd))
	}
	return window(fd), nil
}

func windowFilter(port uint16) ([]unix.SockFilter, error) {
	// Each test that fails goes to the last instruction.
	equal := func(value uint32, rest uint8) bpf.Instruction {
		return bpf.JumpIf{Cond: bpf.JumpEqual, Val: value, SkipFalse: rest}
	}
	raw, err := bpf.Assemble([]bpf.Instruction{
		bpf.LoadExtension{Num: bpf.ExtType}, equal(unix.PACKET_OUTGOING, 8),
		bpf.LoadAbsolute{Off: 9, Size: 1}, equal(unix.IPPROTO_UDP, 6),
		bpf.LoadMemShift{Off: 0}, // X: length of the IP header
		bpf.LoadIndirect{Off: 2, Size: 2}, equal(uint32(port), 3),
		bpf.LoadIndirect{Off: 8, Size: 4}, equal(0, 1), // the flags of the VXLAN header
		bpf.RetConstant{Val: snap},
		bpf.RetConstant{Val: 0},
	})
	if err != nil {
		return nil, fmt.Errorf("assemble filter: %w", err)
	}
	filter := make([]unix.SockFilter, len(raw))
	for i, r := range raw {
		filter[i] = unix.SockFilter{Code: r.Op, Jt: r.Jt, Jf: r.Jf, K: r.K}
	}
	return filter, nil
}

func (w window) close() { _ = unix.Close(int(w)) }

// read reads one packet, of which b takes the head, and the index of the
// interface that it left by. It returns false when there is none.
func (w window) read(b []byte) (n, device int, ok bool) {
	for {
		n, from, err := unix.Recvfrom(int(w), b, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		link, is := from.(*unix.SockaddrLinklayer)
		if err != nil || !is {
			return 0, 0, false
		}
		return n, link.Ifindex, true
	}
}

// await returns when there is a packet, or after the time, and now and then for
// nothing.
func (w window) await(limit time.Duration) {
	set := []unix.PollFd{{Fd: int32(w), Events: unix.POLLIN}}
	_, _ = unix.Poll(set, int(max(limit.Milliseconds(), 1)))
}
