// SPDX-License-Identifier: Apache-2.0

package flannel

import (
	"testing"
	"time"

	"vxtap/cmd/vxlab/lab"
	"vxtap/test/bed"
)

// Somebody starts a flanneld on a host where vxtap runs. It deletes the TAP, and
// most times finds its port taken and ends; then vxtap is back. If it is faster,
// vxtap ends and says why. One of the two forwards, and not neither.
func TestFlanneldStartedBesideVxtap(t *testing.T) {
	flanneld := bed.FlanneldBinary(t)
	b := bed.Up(t, lab.Options{Hosts: 2, Args: []string{"-takeover"}})
	h1 := b.Node("h1")
	before, err := h1.Interface("flannel.1")
	if err != nil {
		t.Fatal(err)
	}
	f := bed.StartFlanneld(t, flanneld, h1, b.EtcdURL(), t.TempDir()+"/subnet.env")
	took := bed.Eventually(t, 15*time.Second, func() error {
		if err := isNew(h1, before.Index); err != nil {
			return err
		}
		return reaches(t, b.ContainerEnd(2), b.ContainerEnd(1))
	})
	status, ended := f.Ended()
	t.Logf("traffic is back after %v; flanneld has ended: %t, with status %d", took.Round(time.Millisecond), ended, status)
	if runs := b.Host(1).PID != 0; runs == !ended {
		t.Errorf("vxtap runs: %t, flanneld runs: %t, want one of them", runs, !ended)
	}
	if ended {
		everything(t, b.ContainerEnd(2), b.ContainerEnd(1))
	}
}
