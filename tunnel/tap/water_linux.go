// SPDX-License-Identifier: Apache-2.0

package tap

import (
	"errors"
	"fmt"
	"os"

	"github.com/songgao/water"
)

func waterConfig(name string) water.Config {
	return water.Config{DeviceType: water.TAP, PlatformSpecificParams: water.PlatformSpecificParams{Name: name}}
}

func setWaterMAC(ifce *water.Interface, c Config) error {
	if c.MAC.IsZero() {
		return nil
	}
	f, ok := ifce.ReadWriteCloser.(*os.File)
	if !ok {
		return fmt.Errorf("device without a descriptor: %w", errors.ErrUnsupported)
	}
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var set error
	if err := raw.Control(func(fd uintptr) { set = setMAC(int(fd), c.Name, c.MAC) }); err != nil {
		return err
	}
	return set
}
