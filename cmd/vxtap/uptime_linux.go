// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"vxtap/lease"
)

// uptime returns how long the machine has run. The clock is one for all containers
// of a boot but for those in another time namespace, which may have it set off
// (time_namespaces(7)): so that is part of the boot's name.
func uptime() lease.Uptime {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return lease.Uptime{}
	}
	clock, err := os.Readlink("/proc/self/ns/time")
	if err != nil {
		clock = "" // Linux before 5.6, which has no such namespaces
	}
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		return lease.Uptime{}
	}
	return lease.Uptime{Boot: strings.TrimSpace(string(boot)) + " " + clock, For: time.Duration(t.Nano())}
}
