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

// Counters reads the protocol counters of a namespace (/proc/net/snmp, netstat
// and snmp6), named as in "Tcp/InCsumErrors", "TcpExt/TCPOFOQueue" and
// "Udp6InCsumErrors". TCP counts both families in one.
func Counters(ns *netns.Namespace) (map[string]uint64, error) {
	var text, six []byte
	err := ns.Do(func() error {
		for _, name := range []string{"snmp", "netstat"} {
			part, err := os.ReadFile("/proc/thread-self/net/" + name)
			if err != nil {
				return err
			}
			text = append(text, part...)
		}
		six, _ = os.ReadFile("/proc/thread-self/net/snmp6") // not there without IPv6
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("protocol counters of %s: %w", ns.Name(), err)
	}
	counters := parseSNMP(text)
	for lines := bufio.NewScanner(bytes.NewReader(six)); lines.Scan(); {
		if f := strings.Fields(lines.Text()); len(f) == 2 {
			if v, err := strconv.ParseUint(f[1], 10, 64); err == nil {
				counters[f[0]] = v
			}
		}
	}
	return counters, nil
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

// Unharmed looks at a namespace now and returns a function that says later
// what went wrong meanwhile: packets with a wrong checksum, or TCP connections
// that were reset.
func Unharmed(ns *netns.Namespace) (func() error, error) {
	before, err := Counters(ns)
	if err != nil {
		return nil, err
	}
	return func() error {
		after, err := Counters(ns)
		if err != nil {
			return err
		}
		for _, name := range []string{"Tcp/InCsumErrors", "Udp/InCsumErrors", "Icmp/InCsumErrors", "Udp6InCsumErrors", "Icmp6InCsumErrors", "Tcp/EstabResets", "Tcp/OutRsts"} {
			if n := after[name] - before[name]; n != 0 {
				return fmt.Errorf("%s: %s rose by %d", ns.Name(), name, n)
			}
		}
		return nil
	}, nil
}
