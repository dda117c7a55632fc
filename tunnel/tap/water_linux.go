// SPDX-License-Identifier: Apache-2.0

package tap

import (
	"errors"
	"fmt"
	"os"
	"unsafe"

	"github.com/songgao/water"
	"golang.org/x/sys/unix"

	"vxtap/tunnel"
)

func waterConfig(name string) water.Config {
	return water.Config{DeviceType: water.TAP, PlatformSpecificParams: water.PlatformSpecificParams{Name: name}}
}

func setWaterMAC(ifce *water.Interface, c Config) (err error) {
	if c.MAC.IsZero() {
		return nil
	}
	used := useDescriptor(ifce, func(fd int) { err = setMAC(fd, c.Name, c.MAC) })
	return errors.Join(err, used)
}

// waterDescriptor returns the descriptor behind ifce, which stays ifce's: it is
// good until ifce is closed. water opens it non-blocking.
//
// With it a lane sleeps for both directions at once. Without, each has a thread,
// of which one sleeps in a system call of ours and the other in the Go runtime's
// poller. The runtime takes the first for busy, and relies on it to look into
// the poller soon; what comes meanwhile is found only by the runtime's monitor,
// after ten milliseconds.
func waterDescriptor(ifce *water.Interface) int {
	found := -1
	if useDescriptor(ifce, func(fd int) { found = fd }) != nil {
		return -1
	}
	return found
}

func useDescriptor(ifce *water.Interface, use func(fd int)) error {
	f, ok := ifce.ReadWriteCloser.(*os.File)
	if !ok {
		return fmt.Errorf("device without a descriptor: %w", errors.ErrUnsupported)
	}
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	return raw.Control(func(fd uintptr) { use(int(fd)) })
}

// lookWater reads a frame without waiting, and past the Go scheduler: it never
// sleeps.
func lookWater(fd int, b []byte) (int, error) {
	if fd < 0 || len(b) == 0 {
		return 0, tunnel.ErrEmpty
	}
	for {
		n, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR:
		case unix.EAGAIN:
			return 0, tunnel.ErrEmpty
		case unix.EBADFD:
			return 0, ErrDeleted
		default:
			return 0, fmt.Errorf("read TAP: %w", errno)
		}
	}
}
