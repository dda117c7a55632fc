// SPDX-License-Identifier: Apache-2.0

package lease

import (
	"slices"
	"strings"
)

// Follow returns the config that a running host goes by, which goes by c and
// holds own, after the store has after: c, with all of after that can change
// under traffic. The rest is what Waits returns.
func (c Config) Follow(after Config, own Lease) Config {
	c.EnableNFTables = after.EnableNFTables
	c.Backend.MTU = after.Backend.MTU
	c.Backend.DirectRouting = after.Backend.DirectRouting
	c.Backend.Learning = after.Backend.Learning
	if c.Network == after.Network && after.fitsIPv4(own.Subnet) {
		c.SubnetLen, c.SubnetMin, c.SubnetMax = after.SubnetLen, after.SubnetMin, after.SubnetMax
	}
	if c.EnableIPv6 && after.EnableIPv6 && c.IPv6Network == after.IPv6Network && (!own.IPv6Subnet.IsValid() || after.fitsIPv6(own.IPv6Subnet)) {
		c.IPv6SubnetLen, c.IPv6SubnetMin, c.IPv6SubnetMax = after.IPv6SubnetLen, after.IPv6SubnetMin, after.IPv6SubnetMax
	}
	return c
}

// Fixed returns the settings of after that a host which runs under c cannot
// follow: its device, its socket, its route and its peers are made of them.
func (c Config) Fixed(after Config) []Change {
	var fixed []Change
	for _, x := range c.Changes(after) {
		switch x.Effect {
		case effectAlone, effectTogether, effectDual:
			fixed = append(fixed, x)
		}
	}
	return fixed
}

// Waits returns what of after a host that runs under c and holds own takes up
// only when it is started again: what is Fixed, and how the network is cut, where
// own would have to be given up for that. Where EnableIPv6 is among it, it stands
// for the settings of IPv6, which come or go with it.
func (c Config) Waits(after Config, own Lease) []Change {
	waits := slices.DeleteFunc(c.Fixed(after), func(x Change) bool {
		return c.EnableIPv6 != after.EnableIPv6 && strings.HasPrefix(x.Name, "IPv6")
	})
	if c.misfit(own) != "" || after.misfit(own) == "" {
		return waits
	}
	for _, x := range c.Changes(after) {
		if x.Effect == effectLease {
			waits = append(waits, x)
		}
	}
	return waits
}
