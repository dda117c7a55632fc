// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package tap

import (
	"github.com/songgao/water"

	"vxtap/tunnel"
)

// The other platforms name their TAPs themselves.
func waterConfig(string) water.Config {
	return water.Config{DeviceType: water.TAP}
}

// The MAC is the platform's to set, through its own tools.
func setWaterMAC(*water.Interface, Config) error { return nil }

// waterDescriptor returns -1: what can be waited for elsewhere is nowhere
// written, so that reads wait in the runtime's poller.
func waterDescriptor(*water.Interface) int { return -1 }

// lookWater finds nothing, as it cannot look without waiting.
func lookWater(int, []byte) (int, error) { return 0, tunnel.ErrEmpty }
