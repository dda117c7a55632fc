// SPDX-License-Identifier: Apache-2.0

package tap

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"vxtap/encap/ether"
	"vxtap/encap/virtio"
	"vxtap/tunnel"
)

const haveVnetHdr = true

// Masks for TUNSETOFFLOAD, best first: the kernel refuses the whole mask when
// it does not know one bit. USO came with Linux 6.2 and must be asked for in
// both families at once.
var offloadMasks = []struct {
	bits  uintptr
	names string
}{
	{unix.TUN_F_CSUM | unix.TUN_F_TSO4 | unix.TUN_F_TSO6 | unix.TUN_F_TSO_ECN | unix.TUN_F_USO4 | unix.TUN_F_USO6, "csum tso4 tso6 ecn uso4 uso6"},
	{unix.TUN_F_CSUM | unix.TUN_F_TSO4 | unix.TUN_F_TSO6 | unix.TUN_F_TSO_ECN, "csum tso4 tso6 ecn"},
	{unix.TUN_F_CSUM | unix.TUN_F_TSO4 | unix.TUN_F_TSO6, "csum tso4 tso6"},
	{unix.TUN_F_CSUM, "csum"},
}

// vnet is a TAP with IFF_VNET_HDR. The fields of each direction belong to the
// one goroutine that uses it.
type vnet struct {
	fd    int
	takes tunnel.Offloads

	// stopped is set by Interrupt, which a reader must notice also while there
	// is always one more frame to read.
	stopped atomic.Bool

	// Reading. poll waits for the device or for wake, an eventfd that
	// Interrupt makes readable for good: closing a descriptor would not wake
	// whoever is parked on it.
	wake    int
	poll    [2]unix.PollFd
	readHdr [virtio.HeaderLen]byte
	readVec [2]unix.Iovec

	// Writing.
	writeHdr [virtio.HeaderLen]byte
	writeVec []unix.Iovec
}

// maxPieces bounds the pieces of one written frame (UIO_MAXIOV).
const maxPieces = 1024

func openVnet(c Config) (*Device, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open /dev/net/tun: %w", err)
	}
	d, err := setUp(fd, c)
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	return d, nil
}

func setUp(fd int, c Config) (*Device, error) {
	ifr, err := unix.NewIfreq(c.Name)
	if err != nil {
		return nil, fmt.Errorf("device name %q: %w", c.Name, err)
	}
	// IFF_TUN_EXCL: never attach to a device that somebody else made.
	ifr.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR | unix.IFF_TUN_EXCL)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr); err != nil {
		return nil, fmt.Errorf("create TAP %s: %w", c.Name, err)
	}
	if !c.MAC.IsZero() {
		if err := setMAC(fd, c.Name, c.MAC); err != nil {
			return nil, fmt.Errorf("set MAC of %s: %w", c.Name, err)
		}
	}
	names := ""
	for _, m := range offloadMasks {
		if err := unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, int(m.bits)); err == nil {
			names = m.names
			break
		}
	}
	v, err := newVnet(fd, names)
	if err != nil {
		return nil, err
	}
	return &Device{name: c.Name, port: v, offloads: strings.Fields(names)}, nil
}

// setMAC gives the address at once, before anyone sees the device with a
// random one: systemd's MACAddressPolicy then leaves it alone (flannel issue
// 1155). The structure is the kernel's struct ifreq, 40 bytes on 64-bit and 32
// on 32-bit machines.
func setMAC(fd int, name string, mac ether.MAC) error {
	var req struct {
		name   [unix.IFNAMSIZ]byte
		family uint16
		addr   [14]byte
		_      [8]byte
	}
	copy(req.name[:], name)
	req.family = unix.ARPHRD_ETHER
	copy(req.addr[:], mac[:])
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCSIFHWADDR, uintptr(unsafe.Pointer(&req)))
	if errno != 0 {
		return errno
	}
	return nil
}

func newVnet(fd int, offloads string) (*vnet, error) {
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	v := &vnet{fd: fd, wake: wake, writeVec: make([]unix.Iovec, 0, maxPieces)}
	for name := range strings.FieldsSeq(offloads) {
		switch name {
		case "csum":
			v.takes.Csum = true
		case "tso4":
			v.takes.TCP4 = true
		case "tso6":
			v.takes.TCP6 = true
		case "uso4":
			v.takes.UDP = true
		}
	}
	v.poll = [2]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}, {Fd: int32(wake), Events: unix.POLLIN}}
	v.readVec[0].Base = &v.readHdr[0]
	v.readVec[0].SetLen(virtio.HeaderLen)
	return v, nil
}

// Takes implements tunnel.Port.
func (v *vnet) Takes() tunnel.Offloads { return v.takes }

// ReadFrame implements tunnel.Port.
func (v *vnet) ReadFrame(b []byte, h *virtio.Header, wait bool) (int, error) {
	v.readVec[1].Base = unsafe.SliceData(b)
	v.readVec[1].SetLen(len(b))
	if wait && v.stopped.Load() {
		return 0, tunnel.ErrInterrupted
	}
	for {
		n, _, errno := unix.Syscall(unix.SYS_READV, uintptr(v.fd), uintptr(unsafe.Pointer(&v.readVec)), 2)
		switch {
		case errno == 0 && n >= virtio.HeaderLen:
			h.Decode(v.readHdr[:])
			return int(n) - virtio.HeaderLen, nil
		case errno == 0 || errno == unix.EINTR:
			// Nothing that a frame could be made of: look again.
		case errno == unix.EBADFD:
			return 0, errDeleted
		case errno != unix.EAGAIN:
			return 0, fmt.Errorf("read TAP: %w", errno)
		case !wait:
			return 0, tunnel.ErrEmpty
		default:
			if err := v.park(); err != nil {
				return 0, err
			}
		}
	}
}

// errDeleted is what a TAP says after somebody deleted it.
var errDeleted = fmt.Errorf("somebody deleted the TAP, start again to get a new one: %w", unix.EBADFD)

// park sleeps until the device is readable or Interrupt was called.
func (v *vnet) park() error {
	for {
		_, err := unix.Poll(v.poll[:], -1)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return fmt.Errorf("poll TAP: %w", err)
		case v.poll[1].Revents != 0:
			return tunnel.ErrInterrupted
		case v.poll[0].Revents&unix.POLLIN == 0:
			return errDeleted // POLLERR alone
		}
		return nil
	}
}

// WriteFrame implements tunnel.Port.
func (v *vnet) WriteFrame(h virtio.Header, head []byte, payloads [][]byte) error {
	if len(head) == 0 || len(payloads) > maxPieces-2 {
		return tunnel.ErrFrame
	}
	h.Put(v.writeHdr[:])
	vec := v.writeVec[:0]
	vec = appendPiece(vec, v.writeHdr[:])
	vec = appendPiece(vec, head)
	for _, p := range payloads {
		vec = appendPiece(vec, p)
	}
	for {
		_, _, errno := unix.Syscall(unix.SYS_WRITEV, uintptr(v.fd), uintptr(unsafe.Pointer(&vec[0])), uintptr(len(vec)))
		switch errno {
		case 0:
			return nil
		case unix.EINTR:
			continue
		case unix.EAGAIN, unix.ENOBUFS:
			return tunnel.ErrFull
		case unix.EINVAL:
			if h.IsGSO() {
				return tunnel.ErrRefused
			}
		}
		return tunnel.ErrFrame
	}
}

func appendPiece(vec []unix.Iovec, p []byte) []unix.Iovec {
	if len(p) == 0 {
		return vec
	}
	vec = append(vec, unix.Iovec{Base: unsafe.SliceData(p)})
	vec[len(vec)-1].SetLen(len(p))
	return vec
}

// Interrupt implements tunnel.Port.
func (v *vnet) Interrupt() {
	v.stopped.Store(true)
	one := [8]byte{1, 1, 1, 1, 1, 1, 1, 1} // any number but zero
	_, _ = unix.Write(v.wake, one[:])
}

// Close removes the device. No call may be under way.
func (v *vnet) Close() error {
	unix.Close(v.wake)
	return unix.Close(v.fd)
}
