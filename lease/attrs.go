// SPDX-License-Identifier: Apache-2.0

package lease

import (
	"net/netip"

	"vxtap/encap/ether"
	"vxtap/encap/vxlan"
)

// Attrs is the value of a lease: where its host is reached.
type Attrs struct {
	PublicIP    netip.Addr // VTEP, IPv4
	PublicIPv6  netip.Addr // VTEP of the IPv6 overlay; the zero Addr where there is none
	BackendType string     // "vxlan"; "" for flannel's udp backend
	VNI         vxlan.VNI  // 0 where an old flannel left it out; flannel never compares it
	MAC         ether.MAC  // inner destination of every frame to the host
	IPv6VNI     vxlan.VNI
	IPv6MAC     ether.MAC // of its second device; zero where there is none
}
