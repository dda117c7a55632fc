// SPDX-License-Identifier: Apache-2.0

package flannel

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"vxtap/cmd/vxlab/lab"
	"vxtap/cmd/vxlab/netns"
	"vxtap/test/bed"
)

// With -route-mode=per-peer the kernel has of a peer what a flanneld sets, and
// with DirectRouting too, but for the protocol number by which ours are known.
func TestRoutesOfPeersAreFlannels(t *testing.T) {
	flanneld := bed.FlanneldBinary(t)
	b := bed.Up(t, lab.Options{Hosts: 1, Args: []string{"-route-mode=per-peer"}})
	h1 := b.Node("h1")
	entries := func(ns *netns.Namespace) string {
		out := bed.Run(t, ns, "ip", "route", "show", peerSubnet.String()) + bed.Run(t, ns, "ip", "neigh", "show", "to", peerSubnet.Addr().String(), "nud", "permanent")
		return strings.Join(strings.Fields(strings.ReplaceAll(out, "proto 84 ", "")), " ")
	}
	alike := func(theirs *bed.FlanneldHost, want string) error {
		if got, have := entries(h1), entries(theirs.Namespace); got != have || !strings.HasPrefix(got, want) {
			return fmt.Errorf("vxtap's host has %q and flanneld's %q, want %q and what else there is", got, have, want)
		}
		return nil
	}

	theirs := b.JoinFlanneld(t.Context(), flanneld)
	peer := b.JoinKernel(t.Context(), peerSubnet)
	bed.Eventually(t, 5*time.Second, func() error {
		return alike(theirs, fmt.Sprintf("%s via %s dev flannel.1 onlink %s dev flannel.1 lladdr %s PERMANENT", peerSubnet, peerSubnet.Addr(), peerSubnet.Addr(), peer.MAC))
	})
	bed.Eventually(t, 5*time.Second, func() error {
		return errors.Join(reaches(t, b.ContainerEnd(1), theirs.ContainerEnd()), reaches(t, theirs.ContainerEnd(), b.ContainerEnd(1)))
	})

	if err := b.StopHost(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	b.Etcdctl("put", bed.Prefix+"/config", fmt.Sprintf(`{"Network": %q, "SubnetLen": 24, "Backend": {"Type": "vxlan", "DirectRouting": true}}`, b.Options().Network))
	if err := b.StartHost(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	directly := b.JoinFlanneld(t.Context(), flanneld)
	bed.Eventually(t, 5*time.Second, func() error {
		return alike(directly, fmt.Sprintf("%s via %s dev eth0", peerSubnet, peer.VTEP))
	})
	// One of the three sends by the tunnel, and is answered directly.
	for _, other := range []*bed.FlanneldHost{theirs, directly} {
		bed.Eventually(t, 5*time.Second, func() error {
			return errors.Join(reaches(t, b.ContainerEnd(1), other.ContainerEnd()), reaches(t, other.ContainerEnd(), b.ContainerEnd(1)))
		})
	}
}
