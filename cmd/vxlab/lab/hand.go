// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"net"
	"path/filepath"
)

// answersInRunDir reports whether a daemon answers in a run directory. It says
// nothing of who started it: a daemon that somebody starts by hand in a host
// finds its run directory in the environment, as Exec has it.
func answersInRunDir(dir string) bool {
	sockets, err := filepath.Glob(filepath.Join(dir, "*.sock"))
	if err != nil {
		return false
	}
	for _, path := range sockets {
		// Of one that was left by the dead nobody takes the call.
		if conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"}); err == nil {
			conn.Close()
			return true
		}
	}
	return false
}
