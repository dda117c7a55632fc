// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package traffic

import (
	"errors"
	"net"
)

func setSegmentSize(*net.UDPConn, int) error { return errors.ErrUnsupported }

func segmentControl(int) []byte { return nil }

func socketDrops(*net.UDPConn) int { return -1 }

func pinThread(int) error { return errors.ErrUnsupported }
