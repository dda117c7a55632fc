// SPDX-License-Identifier: Apache-2.0

// Package netns makes network namespaces and what belongs in them: veth pairs,
// bridges, addresses, routes, processes. It is what a lab is built of, and what
// the black-box tests build their own networks with.
//
// Namespaces are named as iproute2 names them (ip-netns(8)): a file in Dir on
// which the namespace is mounted. "ip netns exec NAME" works on ours and Open
// works on those of ip. Everything is done through netlink and system calls;
// the ip command is never run.
//
// A network namespace belongs to a thread, not to a process, and Go moves
// goroutines between threads as it likes. Do is the one place where a thread
// changes its namespace; a socket that is opened there stays in that namespace
// for good, whichever thread uses it later.
//
// The functions and the methods of Namespace may be called concurrently. They
// need root; on systems other than Linux they return an error that matches
// errors.ErrUnsupported.
package netns
