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
	b, err := json.Marshal(offloadsStatus(nil, nil, true))
	if want := `{"tap":[],"udp":[],"coalesce":false}`; err != nil || string(b) != want {
		t.Errorf("got %s and error %v, want %s", b, err, want)
	}
}

// Segments are joined only into what the TAP takes.
func TestStatusSaysWhetherSegmentsAreJoined(t *testing.T) {
	for _, tt := range []struct {
		name  string
		asked bool
		tap   []string
		want  bool
	}{
		{"TCP super-frames", true, []string{"csum", "tso4", "tso6", "ecn"}, true},
		{"UDP super-frames alone", true, []string{"csum", "uso4", "uso6"}, true},
		{"not asked for", false, []string{"csum", "tso4", "tso6", "ecn"}, false},
		{"a TAP that takes only segments", true, []string{"csum"}, false},
		{"super-frames that the kernel has refused", true, []string{"csum", "ecn"}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := offloadsStatus(tt.tap, nil, tt.asked); got.Coalesce != tt.want {
				t.Errorf("got %v, want %v", got.Coalesce, tt.want)
			}
		})
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
