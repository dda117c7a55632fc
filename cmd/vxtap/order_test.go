// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"

	"vxtap/lease"
	"vxtap/lease/leasetest"
	"vxtap/tunnel"
)

// etcd has keys in the order of their letters, where 10.5.26.0 is before 10.5.3.0.
// People look for a number.
func TestPeersAreInTheOrderOfTheirAddresses(t *testing.T) {
	var peers []tunnel.PeerStats
	for _, s := range []string{"10.5.26.0/24", "10.5.3.0/24", "fd00:5:0:10::/64", "fd00:5:0:9::/64", "10.5.100.0/24"} {
		peers = append(peers, tunnel.PeerStats{Peer: tunnel.Peer{Subnet: netip.MustParsePrefix(s)}})
	}
	var got []string
	for _, p := range new(side).peersStatus(peers) {
		got = append(got, p.Subnet.String())
	}
	if want := "10.5.3.0/24 10.5.26.0/24 10.5.100.0/24 fd00:5:0:9::/64 fd00:5:0:10::/64"; strings.Join(got, " ") != want {
		t.Errorf("got  %s\nwant %s", strings.Join(got, " "), want)
	}
}

func TestLeasesAreInTheOrderOfTheirAddresses(t *testing.T) {
	n := newTestNetwork(t, netConfig)
	for _, key := range []string{"10.5.26.0-24", "10.5.3.0-24", "10.5.100.0-24"} {
		n.put("subnets/"+key, leasetest.Value(t, len(key)))
	}
	var l LeaseList
	if err := json.Unmarshal([]byte(n.run("lease show -o json", exitOK)), &l); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range l.Leases {
		got = append(got, e.Subnet.String())
	}
	if want := "10.5.3.0/24 10.5.26.0/24 10.5.100.0/24"; strings.Join(got, " ") != want {
		t.Errorf("got  %s\nwant %s", strings.Join(got, " "), want)
	}
}

// Keys that make no sense have no address: they come last, by their letters.
func TestKeysLeftOutAreInTheOrderOfTheirAddresses(t *testing.T) {
	var rejected []lease.Rejected
	for _, key := range []string{"x", "subnets/nonsense", "subnets/10.5.26.0-24", "subnets/10.5.3.0-24&fd00:5::-64", "subnets/10.5.3.0-24", "subnets/10.5.26.0-25"} {
		rejected = append(rejected, lease.Rejected{Key: key, Reason: "because of " + key})
	}
	var got []string
	for _, r := range rejectedKeys(rejected) {
		got = append(got, r.Key)
		if r.Reason != "because of "+r.Key {
			t.Errorf("%s has the reason %q", r.Key, r.Reason)
		}
	}
	want := "subnets/10.5.3.0-24 subnets/10.5.3.0-24&fd00:5::-64 subnets/10.5.26.0-24 subnets/10.5.26.0-25 subnets/nonsense x"
	if strings.Join(got, " ") != want {
		t.Errorf("got  %s\nwant %s", strings.Join(got, " "), want)
	}
}
