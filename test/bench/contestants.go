// SPDX-License-Identifier: Apache-2.0

package main

import (
	"slices"

	"vxtap/cmd/vxlab/lab"
	"vxtap/cmd/vxlab/netns"
	"vxtap/test/traffic"
)

// Names of the contestants.
const (
	kernelName = "kernel"
	relayName  = "relay"
	vxtapName  = "vxtap"
	otherName  = "vxtap B"
	plainName  = "vxtap off" // no offloads
	ovsName    = "ovs"       // Open vSwitch, userspace datapath
	intoName   = "kernel>vxtap"
	outOfName  = "vxtap>kernel"
)

// contestant is two hosts and their containers on an overlay of one kind.
type contestant struct {
	name    string
	nodes   [2]node
	ends    map[place][2]traffic.End // from, to
	daemons []*daemon                // what moves its frames; none for the kernel
	mixed   bool                     // its hosts are also those of others
}

// alive returns an error if a daemon of c has ended.
func (c *contestant) alive() error {
	for _, d := range c.daemons {
		if err := d.died(); err != nil {
			return err
		}
	}
	return nil
}

// node is a host of the underlay, and the namespace of its container.
type node struct {
	lab.Host
	host, container *netns.Namespace
}

// everybody returns the names of all contestants, in the order of the table.
func everybody() []string {
	return []string{kernelName, relayName, vxtapName, otherName, plainName, ovsName, intoName, outOfName}
}

// chosenContestants returns the names that the flags choose, in the order of
// the table.
func chosenContestants(s settings) []string {
	return slices.DeleteFunc(everybody(), func(name string) bool {
		if name == otherName && s.other == "" {
			return true
		}
		return !s.contestants.MatchString(name) && (name != kernelName || !s.anchor)
	})
}
