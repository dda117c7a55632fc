// SPDX-License-Identifier: Apache-2.0

package field

import "net/netip"

// underlay and underlay6 are its networks. The program itself is at .0.1, members
// at .0.11 and up, hosts at .1.1 and up; their IPv6 addresses end the same way.
const (
	underlay  = 16
	underlay6 = 64
)

func at(c, d int) netip.Addr { return netip.AddrFrom4([4]byte{10, 77, byte(c), byte(d)}) }

// IPv6Of returns the IPv6 address that belongs to an IPv4 address of the underlay,
// as in fd77::1:7 and 10.77.1.7.
func IPv6Of(a netip.Addr) netip.Addr {
	b := a.As4()
	return netip.AddrFrom16([16]byte{0: 0xfd, 1: 0x77, 13: b[2], 15: b[3]})
}
