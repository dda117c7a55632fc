// SPDX-License-Identifier: Apache-2.0

package flannel

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"vxtap/cmd/vxlab/lab"
	"vxtap/cmd/vxlab/netns"
	"vxtap/encap/ether"
	"vxtap/test/bed"
)

// peerSubnet is not among the first hundred that a host may lease by itself.
var peerSubnet = netip.MustParsePrefix("172.30.200.0/24")

// trio is a vxtap host, a flanneld host, and a third that the test plays, with
// kernel VXLAN: it can be changed as a test wants.
type trio struct {
	*bed.Bed
	theirs *bed.FlanneldHost
	peer   *bed.Kernel
}

func newTrio(t *testing.T) *trio {
	t.Helper()
	flanneld := bed.FlanneldBinary(t)
	b := bed.Up(t, lab.Options{Hosts: 1})
	x := &trio{Bed: b, theirs: b.JoinFlanneld(t.Context(), flanneld), peer: b.JoinKernel(t.Context(), peerSubnet)}
	x.meet(t)
	bed.Eventually(t, 5*time.Second, func() error {
		return errors.Join(reaches(t, b.ContainerEnd(1), x.peer.ContainerEnd()), reaches(t, x.theirs.ContainerEnd(), x.peer.ContainerEnd()))
	})
	return x
}

// meet makes the two others the peer's peers.
func (x *trio) meet(t *testing.T) {
	t.Helper()
	mac, err := bed.MAC(x.theirs.Namespace)
	err = errors.Join(err, x.peer.AddPeer(x.theirs.VTEP, x.theirs.Subnet, mac),
		x.peer.AddPeer(x.Host(1).VTEP, x.Host(1).Subnet, x.Host(1).MAC))
	if err != nil {
		t.Fatal(err)
	}
}

// changeMAC gives the peer's device another MAC, and says so in its lease.
func (x *trio) changeMAC(t *testing.T) (before ether.MAC) {
	t.Helper()
	before, x.peer.MAC = x.peer.MAC, ether.RandomMAC()
	bed.Run(t, x.peer.Namespace, "ip", "link", "set", "flannel.1", "address", x.peer.MAC.String())
	x.meet(t) // the kernel has forgotten its neighbours
	x.Etcdctl("put", x.peer.LeaseKey(), x.peer.LeaseValue())
	return before
}

// F2: a peer that changed while the watch was broken off, and whose change was
// compacted away meanwhile, is not looked at by a flanneld: it compares subnets
// only, and goes on sending to what is no more.
func TestF02ChangeThatWasMissed(t *testing.T) {
	x := newTrio(t)
	daemons := []int{x.Host(1).PID, x.theirs.PID()}
	signal := func(sig syscall.Signal) {
		for _, pid := range daemons {
			if err := syscall.Kill(pid, sig); err != nil {
				t.Error(err)
			}
		}
	}
	signal(syscall.SIGSTOP)
	t.Cleanup(func() { signal(syscall.SIGCONT) })
	// Of what comes after their connections have ended they can only read up.
	if err := errors.Join(x.StopEtcd(t.Context()), x.StartEtcd(t.Context())); err != nil {
		t.Fatal(err)
	}
	before := x.changeMAC(t)
	x.Etcdctl("put", "/elsewhere", "for a revision after it")
	revision := regexp.MustCompile(`"Revision" : (\d+)`).FindStringSubmatch(x.Etcdctl("get", "-w=fields", "/elsewhere"))
	if revision == nil {
		t.Fatal("etcdctl does not say the revision")
	}
	x.Etcdctl("compact", revision[1])
	signal(syscall.SIGCONT)

	took := bed.Eventually(t, 20*time.Second, func() error { return reaches(t, x.ContainerEnd(1), x.peer.ContainerEnd()) })
	t.Logf("vxtap reaches the peer %v after it went on", took.Round(10*time.Millisecond))
	bed.Eventually(t, 20*time.Second, func() error {
		if !strings.Contains(x.theirs.Log(), "fell behind compaction horizon") {
			return errors.New("flanneld has not found out that it missed something")
		}
		return nil
	})
	err := reaches(t, x.theirs.ContainerEnd(), x.peer.ContainerEnd())
	neighbours := bed.Run(t, x.theirs.Namespace, "ip", "neigh", "show", "dev", "flannel.1")
	if err == nil || !strings.Contains(neighbours, before.String()) {
		t.Errorf("flanneld reaches the peer, error %v: it has been mended\n%s", err, neighbours)
	}
}

// F12: when a peer has another MAC a flanneld adds a forwarding entry and leaves
// the old one. vxtap has none in the kernel, and one neighbour for all peers.
func TestF12PeerWithAnotherMAC(t *testing.T) {
	x := newTrio(t)
	before := x.changeMAC(t)
	bed.Eventually(t, 5*time.Second, func() error {
		return errors.Join(reaches(t, x.ContainerEnd(1), x.peer.ContainerEnd()), reaches(t, x.theirs.ContainerEnd(), x.peer.ContainerEnd()))
	})
	theirs := bed.Run(t, x.theirs.Namespace, "bridge", "fdb", "show", "dev", "flannel.1")
	for _, mac := range []ether.MAC{before, x.peer.MAC} {
		if !strings.Contains(theirs, mac.String()) {
			t.Errorf("flanneld has no entry of %s: it has been mended\n%s", mac, theirs)
		}
	}
	h1 := x.Node("h1")
	ours := bed.Run(t, h1, "bridge", "fdb", "show", "dev", "flannel.1") + bed.Run(t, h1, "ip", "neigh", "show", "dev", "flannel.1")
	if strings.Contains(ours, before.String()) || strings.Contains(ours, x.peer.MAC.String()) || strings.Count(ours, "PERMANENT") != 1 {
		t.Errorf("got entries\n%swant the gateway's alone", ours)
	}
}

// F7: a flanneld whose device is deleted makes another one, with another MAC that
// no peer hears of, and without the way to any peer.
func TestF07DeletedDevice(t *testing.T) {
	flanneld := bed.FlanneldBinary(t)
	b := bed.Up(t, lab.Options{Hosts: 2})
	theirs := b.JoinFlanneld(t.Context(), flanneld)
	bed.Eventually(t, 5*time.Second, func() error { return reaches(t, theirs.ContainerEnd(), b.ContainerEnd(1)) })
	ours, before := b.Node("h1"), b.Status(1)
	index := deleteDevice(t, ours)
	took := bed.Eventually(t, 5*time.Second, func() error {
		return errors.Join(isNew(ours, index), reaches(t, b.ContainerEnd(2), b.ContainerEnd(1)))
	})
	t.Logf("vxtap's device is back and has its traffic after %v", took.Round(time.Millisecond))
	if s := b.Status(1); s.MAC != before.MAC || len(s.Peers) != len(before.Peers) {
		t.Errorf("got MAC %s and %d peers, want %s and %d", s.MAC, len(s.Peers), before.MAC, len(before.Peers))
	}

	index = deleteDevice(t, theirs.Namespace)
	bed.Eventually(t, 10*time.Second, func() error { return isNew(theirs.Namespace, index) })
	bed.Eventually(t, 10*time.Second, func() error {
		if !strings.Contains(theirs.Log(), "recreated successfully") {
			return errors.New("flanneld does not say that its device is there again")
		}
		return nil
	})
	mac, err := bed.MAC(theirs.Namespace)
	if err != nil {
		t.Fatal(err)
	}
	_, value := b.LeaseOf(lab.Host{VTEP: theirs.VTEP})
	if strings.Contains(value, mac.String()) {
		t.Errorf("flanneld publishes the MAC of its new device: it has been mended: %s", value)
	}
	if err := peers(t, theirs, 0); err != nil {
		t.Errorf("it has been mended: %v", err)
	}
	if reaches(t, b.ContainerEnd(2), theirs.ContainerEnd()) == nil {
		t.Error("flanneld's container is reached: it has been mended")
	}
}

// deleteDevice deletes flannel.1 and returns the index that it had.
func deleteDevice(t *testing.T, ns *netns.Namespace) int {
	t.Helper()
	i, err := ns.Interface("flannel.1")
	if err == nil {
		err = ns.DeleteLink("flannel.1")
	}
	if err != nil {
		t.Fatal(err)
	}
	return i.Index
}

// isNew returns an error unless there is a flannel.1 with another index.
func isNew(ns *netns.Namespace, index int) error {
	i, err := ns.Interface("flannel.1")
	if err == nil && i.Index == index {
		err = fmt.Errorf("device %d is still there", index)
	}
	return err
}
