// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package uplink

import (
	"errors"
	"fmt"
	"net/netip"
)

type file int

func (file) write([]byte) error { return errors.ErrUnsupported }

// Open returns an error that matches errors.ErrUnsupported.
func Open(Config) (*Device, error) {
	return nil, fmt.Errorf("super-frames leave whole on Linux 6.17 and later: %w", errors.ErrUnsupported)
}

func (d *Device) moveControl(netip.Addr) error { return nil }

// Close does nothing.
func (d *Device) Close() error { return nil }
