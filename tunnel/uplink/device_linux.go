// SPDX-License-Identifier: Apache-2.0

package uplink

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"

	"vxtap/encap/ether"
	"vxtap/encap/vxlan"
	"vxtap/tunnel"
	"vxtap/tunnel/host"
	"vxtap/tunnel/tap"
)

// file is the descriptor of the TAP.
type file int

// Open creates the uplink TAP and lets the host forward what comes from it. All
// gates are closed until Run opens them. The error says why there can be none;
// without a kernel that has it, it matches errors.ErrUnsupported. The caller
// closes the device after the loops that use it, and Run, have ended.
func Open(c Config) (*Device, error) {
	d := newDevice(c)
	d.mark = newMark()
	d.endpoint = vxlan.Endpoint{MAC: ether.RandomMAC(), Local: c.Local}
	d.prove, d.mend = d.proveAll, d.setUpAgain
	fd, err := tap.OpenUplink(c.Name, d.endpoint.MAC)
	if err != nil {
		return nil, err
	}
	d.tap = file(fd)
	if _, err := host.AdmitUplink(c.Name); err != nil && c.Must {
		return nil, errors.Join(err, d.Close())
	}
	control, err := openControl(c.Local.Addr())
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	d.control = file(control)
	return d, nil
}

// setUpAgain sets on the TAP what somebody may have taken away, and makes a new
// one where it is gone. It reports whether there was anything to do. Somebody may
// have given the TAP another name, and its own to something else.
func (d *Device) setUpAgain() (changed bool, err error) {
	name, ok := d.tap.name()
	if !ok {
		if err := d.replace(); err != nil {
			return false, err
		}
		name = d.Name
	}
	changed, err = host.AdmitUplink(name)
	return changed || !ok, err
}

// replace puts a new TAP behind the descriptor, in one step: the lanes write to
// it all the time.
func (d *Device) replace() error {
	fd, err := tap.OpenUplink(d.Name, d.endpoint.MAC)
	if err != nil {
		return err
	}
	err = unix.Dup3(fd, int(d.tap), unix.O_CLOEXEC)
	if err := errors.Join(err, unix.Close(fd)); err != nil {
		return fmt.Errorf("replace %s: %w", d.Name, err)
	}
	return nil
}

// newMark returns one that others do not have.
func newMark() (m mark) {
	binary.NativeEndian.PutUint32(m[:], rand.Uint32())
	return m
}

// openControl opens an ordinary socket on an ordinary port. It serves all
// proofs: what waited for a neighbour to answer may leave while the next proof
// is under way, and must not look like something else then.
func openControl(local netip.Addr) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, fmt.Errorf("open UDP socket: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: local.As4()}); err != nil {
		return -1, errors.Join(fmt.Errorf("bind UDP socket to %s: %w", local, err), unix.Close(fd))
	}
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 0) // nobody reads
	return fd, nil
}

// name returns the name of the TAP, false where it is there no more.
func (f file) name() (string, bool) {
	ifr, err := unix.NewIfreq("")
	if err != nil || unix.IoctlIfreq(int(f), unix.TUNGETIFF, ifr) != nil {
		return "", false
	}
	return ifr.Name(), true
}

// write goes past the Go scheduler: the descriptor is non-blocking.
func (f file) write(b []byte) error {
	for {
		_, _, errno := unix.RawSyscall(unix.SYS_WRITE, uintptr(f), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
		switch errno {
		case 0:
			return nil
		case unix.EINTR:
			continue
		case unix.EAGAIN, unix.ENOBUFS, unix.ENOMEM:
			return tunnel.ErrFull
		case unix.EINVAL:
			return tunnel.ErrRefused
		case unix.EIO:
			return errDown
		case unix.EBADFD:
			return errDeleted
		}
		return tunnel.ErrFrame
	}
}

// Close removes the TAP.
func (d *Device) Close() error {
	if d.control >= 0 {
		unix.Close(int(d.control))
	}
	if err := unix.Close(int(d.tap)); err != nil {
		return fmt.Errorf("close %s: %w", d.Name, err)
	}
	return nil
}
