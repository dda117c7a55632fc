// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"net"
	"net/netip"
	"slices"

	"vxtap/lease"
)

// traces are what a host has of a lease that it had before, whoever wrote it there:
// a vxtap or a flanneld.
type traces struct {
	before     lease.Lease  // of the state file; the zero Lease if none
	subnet     netip.Prefix // of the subnet file; the zero Prefix if none
	addrs      []netip.Addr // of all interfaces
	interfaces []net.Interface
}

// traces looks for them now. What cannot be read is no trace.
func (d *daemon) traces() traces {
	t := traces{before: d.before}
	if env, err := lease.ReadSubnetEnv(d.subnetFile); err == nil {
		t.subnet = env.Subnet
	}
	t.interfaces, _ = net.Interfaces()
	addrs, _ := net.InterfaceAddrs()
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			t.addrs = append(t.addrs, p.Addr())
		}
	}
	return t
}

// of reports whether there is one of own: an address that it names, its key, its
// subnet, its MAC.
func (t traces) of(own lease.Lease) bool {
	return slices.Contains(t.addrs, own.Attrs.PublicIP) ||
		t.before.Key != "" && (t.before.Key == own.Key || t.before.Attrs.MAC == own.Attrs.MAC) ||
		t.subnet.IsValid() && t.subnet == own.Subnet ||
		slices.ContainsFunc(t.interfaces, func(i net.Interface) bool { return bytes.Equal(i.HardwareAddr, own.Attrs.MAC[:]) })
}

// warnOfTheft says that own, which etcd has under our PublicIP, may be another
// host's that lives: -public-ip may be mistyped. A host behind NAT that has lost
// its state looks the same, and must get its lease, so it is no more than said.
func (s *segment) warnOfTheft(own lease.Lease) {
	if s.d.traces().of(own) {
		return
	}
	s.log.Warn("this lease may be another living host's, which would lose it: no interface here has its address, and nothing here says that this host ever had it; if -public-ip is mistyped stop vxtap now, behind NAT all is well",
		"vtep", own.Attrs.PublicIP, "subnet", own.Subnet, "key", own.Key, "mac", own.Attrs.MAC)
}
