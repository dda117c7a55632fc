// SPDX-License-Identifier: Apache-2.0

// Package etcd serves the one-member etcd of a lab: a real server
// (go.etcd.io/etcd/server/v3/embed), so that a lab needs nothing installed.
//
// It is for labs only. It listens without TLS or passwords, on addresses
// inside a namespace, and does not fsync: what a lab has in etcd need not
// survive a power cut, and a lab must start in a moment on a slow disk.
package etcd

import "net/netip"

// Config says where to serve what. Every field is needed.
type Config struct {
	Dir    string         // data; made if it is not there, kept at the end
	Client netip.AddrPort // where clients come
	Peer   netip.AddrPort // where other members would come; nobody does
	Key    string         // a key that is made at the first start,
	Value  string         // with this value; a later start leaves it as it is
}
