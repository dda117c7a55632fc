// SPDX-License-Identifier: Apache-2.0

package main

import (
	"vxtap/lease"
	"vxtap/tunnel/host"
)

// uptime is how long the machine has run, as the file of what was last known has it.
func uptime() lease.Uptime {
	name, up := host.Boot()
	return lease.Uptime{Boot: name, For: up}
}
