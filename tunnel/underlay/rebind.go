// SPDX-License-Identifier: Apache-2.0

package underlay

import (
	"errors"
	"fmt"
	"net/netip"
)

// Rebind moves all sockets to another address of the host, of the same IP version
// and, if it is link-local, with its zone, while they are in use. They keep their
// ports. What came for the old address and was not
// received yet is lost; nothing is lost that is being sent. After an error the
// sockets are where they were, and it may be tried again. Where the platform, or
// the back end, cannot move its sockets, the error matches errors.ErrUnsupported.
//
// Whoever sleeps until a Descriptor becomes readable has to be woken after it. One
// goroutine at a time may call it.
func (c *Conn) Rebind(local netip.Addr) error {
	switch {
	case !local.IsValid() || local.Is4In6() || local.Is6() != c.six:
		return fmt.Errorf("move the UDP sockets to %s: it is of another IP version than they are", local)
	case c.rebind == nil:
		return fmt.Errorf("move the UDP sockets to %s: %w", local, errors.ErrUnsupported)
	}
	if err := c.rebind(local); err != nil {
		return fmt.Errorf("move the UDP sockets to %s: %w", local, err)
	}
	return nil
}
