// SPDX-License-Identifier: Apache-2.0

// Package lab builds an overlay network on one machine: an underlay, an etcd,
// and any number of hosts that each run a real vxtap. The demo, the end-to-end
// tests and the benchmarks all stand on it.
//
//	vxlab-<lab>-net        br0 192.168.77.1/24, the etcd server
//	     |  one veth pair a host
//	vxlab-<lab>-h<N>       eth0 192.168.77.(10+N)/24, flannel.<VNI> (vxtap's),
//	     |                 cni0 <subnet>.1
//	vxlab-<lab>-c<N>       eth0 <subnet>.2, the container
//
// A host leases its subnet, and its container gets an address from it and the
// overlay's MTU, all read from the subnet.env that vxtap wrote: as flannel's
// CNI plugin does it.
//
// A lab outlives the program that built it. What is known of it is in a
// directory below Dir; what belongs to it can be told by the names of its
// namespaces alone, so that Down takes down a lab that was half built, or whose
// records are lost. Labs of different names do not see each other.
//
// Everything here needs root and Linux.
package lab
