// SPDX-License-Identifier: Apache-2.0

package lease

import (
	"net/netip"

	"vxtap/encap/vxlan"
)

// Config is the network config, <prefix>/config, parsed and checked, with all
// defaults filled in.
type Config struct {
	EnableIPv4, EnableIPv6, EnableNFTables bool

	Network              netip.Prefix // masked
	SubnetLen            int
	SubnetMin, SubnetMax netip.Addr // first and last subnet that may be leased

	// The IPv6 half; zero unless EnableIPv6.
	IPv6Network                  netip.Prefix
	IPv6SubnetLen                int
	IPv6SubnetMin, IPv6SubnetMax netip.Addr

	Backend Backend

	// Notes are remarks for the log, one sentence each: fields that nobody
	// knows, halves of the network that this program leaves alone.
	Notes []string
}

// Backend is the Backend object of a network config whose Type is vxlan.
type Backend struct {
	Type string // "vxlan"
	VNI  vxlan.VNI
	Port uint16 // UDP, 8472 where the config has none
	MTU  int    // of the outside interface, in bytes, before the overhead comes off; 0: the interface's own
	GBP  bool
	// Learning and DirectRouting are flannel's; see docs/flannel-compatibility.md.
	Learning, DirectRouting bool
}

// ParseConfig reads a network config. Every fault is reported, in one line.
func ParseConfig(b []byte) (Config, error) { return Config{}, errUnfinished }
