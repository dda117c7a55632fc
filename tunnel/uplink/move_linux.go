// SPDX-License-Identifier: Apache-2.0

package uplink

import (
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// moveControl puts a socket on the address behind the descriptor of the control,
// in one step: a proof may be under way. Without one, as in tests, there is
// nothing to move.
func (d *Device) moveControl(local netip.Addr) error {
	if d.control < 0 {
		return nil
	}
	fd, err := openControl(local)
	if err != nil {
		return err
	}
	err = unix.Dup3(fd, int(d.control), unix.O_CLOEXEC)
	if err := errors.Join(err, unix.Close(fd)); err != nil {
		return fmt.Errorf("move the control of %s to %s: %w", d.Name, local, err)
	}
	return nil
}
