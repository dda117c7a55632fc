// SPDX-License-Identifier: Apache-2.0

package traffic

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"

	"vxtap/cmd/vxlab/netns"
)

// Counters reads the protocol counters of a namespace (/proc/net/snmp), named
// as in "Tcp/InCsumErrors".
func Counters(ns *netns.Namespace) (map[string]uint64, error) {
	var text []byte
	err := ns.Do(func() (err error) {
		text, err = os.ReadFile("/proc/thread-self/net/snmp")
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("protocol counters of %s: %w", ns.Name(), err)
	}
	return parseSNMP(text), nil
}

// parseSNMP reads pairs of lines: names, then values.
func parseSNMP(text []byte) map[string]uint64 {
	counters := map[string]uint64{}
	var names []string
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) == 0 {
			continue
		}
		if len(names) == 0 || names[0] != fields[0] {
			names = fields
			continue
		}
		for i := 1; i < min(len(names), len(fields)); i++ {
			if v, err := strconv.ParseUint(fields[i], 10, 64); err == nil {
				counters[strings.TrimSuffix(names[0], ":")+"/"+names[i]] = v
			}
		}
		names = nil
	}
	return counters
}

// Unharmed checks that no packet reached a namespace with a wrong checksum and
// that no TCP connection was reset in it.
func Unharmed(ns *netns.Namespace) error {
	c, err := Counters(ns)
	if err != nil {
		return err
	}
	for _, name := range []string{"Tcp/InCsumErrors", "Udp/InCsumErrors", "Icmp/InCsumErrors", "Tcp/EstabResets", "Tcp/OutRsts"} {
		if c[name] != 0 {
			return fmt.Errorf("%s: %s is %d, want 0", ns.Name(), name, c[name])
		}
	}
	return nil
}
