// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package tap

import (
	"errors"
	"fmt"
)

const haveVnetHdr = false

func openVnet(Config) (*Device, error) {
	return nil, fmt.Errorf("virtio-net headers: %w", errors.ErrUnsupported)
}
