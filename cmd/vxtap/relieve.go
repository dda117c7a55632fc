// SPDX-License-Identifier: Apache-2.0

package main

import (
	"runtime"
	"runtime/debug"
)

// relieve gives memory back that was needed for a moment. What gRPC has received is
// kept in pools, which one collection empties into another place and the next one
// for good (sync.Pool).
func relieve() {
	runtime.GC()
	debug.FreeOSMemory()
}
