// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package traffic

import (
	"errors"
	"net"
)

func setSegmentSize(*net.UDPConn, int) error { return errors.ErrUnsupported }
