// SPDX-License-Identifier: Apache-2.0

package uplink

import (
	"math/rand/v2"
	"net/netip"
	"testing"

	"vxtap/tunnel"
)

// A peer that was there the time before keeps its gate, wherever it stands now;
// two peers of one address share one; who comes again gets a new one, and the
// gate of who went is closed.
func TestGatesOfManyCalls(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 9))
	d := newDevice(Config{})
	before := map[netip.Addr]tunnel.Gate{}
	for call := range 500 {
		vteps := make([]netip.Addr, r.IntN(12))
		for i := range vteps {
			vteps[i] = netip.AddrFrom4([4]byte{192, 0, 2, byte(r.IntN(15))})
		}
		now := map[netip.Addr]tunnel.Gate{}
		for i, g := range d.Gates(vteps) {
			v := vteps[i]
			if old := before[v]; old != nil && g != old {
				t.Fatalf("call %d: %v has another gate than before", call, v)
			}
			if same := now[v]; same != nil && g != same {
				t.Fatalf("call %d: %v has two gates", call, v)
			}
			if g.(*gate).vtep != v || d.gates[v] != g {
				t.Fatalf("call %d: the gate of %v is of %v", call, v, g.(*gate).vtep)
			}
			now[v] = g
			g.(*gate).open.Store(true)
		}
		for v, g := range before {
			if now[v] == nil && g.(*gate).open.Load() {
				t.Fatalf("call %d: %v is gone, and its gate is open", call, v)
			}
		}
		if len(d.gates) != len(now) || len(d.listed) != len(vteps) {
			t.Fatalf("call %d: %d gates and %d in the list, want %d and %d", call, len(d.gates), len(d.listed), len(now), len(vteps))
		}
		before = now
	}
}
