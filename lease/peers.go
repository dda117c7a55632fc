// SPDX-License-Identifier: Apache-2.0

package lease

// Select splits s into the peers of the host that holds own in the network c,
// and what cannot be one, each with the reason.
func (s Snapshot) Select(c Config, own Lease) Selection { return Selection{Rejected: s.Rejected} }
