// SPDX-License-Identifier: Apache-2.0

// Package lease is flannel's control contract: the network config, the keys
// under which hosts lease subnets, the values that say where each host is
// reached, and how a lease is acquired, kept and watched. It emits the leases
// of all hosts; it knows no socket, no device and no frame.
//
// The parts, in reading order:
//
//	config.go     the network config, <prefix>/config; plan.go its subnets
//	key.go        subnet keys, <prefix>/subnets/10.5.52.0-24
//	attrs.go      lease values, flannel's JSON to the byte
//	lease.go      a lease, a snapshot of all of them, what was left out and why
//	peers.go      which leases of a snapshot are peers that frames may go to
//	subnetenv.go  subnet.env, the file that container runtimes read
//	memory.go     what was last known, for when the store is away; memoryfile.go and
//	              memoryleases.go on disk
//	store.go      what the package asks of a key-value store
//	registry.go   the Registry: config, status; contact.go whether the store answers
//	acquire.go    getting a lease; allocate.go chooses the subnet, move.go is for
//	              leases of two halves, home.go for hosts with another address
//	keep.go       renewing a lease, and noticing its loss; mend.go puts it back,
//	              release.go gives it up
//	watch.go      following everybody's leases, by the loop in attend.go; taken.go
//	              who else has our subnet
//	watchconfig.go  following the network config; follow.go what of it a running
//	              host can go by
//	operator.go   the network as its operator sees it: config, reservations; change.go
//	              what another config would do to running hosts
//
// Package lease/etcd is the store of production, lease/leasetest one in memory
// for tests.
//
// Words: a lease is flannel's: one host's hold on one subnet. What etcd calls
// a lease, the time-to-live that keys are attached to, is called a grant here,
// because one word for both has cost every reader of flannel an afternoon.
//
// Everything in the store was written by strangers. A key or a value that
// makes no sense costs the peer that it names, and nobody else (flannel takes
// all peers away on one bad key). Nobody else's key is ever overwritten: each
// write is a compare-and-swap on the revision that was read.
package lease
