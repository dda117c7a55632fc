// SPDX-License-Identifier: Apache-2.0

package underlay

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"vxtap/tunnel"
	"vxtap/tunnel/poll"
)

// receiver is one socket on the VXLAN port. Its fields, but fd and poll, belong
// to the goroutine that receives.
type receiver struct {
	fd   int
	gro  bool
	six  bool
	poll *poll.Poller // for a Receive that waits
	// missed is what overflows counted of sockets that were behind fd before.
	missed atomic.Uint64

	hdrs    [receiveSlots]mmsghdr
	iovs    [receiveSlots]unix.Iovec
	names   [receiveSlots]sockaddr
	control [receiveSlots]control
	slots   [receiveSlots][]byte
}

const (
	// receiveSlots is how many datagrams one call may bring. Joined ones hold
	// up to 64, so that a few do.
	receiveSlots = 8
	// slotStride keeps the slots off each other's cache sets, which slots of
	// exactly 64 KiB would share. Memory that no datagram reaches is never
	// touched.
	slotStride = 1<<16 + 4096 + 192
	// controlLen has room for two integers, each behind a cmsghdr, on every
	// architecture.
	controlLen = 64
)

// control is memory for control messages, aligned as a cmsghdr must be.
type control struct {
	_     [0]uint64
	bytes [controlLen]byte
}

func (r *receiver) open(c Config, share sharing) (err error) {
	r.six = c.Local.Addr().Is6()
	if r.fd, r.gro, err = receiveSocket(c, share); err != nil {
		return err
	}
	if r.poll, err = poll.New(r.fd); err != nil {
		return err
	}
	memory := make([]byte, receiveSlots*slotStride)
	for i := range r.hdrs {
		r.slots[i] = memory[i*slotStride:][:maxDatagram]
		r.iovs[i].Base = &r.slots[i][0]
		r.iovs[i].SetLen(maxDatagram)
		h := &r.hdrs[i].hdr
		h.Iov = &r.iovs[i]
		h.SetIovlen(1)
		h.Name = r.names[i].pointer()
		h.Control = &r.control[i].bytes[0]
	}
	return nil
}

// receiveSocket opens a socket on the VXLAN port, and says whether the kernel
// joins what it receives. The descriptor is -1 after an error.
func receiveSocket(c Config, share sharing) (fd int, gro bool, err error) {
	if fd, err = udpSocket(c.Local, share); err != nil {
		return -1, false, err
	}
	growBuffer(fd, unix.SO_RCVBUFFORCE, unix.SO_RCVBUF, bufferSize)
	level, option := unix.IPPROTO_IP, unix.IP_RECVTOS
	if c.Local.Addr().Is6() {
		level, option = unix.IPPROTO_IPV6, unix.IPV6_RECVTCLASS
	}
	if err := unix.SetsockoptInt(fd, level, option, 1); err != nil {
		unix.Close(fd)
		return -1, false, fmt.Errorf("ask for TOS: %w", err)
	}
	return fd, c.GRO && unix.SetsockoptInt(fd, unix.IPPROTO_UDP, unix.UDP_GRO, 1) == nil, nil
}

// close undoes open, as far as it came.
func (r *receiver) close() error {
	var errs []error
	if r.poll != nil {
		errs = append(errs, r.poll.Close())
	}
	if r.fd >= 0 {
		errs = append(errs, unix.Close(r.fd))
	}
	return errors.Join(errs...)
}

// Descriptor implements Lane.
func (r *receiver) Descriptor() int { return r.fd }

// Interrupt implements tunnel.Underlay.
func (r *receiver) Interrupt() { r.poll.Interrupt() }

// Receive implements tunnel.Underlay. The system call goes past the Go
// scheduler: it never sleeps.
func (r *receiver) Receive(datagrams []tunnel.Datagram, wait bool) (int, error) {
	if wait && r.poll.Interrupted() {
		return 0, tunnel.ErrInterrupted
	}
	n := min(len(datagrams), receiveSlots)
	for {
		for i := range n {
			r.hdrs[i].hdr.Namelen = sockaddrLen
			r.hdrs[i].hdr.SetControllen(controlLen)
		}
		got, _, errno := unix.RawSyscall6(unix.SYS_RECVMMSG, uintptr(r.fd), uintptr(unsafe.Pointer(&r.hdrs)), uintptr(n), unix.MSG_DONTWAIT, 0, 0)
		switch {
		case errno == 0:
			for i := range int(got) {
				r.describe(&datagrams[i], i)
			}
			return int(got), nil
		case errno == unix.EINTR:
			continue
		case errno != unix.EAGAIN:
			return 0, fmt.Errorf("receive: %w", errno)
		case !wait:
			return 0, tunnel.ErrEmpty
		}
		if err := r.poll.Wait(); err != nil {
			return 0, err
		}
	}
}

// describe fills d from slot i.
func (r *receiver) describe(d *tunnel.Datagram, i int) {
	h := &r.hdrs[i]
	*d = tunnel.Datagram{
		Data: r.slots[i][:min(int(h.len), maxDatagram)],
		From: r.names[i].addr(r.six),
	}
	readControl(d, r.control[i].bytes[:min(int(h.hdr.Controllen), controlLen)])
}

// readControl sets what the control messages in rest say of d.
func readControl(d *tunnel.Datagram, rest []byte) {
	for len(rest) >= unix.SizeofCmsghdr {
		c := (*unix.Cmsghdr)(unsafe.Pointer(&rest[0]))
		length, data := int(c.Len), unix.CmsgLen(0)
		if length < data || length > len(rest) {
			return
		}
		switch {
		case c.Level == unix.IPPROTO_UDP && c.Type == unix.UDP_GRO && length >= data+4:
			d.GSOSize = int(binary.NativeEndian.Uint32(rest[data:]))
		case c.Level == unix.IPPROTO_IP && c.Type == unix.IP_TOS && length > data:
			d.TOS = rest[data]
		case c.Level == unix.IPPROTO_IPV6 && c.Type == unix.IPV6_TCLASS && length >= data+4:
			d.TOS = uint8(binary.NativeEndian.Uint32(rest[data:]))
		}
		rest = rest[min(unix.CmsgSpace(length-data), len(rest)):]
	}
}

// overflows implements Lane.
func (r *receiver) overflows() uint64 { return r.missed.Load() + uint64(r.dropped()) }

// dropped is the socket's own count.
func (r *receiver) dropped() uint32 {
	var info [9]uint32 // SK_MEMINFO_VARS; SK_MEMINFO_DROPS is the last
	size := uint32(unsafe.Sizeof(info))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(r.fd), unix.SOL_SOCKET, unix.SO_MEMINFO,
		uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return 0
	}
	return info[8]
}
