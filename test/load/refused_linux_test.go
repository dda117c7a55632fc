// SPDX-License-Identifier: Apache-2.0

package load

import (
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"vxtap/cmd/vxlab/lab"
	"vxtap/test/bed"
)

// The kernel refuses in mid-run what it has taken so far. Frames go on in
// pieces, the ones that were refused too, and status says what is off.
func TestRefusedInMidRun(t *testing.T) {
	tests := []struct {
		name string
		args []string
		what func(*refusal) *atomic.Bool
		line string // of the log, once
		gone func(bed.Status) bool
	}{
		{
			"UDP_SEGMENT",
			[]string{"-tx-path=udp"},
			func(r *refusal) *atomic.Bool { return &r.segment },
			"the kernel refuses UDP_SEGMENT",
			func(s bed.Status) bool { return !slices.Contains(s.Offloads.UDP, "udp-segment") },
		},
		{
			"super-frames into the TAP",
			nil,
			func(r *refusal) *atomic.Bool { return &r.tap },
			"kind=1", // TCP over IPv4
			func(s bed.Status) bool { return !slices.Contains(s.Offloads.TAP, "tso4") },
		},
		{
			"super-frames into the uplink TAP",
			nil,
			func(r *refusal) *atomic.Bool { return &r.uplink },
			"the way through the host is closed",
			func(s bed.Status) bool { return s.TXPath.InUse == "udp" && s.TXPath.Reason != "" },
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := &refusal{}
			b := bed.Up(t, lab.Options{Hosts: 2, Args: tt.args, Vxtap: r.program(t)})
			awaitPeers(t, b, 2, 1)
			warm(t, b.ContainerEnd(1), b.ContainerEnd(2))
			if len(tt.args) == 0 {
				awaitPath(t, b, 1, "uplink")
				awaitPath(t, b, 2, "uplink")
			}
			stop := carry(t, b.ContainerEnd(1), b.ContainerEnd(2))
			time.Sleep(200 * time.Millisecond)
			if tt.gone(b.Status(1)) || tt.gone(b.Status(2)) {
				t.Fatal("it is off before anybody refuses it")
			}
			tt.what(r).Store(true)
			flow(t, b.ContainerEnd(1), b.ContainerEnd(2))
			stop()
			n := 0
			for i := 1; i <= 2; i++ {
				n += lines(t, b, i, tt.line)
				for reason, k := range b.Status(i).Out.Drops {
					if slices.Contains([]string{"underlay-error", "underlay-mtu", "bad-offload"}, reason) {
						t.Errorf("h%d dropped %d frames: %s", i, k, reason)
					}
				}
				if k := b.Status(i).In.Drops["tap-error"]; k > 0 {
					t.Errorf("h%d dropped %d frames: tap-error", i, k)
				}
			}
			t.Logf("refused %d times", r.refused.Load())
			if !tt.gone(b.Status(1)) && !tt.gone(b.Status(2)) {
				t.Error("status does not say so")
			}
			if n < 1 || n > 2 { // each host may say it once
				t.Errorf("%d lines say so, want one for each host", n)
			}
		})
	}
}
