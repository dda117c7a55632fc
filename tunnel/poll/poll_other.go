// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package poll

import (
	"errors"
	"fmt"
)

// Poller is not there on this platform: loops block in their reads instead.
type Poller struct{}

// New returns an error that matches errors.ErrUnsupported.
func New(...int) (*Poller, error) {
	return nil, fmt.Errorf("poll: %w", errors.ErrUnsupported)
}

// Yield is never called.
func (*Poller) Yield() {}

// Wait is never called.
func (*Poller) Wait() error { return errors.ErrUnsupported }

// Wake is never called.
func (*Poller) Wake() {}

// Interrupt is never called.
func (*Poller) Interrupt() {}

// Interrupted is never called.
func (*Poller) Interrupted() bool { return true }

// Close is never called.
func (*Poller) Close() error { return nil }
