// SPDX-License-Identifier: Apache-2.0

// Package field is a machine of its own for one program: a test that kills
// things at random must not be able to reach anything else, and must leave
// nothing behind however it ends.
//
// Enter runs the program again in new namespaces for processes, mounts and the
// network. Inside, the program is process 1, so that the kernel ends everything
// that it started when it ends itself, be it by SIGKILL; the network namespaces
// of hosts have their names on a /run of their own, and go with it.
//
//	program.go  what a program's main is
//	field.go    the underlay: a bridge in the program's own network
//	member.go   members of an etcd cluster, each a process on a host of its own
//	host.go     hosts with a vxtap each; status.go what a daemon says of itself
//
// Everything here needs root and Linux.
package field
