// SPDX-License-Identifier: Apache-2.0

// Package tunnel is the switch: frames in, frames out. It reads frames from a
// TAP, finds each one's peer, and sends it in VXLAN over UDP; and the other
// way round. It knows peers, and nothing of leases or etcd: whoever owns the
// control plane calls Switch.SetPeers.
//
// Each direction of each queue is one loop on one locked thread that runs each
// frame to completion. The loops share nothing with the control side but an
// immutable forwarding table behind an atomic pointer, and counters that each
// loop owns. No loop allocates, locks, logs or reads a clock per frame.
//
//	tap       TAP devices
//	underlay  UDP sockets
//	host      what the host's kernel must know: address, route, neighbour
package tunnel
