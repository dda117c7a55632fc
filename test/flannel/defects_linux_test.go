// SPDX-License-Identifier: Apache-2.0

package flannel

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"vxtap/cmd/vxlab/lab"
	"vxtap/test/bed"
)

// The tests of this file show what a real flanneld fails on, and vxtap beside it
// not, by the numbers of docs/flannel-compatibility.md. If a flanneld of a later
// version does not fail any more they say so: then the claim is to go.

// F1: one key that cannot be parsed takes away all peers of a flanneld before
// v0.28.10 that hears of it. Of vxtap it takes nothing.
func TestF01OneUnparsableKey(t *testing.T) {
	mended, earlier := bed.FlanneldBinary(t), bed.EarlierFlanneldBinary(t)
	b := bed.Up(t, lab.Options{Hosts: 2, Network: netip.MustParsePrefix("172.16.0.0/12")})
	f := b.JoinFlanneld(t.Context(), mended)
	bare, err := b.JoinBare(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// It takes its own lease for a peer that is gone as well, and spends most of a
	// minute on that before it goes on: so it gets the last one.
	b.Etcdctl("put", bed.Prefix+"/subnets/172.31.0.0-24", fmt.Sprintf(`{"PublicIP":"%s"}`, bare.VTEP))
	old := b.FlanneldAt(bare, earlier)
	bed.Eventually(t, 5*time.Second, func() error {
		return errors.Join(reaches(t, b.ContainerEnd(1), old.ContainerEnd()), peers(t, f, 3), peers(t, old, 3))
	})
	const key = "subnets/one-that-nobody-parses"
	b.Etcdctl("put", bed.Prefix+"/"+key, "{}")

	bed.Eventually(t, 5*time.Second, func() error { return peers(t, old, 0) })
	if err := reaches(t, old.ContainerEnd(), b.ContainerEnd(1)); err == nil {
		t.Error("a flanneld without routes reaches its peers")
	}
	for n := 1; n <= 2; n++ {
		bed.Eventually(t, 2*time.Second, func() error {
			s := b.Status(n)
			if len(s.Rejected) != 1 || s.Rejected[0].Key != key {
				return fmt.Errorf("h%d left out %v, want %s", n, s.Rejected, key)
			}
			if len(s.Peers) != 3 || !s.HasPeer(f.Subnet) || !s.HasPeer(old.Subnet) {
				return fmt.Errorf("h%d has peers %v, want all", n, s.Peers)
			}
			return nil
		})
	}
	if err := peers(t, f, 3); err != nil {
		t.Errorf("v0.28.10 and later: %v", err)
	}
	everything(t, b.ContainerEnd(1), b.ContainerEnd(2))
	everything(t, b.ContainerEnd(1), f.ContainerEnd())
}

// peers returns an error unless a flanneld's host has routes to n peers.
func peers(t *testing.T, f *bed.FlanneldHost, n int) error {
	t.Helper()
	routes := bed.Run(t, f.Namespace, "ip", "route", "show", "dev", "flannel.1")
	if got := strings.Count(routes, " via "); got != n {
		return fmt.Errorf("flanneld has routes to %d peers, want %d:\n%s", got, n, routes)
	}
	return nil
}

// F6: a reservation is a key without a lease of etcd's. A flanneld that takes it
// gives it one of 24 hours, against flannel's own Documentation/reservations.md;
// vxtap leaves it without an end.
func TestF06Reservation(t *testing.T) {
	flanneld := bed.FlanneldBinary(t)
	b := bed.Up(t, lab.Options{Hosts: 1})
	bare, err := b.JoinBare(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	const theirs, ours = bed.Prefix + "/subnets/172.30.201.0-24", bed.Prefix + "/subnets/172.30.202.0-24"
	for key, addr := range map[string]fmt.Stringer{theirs: bare.VTEP, ours: bare.VTEP.Next()} {
		b.Etcdctl("put", key, fmt.Sprintf(`{"PublicIP":"%s"}`, addr))
	}
	f := b.FlanneldAt(bare, flanneld)
	joined, err := b.Join(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if f.Subnet.String() != "172.30.201.0/24" || joined.Subnet.String() != "172.30.202.0/24" {
		t.Errorf("got %s and %s, want what is reserved", f.Subnet, joined.Subnet)
	}
	if got := b.Etcdctl("get", "-w=fields", theirs); strings.Contains(got, `"Lease" : 0`) {
		t.Errorf("flanneld leaves the reservation without an end: it has been mended\n%s", got)
	}
	if got := b.Etcdctl("get", "-w=fields", ours); !strings.Contains(got, `"Lease" : 0`) {
		t.Errorf("vxtap gave its reservation an end: %s", got)
	}
}
