// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package ports

import "net"

// keep lets the port go again: there is no way to keep it that a server could
// pass.
func keep() (addr string, release func(), err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	return l.Addr().String(), func() {}, l.Close()
}
