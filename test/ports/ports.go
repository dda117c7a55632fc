// SPDX-License-Identifier: Apache-2.0

// Package ports keeps TCP ports of the loopback interface for servers that a
// test starts as other processes.
//
// A port that is picked free and let go again may be anybody's by the time that
// its server starts: other packages are tested meanwhile, and each of their
// connections takes one of the same range. A server that is stopped for a while
// loses its port the same way.
package ports

import "testing"

// Keep returns an address of 127.0.0.1, as host:port, that nobody but a server
// which asks for it can listen on until the test ends. Before it does, and when
// it has gone, connections are refused.
//
// That is so on Linux. Elsewhere the port is free when Keep returns, and
// somebody else may take it.
func Keep(t testing.TB) string {
	t.Helper()
	addr, release, err := keep()
	if err != nil {
		t.Fatalf("keep a port: %v", err)
	}
	t.Cleanup(release)
	return addr
}
