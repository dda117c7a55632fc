// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package underlay

import "syscall"

// errPortTaken is what bindRandom tries again after.
var errPortTaken error = syscall.EADDRINUSE

func open(c Config) (*Conn, error) { return openPortable(c) }
