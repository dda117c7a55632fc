// SPDX-License-Identifier: Apache-2.0

package lease

import (
	"testing"
	"time"
)

// While a host is suspended the monotonic clock, which timers go by, stands
// still. A time without a monotonic reading is compared by the wall clock, as
// both are after a night's sleep.
func TestRenewalIsDueAfterSuspend(t *testing.T) {
	k := &keeper{grant: 1}
	asleep := time.Now().Round(0).Add(-9 * time.Hour)
	if left := k.left(asleep, 8*time.Hour); left > 0 {
		t.Errorf("got %v left, want the renewal to be due", left)
	}
	if left := k.left(time.Now(), 8*time.Hour); left < 7*time.Hour {
		t.Errorf("got %v left of eight hours, want about all", left)
	}
	// A wall clock that was set back must not put the renewal off.
	if left := k.left(time.Now().Add(-9*time.Hour), 8*time.Hour); left > 0 {
		t.Errorf("got %v left by the monotonic clock, want the renewal to be due", left)
	}
}

func TestPace(t *testing.T) {
	var p pace
	if !p.due("a") {
		t.Error("the first line is not due")
	}
	if p.due("a") || p.due("b") {
		t.Error("a second line is due at once")
	}
	p.last = p.last.Add(-6 * time.Second)
	if p.due("a") || !p.due("b") {
		t.Error("after 6 s another reason is due, and the same is not")
	}
	p.last = p.last.Add(-31 * time.Second)
	if !p.due("b") {
		t.Error("after 31 s the same reason is not due")
	}
}
