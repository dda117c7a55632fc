// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"testing"
	"time"

	"vxtap/cmd/vxlab/lab"
	"vxtap/test/bed"
)

// A host whose key somebody else has written to forwards nothing for that
// subnet any more, at once, and then moves to another.
func TestSubnetTakenForwardsNothing(t *testing.T) {
	b := bed.Up(t, lab.Options{Hosts: 2})
	before := b.Host(1)
	bed.Eventually(t, 2*time.Second, func() error { return reaches(t, b.HostEnd(1), b.HostEnd(2)) })
	b.Etcdctl("put", bed.Prefix+"/"+leaseKey(before.Subnet),
		`{"PublicIP":"192.168.77.203","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"02:00:00:00:00:09"}}`)
	silent := bed.Eventually(t, time.Second, func() error {
		if s := b.Status(1); s.Subnet != before.Subnet || len(s.Peers) != 0 {
			return fmt.Errorf("got %+v", s)
		}
		return nil
	})
	moved := bed.Eventually(t, 10*time.Second, func() error {
		s, err := b.TryStatus(1)
		if err != nil || s.State != "ready" || s.Subnet == before.Subnet || len(s.Peers) != 2 {
			return fmt.Errorf("got %+v, %w", s, err)
		}
		return nil
	})
	t.Logf("silent after %s, moved after %s more", silent.Round(time.Millisecond), moved.Round(time.Millisecond))
}
