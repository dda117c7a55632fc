// SPDX-License-Identifier: Apache-2.0

package traffic

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// BacklogDrops returns how many packets found a processor's input queue full
// (net.core.netdev_max_backlog), in all namespaces of the machine together: veth
// pairs deliver through these queues. A super-frame counts as one.
func BacklogDrops() (uint64, error) {
	text, err := os.ReadFile("/proc/net/softnet_stat")
	if err != nil {
		return 0, fmt.Errorf("count packets lost before a namespace: %w", err)
	}
	return parseSoftnet(string(text))
}

// parseSoftnet adds up the second column, which is hexadecimal, as all are.
func parseSoftnet(text string) (sum uint64, err error) {
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			return 0, fmt.Errorf("softnet_stat: %q has no second column", line)
		}
		n, err := strconv.ParseUint(fields[1], 16, 64)
		if err != nil {
			return 0, fmt.Errorf("softnet_stat: %w", err)
		}
		sum += n
	}
	return sum, nil
}
