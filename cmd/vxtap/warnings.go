// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// sysctls is where the kernel shows the settings of the namespace that asks.
const sysctls = "/proc/sys"

// warningsEvery is how often the log looks for a change. vxtap status looks
// whenever it is asked.
const warningsEvery = 5 * time.Second

// hostWarnings says what on this host keeps containers from the overlay although
// the tunnel itself is well, and the command that mends it. Such packets are
// lost outside of vxtap: none of its counters can move.
//
// The kernel asks the device that a packet came from whether it is to be
// forwarded. net.ipv4.ip_forward is what new devices begin with, and writing to
// it writes to all; a host where somebody then opened the device alone is not
// warned of. Where nothing can be read, as on other systems, nothing is said.
func hostWarnings(root, device string) []string {
	warnings := []string{}
	all, ok := sysctl(root, "net/ipv4/ip_forward")
	if !ok {
		return warnings
	}
	own, ok := sysctl(root, "net/ipv4/conf/"+device+"/forwarding")
	switch {
	case ok && own != "0", !ok && all != "0":
	case all == "0":
		warnings = append(warnings, "net.ipv4.ip_forward=0: containers on this host are cut off from the overlay: sysctl -w net.ipv4.ip_forward=1")
	default:
		// With slashes for separators, since the device's name has a dot.
		warnings = append(warnings, fmt.Sprintf("net/ipv4/conf/%s/forwarding=0: what comes for containers on this host is thrown away: sysctl -w net/ipv4/conf/%s/forwarding=1", device, device))
	}
	return warnings
}

// sysctl reads one setting below root, and says whether there is one.
func sysctl(root, name string) (string, bool) {
	b, err := os.ReadFile(filepath.Join(root, name))
	return strings.TrimSpace(string(b)), err == nil
}

// reportWarnings says in the log what look returns, once for each warning that
// comes and each that goes, until ctx ends.
func reportWarnings(ctx context.Context, log *slog.Logger, look func() []string) {
	var said []string
	for {
		now := look()
		for _, w := range now {
			if !slices.Contains(said, w) {
				log.Warn("containers are not reached", "reason", w)
			}
		}
		for _, w := range said {
			if !slices.Contains(now, w) {
				log.Info("no longer in the way", "reason", w)
			}
		}
		said = now
		if pause(ctx, warningsEvery) != nil {
			return
		}
	}
}
