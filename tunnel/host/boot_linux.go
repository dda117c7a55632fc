// SPDX-License-Identifier: Apache-2.0

package host

import (
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Boot returns for how long the machine has run, time asleep included, and a name for
// the boot: "" if it cannot tell. Only under equal names can two of them be compared,
// and then whatever becomes of the clock on the wall. Containers in another time
// namespace may have this clock set off (time_namespaces(7)), so that it is part of the
// name.
func Boot() (name string, up time.Duration) {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", 0
	}
	clock, err := os.Readlink("/proc/self/ns/time")
	if err != nil {
		clock = "" // Linux before 5.6, which has no such namespaces
	}
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		return "", 0
	}
	return strings.TrimSpace(string(boot)) + " " + clock, time.Duration(t.Nano())
}
