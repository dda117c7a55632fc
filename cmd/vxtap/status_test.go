// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"sync"
	"testing"
)

// Programs that read the JSON go through a list without asking whether it is
// one.
func TestStatusWithoutOffloadsHasLists(t *testing.T) {
	b, err := json.Marshal(offloadsStatus(nil, nil))
	if want := `{"tap":[],"udp":[]}`; err != nil || string(b) != want {
		t.Errorf("got %s and error %v, want %s", b, err, want)
	}
}

// A request that came in time must not meet closed descriptors, which may be
// somebody else's by then.
func TestSegmentStandsWhileItIsLookedAt(t *testing.T) {
	d := &daemon{}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 10_000 {
				d.withSegment(func(s *segment) {
					if s != nil && s.device == "" {
						t.Error("got a segment that is closed")
					}
				})
			}
		})
	}
	for range 1000 {
		s := &segment{device: "flannel.1"}
		d.setSegment(s)
		d.setSegment(nil)
		s.device = "" // closed
	}
	wg.Wait()
}
