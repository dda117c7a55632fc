// SPDX-License-Identifier: Apache-2.0

package lease

// stands reports whether e is l, with no other owner than l says: the key that
// this host made, never deleted since, with its MAC and the address that it had.
// Whoever took the subnet over has written another address or MAC, and a key that
// was deleted and made again has another revision of creation. The value may have
// been put again, and the grant be another: an operator who reserves a subnet
// for its host does both.
func (l Lease) stands(e *entry) bool {
	return l.Key != "" && e.fault == "" && e.Key == l.Key && e.Created == l.Created && l.Created != 0 &&
		e.Attrs.BackendType == backendVXLAN && e.Attrs.MAC == l.Attrs.MAC && e.Attrs.PublicIP == l.Attrs.PublicIP
}
