// SPDX-License-Identifier: Apache-2.0

package main

import (
	"slices"

	"vxtap/test/traffic"
)

// Names of the contestants.
const (
	kernelName = "kernel"
	relayName  = "relay"
	vxtapName  = "vxtap"
	otherName  = "vxtap B"
	plainName  = "vxtap off" // no offloads
)

// contestant is two hosts and their containers on an overlay of one kind.
type contestant struct {
	name    string
	ends    map[place][2]traffic.End // from, to
	daemons []*daemon                // what moves its frames; none for the kernel
}

// chosenContestants returns the names that the flags choose, in the order of
// the table.
func chosenContestants(s settings) []string {
	names := []string{kernelName, relayName, vxtapName, otherName, plainName}
	return slices.DeleteFunc(names, func(name string) bool {
		if name == otherName && s.other == "" {
			return true
		}
		return !s.contestants.MatchString(name) && (name != kernelName || !s.anchor)
	})
}
