// SPDX-License-Identifier: Apache-2.0

package uplink

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
	"golang.org/x/time/rate"

	"vxtap/encap/vxlan"
	"vxtap/tunnel"
	"vxtap/tunnel/host"
	"vxtap/tunnel/tap"
)

// file is the descriptor of the TAP.
type file int

// Open creates the uplink TAP and lets the host forward what comes from it. The
// way is closed until Run has proven it. The error says why there can be none;
// without a kernel that has it, it matches errors.ErrUnsupported. The caller
// closes the device after the loops that use it, and Run, have ended.
func Open(c Config) (*Device, error) {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	fd, err := tap.OpenUplink(c.Name)
	if err != nil {
		return nil, err
	}
	d := &Device{Config: c, tap: file(fd), control: -1, mark: newMark(), again: make(chan struct{}, 1), reason: noPeer}
	if err := host.AdmitUplink(c.Name); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	control, err := openControl(c.Local.Addr())
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	d.control = file(control)
	// A host that is being set up may say much at once; one that goes on, little.
	d.say = rate.NewLimiter(rate.Every(10*time.Second), 20)
	mac, err := host.MAC(c.Name)
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	d.endpoint = vxlan.Endpoint{MAC: mac, Local: c.Local}
	return d, nil
}

// newMark returns one that others do not have.
func newMark() (m mark) {
	binary.NativeEndian.PutUint32(m[:], rand.Uint32())
	return m
}

// What somebody else can have done to the TAP. Plain values, as those of
// package tunnel are: a lane gets them for a frame.
var (
	errDown    = errors.New("somebody took it down")
	errDeleted = errors.New("somebody deleted it, start vxtap again to get a new one")
)

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
