// SPDX-License-Identifier: Apache-2.0

package underlay

import (
	"errors"
	"fmt"
	"net/netip"
)

// Rebind moves all sockets to another address of the host, with the ports that
// they have, while they are in use. What came for the old address and was not
// received yet is lost; nothing is lost that is being sent. After an error the
// sockets are where they were, and it may be tried again. Where the platform, or
// the back end, cannot move its sockets, the error matches errors.ErrUnsupported.
//
// Whoever sleeps until a Descriptor becomes readable has to be woken after it. One
// goroutine at a time may call it.
func (c *Conn) Rebind(local netip.Addr) error {
	switch {
	case !local.Is4():
		return fmt.Errorf("underlay address %s: only IPv4 underlays are there so far", local)
	case c.rebind == nil:
		return fmt.Errorf("move the UDP sockets to %s: %w", local, errors.ErrUnsupported)
	}
	if err := c.rebind(local); err != nil {
		return fmt.Errorf("move the UDP sockets to %s: %w", local, err)
	}
	return nil
}
