// SPDX-License-Identifier: Apache-2.0

package host

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

const tunPath = "/dev/net/tun"

// Preflight reports whether this process may do what the switch needs: open
// /dev/net/tun, and set up devices. The error says what to do about it. It
// changes nothing.
func Preflight() error {
	if err := checkCapability(); err != nil {
		return err
	}
	f, err := os.OpenFile(tunPath, os.O_RDWR, 0)
	if err != nil {
		return tunError(err)
	}
	return f.Close()
}

// checkCapability looks at the effective set, not at the user ID: root in a
// container often lacks it, and another user may have been given it.
func checkCapability() error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3} // Pid 0: the calling thread
	var data [2]unix.CapUserData                                           // version 3 has 64 bits in two halves
	if err := unix.Capget(&header, &data[0]); err != nil {
		return fmt.Errorf("read capabilities: %w", err)
	}
	if data[0].Effective&(1<<unix.CAP_NET_ADMIN) == 0 {
		return errors.New("no CAP_NET_ADMIN, which setting up a TAP device takes: " +
			"run as root, or give a container --cap-add NET_ADMIN")
	}
	return nil
}

// tunError turns the ways in which /dev/net/tun can be out of reach into
// sentences.
func tunError(err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s is missing: load the module with modprobe tun, or give a container --device %s", tunPath, tunPath)
	case errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENXIO):
		return fmt.Errorf("%s is there, but the kernel has no TUN/TAP driver for it: load the module with modprobe tun", tunPath)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%s may not be opened: run as root, or give a container --device %s", tunPath, tunPath)
	}
	return fmt.Errorf("TAP devices are not available: %w", err)
}
