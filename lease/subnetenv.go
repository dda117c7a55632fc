// SPDX-License-Identifier: Apache-2.0

package lease

import "net/netip"

// SubnetEnv is the contents of subnet.env, the file that tells the container
// runtime and the CNI plugin what this host leased.
type SubnetEnv struct {
	Network netip.Prefix // FLANNEL_NETWORK
	// Subnet is the leased subnet, masked. The file has its first host address
	// instead, 10.5.72.1/24, which is the bridge's.
	Subnet      netip.Prefix
	IPv6Network netip.Prefix // zero: the two IPv6 lines are left out
	IPv6Subnet  netip.Prefix
	MTU         int // of the overlay device, in bytes
	IPMasq      bool
}

// ReadSubnetEnv reads the file at path. Fields that do not parse are zero, and
// named in the error: what can be read is returned beside it.
func ReadSubnetEnv(path string) (SubnetEnv, error) { return SubnetEnv{}, errUnfinished }

// WriteFile writes the file at path as flannel does, byte for byte: atomically,
// mode 0644, its directory made with mode 0755.
func (e SubnetEnv) WriteFile(path string) error { return errUnfinished }
