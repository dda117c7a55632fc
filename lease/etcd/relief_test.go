// SPDX-License-Identifier: Apache-2.0

package etcd

import (
	"testing"
	"testing/synctest"
	"time"
)

// Whoever has closed a Store can let go of what Relieve needs.
func TestReliefEndsWithClose(t *testing.T) {
	for _, tt := range []struct {
		name  string
		after time.Duration // from what was read to close
		want  int
	}{
		{"closed before the call is due", reliefDelay / 2, 0},
		{"closed while the call runs", reliefDelay + time.Second/2, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				begun, ended := 0, 0
				r := &relief{call: func() {
					begun++
					time.Sleep(time.Second) // of the bubble's clock
					ended++
				}}
				r.took(reliefBytes)
				time.Sleep(tt.after)
				r.close()
				if begun != tt.want || ended != tt.want {
					t.Errorf("after close %d calls have begun and %d ended, want %d", begun, ended, tt.want)
				}
				r.took(reliefBytes)
				time.Sleep(2 * reliefDelay)
				if begun != tt.want {
					t.Errorf("called after close")
				}
			})
		})
	}
}
