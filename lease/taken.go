// SPDX-License-Identifier: Apache-2.0

package lease

// TakenBy returns the lease by which somebody else has the subnet of own, and
// false if nobody has. A subnet that nobody has, since own was deleted, is not
// taken; nor is one that own is still there for, whoever leases a part of it
// after it.
func (s Snapshot) TakenBy(own Lease) (Lease, bool) {
	if own.Key == "" || !own.Subnet.IsValid() {
		return Lease{}, false
	}
	var by Lease
	for i := range s.Leases {
		l := &s.Leases[i]
		switch {
		case l.Attrs.BackendType != backendVXLAN:
		case l.Attrs.PublicIP == own.Attrs.PublicIP:
			if l.Key == own.Key {
				return Lease{}, false
			}
		case by.Key == "" && (l.Subnet.Overlaps(own.Subnet) || l.IPv6Subnet.Overlaps(own.IPv6Subnet)): // no half, no overlap
			by = *l
		}
	}
	return by, by.Key != ""
}
