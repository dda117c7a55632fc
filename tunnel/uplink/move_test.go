// SPDX-License-Identifier: Apache-2.0

package uplink

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
)

// Frames made for another address, or for another MTU, must not take a way that
// was proven for those before.
func TestWhatChangesClosesTheGates(t *testing.T) {
	moved := netip.MustParseAddr("192.0.2.9")
	for _, tt := range []struct {
		name   string
		change func(h *fakeHost) error
		closes bool
	}{
		{"another address", func(h *fakeHost) error { return h.Move(moved) }, true},
		{"a larger MTU", func(h *fakeHost) error { h.SetMTU(8950); return nil }, true},
		{"a smaller MTU", func(h *fakeHost) error { h.SetMTU(1300); return nil }, false},
		{"the same MTU", func(h *fakeHost) error { h.SetMTU(1450); return nil }, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			runHost(t, 3, func(t *testing.T, h *fakeHost) {
				h.use(3, 500*time.Millisecond)
				if !h.gates[0].Open() {
					t.Fatal("not open after half a second of use")
				}
				h.answer(0, blocked, "a rule for the new ones")
				if err := tt.change(h); err != nil {
					t.Fatal(err)
				}
				if got := !h.gates[0].Open(); got != tt.closes {
					t.Errorf("closed %v, want %v", got, tt.closes)
				}
				h.use(3, time.Second)
				if !h.gates[1].Open() || h.gates[0].Open() == tt.closes {
					t.Errorf("after a second: gate 0 open %v, gate 1 open %v", h.gates[0].Open(), h.gates[1].Open())
				}
			})
		})
	}
}

// An answer that was under way is about what is no more.
func TestAnswerFromBeforeAMove(t *testing.T) {
	runHost(t, 1, func(t *testing.T, h *fakeHost) {
		h.use(1, 500*time.Millisecond)
		moved := false
		h.mu.Lock()
		h.during = func([]question) {
			if moved {
				return
			}
			moved = true
			if err := h.Move(netip.MustParseAddr("192.0.2.9")); err != nil {
				t.Error(err)
			}
			// The next ones are refused, this one is still answered well.
			time.AfterFunc(time.Nanosecond, func() { h.answer(0, blocked, "a rule for the new address") })
		}
		h.mu.Unlock()
		h.Again()
		time.Sleep(atLeast + time.Millisecond)
		synctest.Wait()
		if !moved || h.gates[0].Open() {
			t.Errorf("moved %v, gate open %v", moved, h.gates[0].Open())
		}
		if e := h.Endpoint().Local; e.Addr() != netip.MustParseAddr("192.0.2.9") || e.Port() != 8472 {
			t.Errorf("frames are made for %s", e)
		}
	})
}
