// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package tap

import "github.com/songgao/water"

// The other platforms name their TAPs themselves.
func waterConfig(string) water.Config {
	return water.Config{DeviceType: water.TAP}
}

// The MAC is the platform's to set, through its own tools.
func setWaterMAC(*water.Interface, Config) error { return nil }
