// SPDX-License-Identifier: Apache-2.0

package uplink

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"vxtap/tunnel"
)

// A gate is closed until somebody wants it, is proven again while it is in use,
// and closes when nobody does: then nothing is sent any more.
func TestGateOnDemand(t *testing.T) {
	runHost(t, 12, func(t *testing.T, h *fakeHost) {
		g := h.gates[slices.IndexFunc(h.gates, func(g tunnel.Gate) bool { return h.askedOf(slices.Index(h.gates, g)) == 0 })]
		if g.Open() {
			t.Error("open before anything was proven")
		}
		start := time.Now()
		for !g.Open() && time.Since(start) < 5*time.Second {
			time.Sleep(time.Millisecond)
		}
		if took := time.Since(start); took > atLeast {
			t.Errorf("open after %s, want %s at the most", took, atLeast)
		}
		n := h.probes(func() {
			for range 20000 {
				if !g.Open() {
					t.Error("closed while in use")
				}
				time.Sleep(time.Millisecond)
			}
		})
		if n < 9 || n > 11+8 { // and those that were looked at first
			t.Errorf("%d probes in 20 s of use", n)
		}
		time.Sleep(2*whileUsed + atLeast)
		if n := h.probes(func() { time.Sleep(time.Hour) }); n != 0 {
			t.Errorf("%d probes in an hour without use", n)
		}
		if g.Open() {
			t.Error("open after an hour without use")
		}
		if s := h.State(); !s.Open || s.Reason != "" || s.Cut != 0 {
			t.Errorf("state %+v, want open", s)
		}
	})
}

// At the start a few peers are asked about, so that status can say something;
// while none answers, others are.
func TestFirstLook(t *testing.T) {
	runHost(t, 100, func(t *testing.T, h *fakeHost) {
		if n := h.peersAsked(); n != curiosity || !h.State().Open {
			t.Errorf("%d peers asked about, state %+v", n, h.State())
		}
	})
	t.Run("all are down", func(t *testing.T) {
		runHost(t, 0, func(t *testing.T, h *fakeHost) {
			if s := h.State(); s.Open || s.Reason != noPeer {
				t.Errorf("state %+v", s)
			}
			for i := range 20 {
				h.answer(i, unknown, "")
			}
			h.setPeers(20)
			time.Sleep(3 * whileUsed)
			if n := h.peersAsked(); n != 20 {
				t.Errorf("%d peers asked about, want each", n)
			}
			if s := h.State(); s.Open || s.Reason != noAnswer {
				t.Errorf("state %+v", s)
			}
			if n := h.probes(func() { time.Sleep(5 * time.Minute) }); n < 180 || n > 220 {
				t.Errorf("%d probes in five minutes, want one for each peer every %s", n, whileIdle)
			}
		})
	})
}

// A rule that is for one peer closes that one's gate, and no other; status and
// log name it. It is asked about now and then, and opened when it lets through.
func TestOnePeerIsBlocked(t *testing.T) {
	runHost(t, 50, func(t *testing.T, h *fakeHost) {
		h.use(50, time.Second)
		h.answer(7, blocked, "a rule")
		before := h.askedOf(7)
		h.use(50, 30*time.Second)
		if n := h.askedOf(7) - before; n < 3 || n > 4 {
			t.Errorf("asked %d times in 30 s", n)
		}
		for i, g := range h.gates {
			if g.Open() != (i != 7) {
				t.Errorf("gate %d: open %v", i, g.Open())
			}
		}
		if s := h.State(); !s.Open || s.Cut != 1 || s.Some[0] != (Cut{vtep(7), "a rule"}) {
			t.Errorf("state %+v", s)
		}
		if n := strings.Count(h.logged(), "closed"); n != 1 || !strings.Contains(h.logged(), `super-frames to some peers are cut here, the way through the host to them is closed" uplink=up0 reason="a rule" peer=198.51.0.7`+"\n") {
			t.Errorf("log:\n%s", h.logged())
		}
		h.pass()
		if h.use(50, whileClosed+whileUsed); !h.gates[7].Open() {
			t.Error("still closed when the rule has gone")
		}
	})
}

// When one gate opens that a rule had closed, the rule has gone: what is known
// of the others is worth nothing.
func TestARuleHasGone(t *testing.T) {
	runHost(t, 40, func(t *testing.T, h *fakeHost) {
		for i := range 40 {
			h.answer(i, blocked, "a rule")
		}
		h.use(40, 5*time.Second)
		if s := h.State(); s.Open || s.Cut != 40 || len(s.Some) != some || s.Reason != "a rule" {
			t.Errorf("state %+v", s)
		}
		h.pass()
		h.use(1, whileClosed+whileUsed)
		if s := h.State(); !s.Open || s.Cut != 0 {
			t.Errorf("state %+v", s)
		}
		h.use(40, 200*time.Millisecond)
		for i, g := range h.gates {
			if !g.Open() {
				t.Errorf("gate %d is closed", i)
			}
		}
	})
}

// A host that changes all the time has the gates in use looked at, but not more
// often than ten times a second.
func TestHostChangesAllTheTime(t *testing.T) {
	runHost(t, 3, func(t *testing.T, h *fakeHost) {
		h.use(2, time.Second)
		calls := h.looks()
		for range 500 {
			h.gates[0].Open()
			h.Again()
			time.Sleep(10 * time.Millisecond)
		}
		if n := h.looks() - calls; n < 30 || n > 51 {
			t.Errorf("%d looks in five seconds", n)
		}
		if h.gates[1].Open() {
			t.Error("a gate that nobody uses is still open")
		}
	})
}

// What is known of a gate that rests is worth nothing when the host has changed:
// status must not say that super-frames leave whole because they once did.
func TestAHostThatChangesWhileIdle(t *testing.T) {
	runHost(t, 3, func(t *testing.T, h *fakeHost) {
		time.Sleep(time.Minute)
		if s := h.State(); !s.Open || s.Wanted != 0 {
			t.Errorf("state %+v, want open and nobody who wants it", s)
		}
		for i := range 3 {
			h.answer(i, blocked, "a rule")
		}
		h.Again()
		time.Sleep(whileUsed + atLeast)
		synctest.Wait()
		if s := h.State(); s.Open || s.Reason != "a rule" {
			t.Errorf("state %+v, want closed", s)
		}
		h.pass()
		h.Again()
		time.Sleep(whileUsed + atLeast)
		synctest.Wait()
		if s := h.State(); !s.Open {
			t.Errorf("state %+v, want open", s)
		}
		if n := h.probes(func() { h.use(3, 100*time.Millisecond) }); h.State().Wanted != 3 {
			t.Errorf("state %+v after %d probes, want 3 who want it", h.State(), n)
		}
	})
}

// The same when the change comes while the last gate is open that was in use.
func TestAHostThatChangesAfterUse(t *testing.T) {
	runHost(t, 3, func(t *testing.T, h *fakeHost) {
		time.Sleep(time.Minute)
		h.use(1, time.Second)
		time.Sleep(whileUsed - atLeast/2) // it was proven since anybody wanted it
		h.Again()
		time.Sleep(whileUsed + 2*atLeast)
		synctest.Wait()
		if s := h.State(); !s.Open {
			t.Errorf("state %+v, want open", s)
		}
	})
}

// With very many peers in use the probes stay few, and each gate opens soon.
func TestManyPeers(t *testing.T) {
	runHost(t, 1000, func(t *testing.T, h *fakeHost) {
		h.use(1000, 4*time.Second)
		for i, g := range h.gates {
			if !g.Open() {
				t.Errorf("gate %d is closed", i)
			}
		}
		if n := h.probes(func() { h.use(1000, 60*time.Second) }); n < 2000 || n > 4000 {
			t.Errorf("%d probes in a minute, want about 50 a second", n)
		}
	})
}

// A peer keeps its gate as long as it is there, and the gate of one that has
// gone is closed.
func TestGatesFollowThePeers(t *testing.T) {
	runHost(t, 3, func(t *testing.T, h *fakeHost) {
		h.use(3, time.Second)
		before := h.gates
		twice := h.Gates([]netip.Addr{vtep(1), vtep(1), vtep(2), vtep(9)})
		if twice[0] != before[1] || twice[1] != before[1] || twice[2] != before[2] {
			t.Error("a peer has another gate than before")
		}
		if before[0].Open() {
			t.Error("the gate of a peer that has gone is open")
		}
		if !twice[0].Open() || twice[3].Open() {
			t.Error("want what was open to stay so, and what is new to be closed")
		}
		h.use(1, time.Minute) // of the old ones: nobody opens it any more
		if before[0].Open() {
			t.Error("the gate of a peer that has gone was opened again")
		}
	})
}

// After a refusal the gate is closed for a while: what the kernel would not take
// may come again.
func TestRefused(t *testing.T) {
	runHost(t, 1, func(t *testing.T, h *fakeHost) {
		h.use(1, time.Second)
		g, ok := h.gates[0].(*gate)
		if !ok {
			t.Fatal("no gate")
		}
		if err := g.WriteFrame(nil); err == nil { // there is no TAP
			t.Fatal("no error")
		}
		start := time.Now()
		if h.use(1, 2*atLeast); h.gates[0].Open() {
			t.Error("open")
		}
		if s := h.State(); s.Open || s.Reason != refused || !strings.Contains(h.logged(), refused) {
			t.Errorf("state %+v, log:\n%s", s, h.logged())
		}
		for !g.Open() && time.Since(start) < time.Minute {
			time.Sleep(10 * time.Millisecond)
		}
		if took := time.Since(start); took < whileUsed || took > whileUsed+2*atLeast {
			t.Errorf("open again after %s", took)
		}
	})
}

// Where the TAP is not what it was, it is set up again; where that does not help,
// the reason is what stood in the way.
func TestMend(t *testing.T) {
	runHost(t, 1, func(t *testing.T, h *fakeHost) {
		set := func(f func() (bool, error)) {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.mended = f
		}
		h.answer(0, blocked, "up0 takes no super-frame")
		set(func() (bool, error) { h.pass(); return true, nil })
		h.use(1, time.Second)
		h.Again()
		h.use(1, time.Second)
		if !h.gates[0].Open() || strings.Contains(h.logged(), "closed") || !strings.Contains(h.logged(), "set up again") {
			t.Errorf("open %v, log:\n%s", h.gates[0].Open(), h.logged())
		}
		h.answer(0, blocked, "up0 takes no super-frame")
		set(func() (bool, error) { return false, errors.New("rp_filter") })
		h.Again()
		h.use(1, time.Second)
		if s := h.State(); s.Open || s.Reason != "rp_filter" {
			t.Errorf("state %+v", s)
		}
		set(nil)
		h.Again()
		h.use(1, time.Second)
		if s := h.State(); s.Open || s.Reason != "up0 takes no super-frame" {
			t.Errorf("state %+v", s)
		}
		if n := h.probes(func() { h.use(1, time.Minute) }); n > 7 {
			t.Errorf("%d probes in a minute, want one every %s: there was nothing to mend", n, whileClosed)
		}
	})
}

// Of several peers those and only those are asked about again that were blocked,
// and each gets its own answer.
func TestMendWithSeveralPeers(t *testing.T) {
	h := newFakeHost(5)
	h.answer(1, blocked, "down")
	h.answer(2, unknown, "")
	h.answer(3, blocked, "a rule")
	h.mended = func() (bool, error) { h.answer(1, passes, ""); return true, nil }
	var batch []question
	for i := range 5 {
		batch = append(batch, question{vtep: vtep(i)})
	}
	want := []answer{{passes, ""}, {passes, ""}, {unknown, ""}, {blocked, "a rule"}, {passes, ""}}
	if got := h.ask(batch); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	for i, n := range []int{1, 2, 1, 2, 1} {
		if h.askedOf(i) != n {
			t.Errorf("asked %d times about peer %d, want %d", h.askedOf(i), i, n)
		}
	}
	h.answer(1, unknown, "")
	h.answer(3, unknown, "")
	if h.ask(batch); h.mends != 1 {
		t.Error("mended for peers that are down")
	}
}

// A peer that goes while it is being asked about is not let in again.
func TestPeerGoesDuringAProof(t *testing.T) {
	runHost(t, 2, func(t *testing.T, h *fakeHost) {
		gone := h.gates[0]
		h.mu.Lock()
		h.during = func(batch []question) {
			if slices.ContainsFunc(batch, func(q question) bool { return q.vtep == vtep(0) }) {
				h.Gates([]netip.Addr{vtep(1)})
			}
		}
		h.mu.Unlock()
		h.use(2, time.Second)
		h.Again()
		h.use(2, time.Second)
		if gone.Open() {
			t.Error("the gate of a peer that has gone is open")
		}
	})
}

// A lane may see a gate open at the very moment at which it is closed because
// nobody used it, and tells nobody then.
func TestGateClosesWhileSomebodyComes(t *testing.T) {
	g := newFakeHost(1).Device.gates[vtep(0)]
	g.take(answer{passes, ""}, time.Now().Add(-time.Hour))
	<-g.d.wake // there is a first peer
	if why, _ := g.due(whileUsed); why != resting {
		t.Fatalf("need %d, want that it rests", why)
	}
	if !g.Open() || len(g.d.wake) > 0 {
		t.Fatal("closed, or somebody was told")
	}
	if !g.rest() {
		t.Error("nobody is to look at it, though somebody wants it")
	}
	if g.Open() || len(g.d.wake) > 0 {
		t.Error("open, or told after all")
	}
	if why, at := g.due(whileUsed); why != wants || !at.IsZero() {
		t.Errorf("need %d at %s, want that it is asked about at once", why, at)
	}
}

// What may be letting frames into nothing is asked about first, and whoever did
// not answer holds nobody up.
func TestMostUrgent(t *testing.T) {
	now := time.Now()
	state := func(open bool, a answer, asked time.Time) *gate {
		g := &gate{answer: a, asked: asked}
		g.open.Store(open)
		return g
	}
	silent := state(false, answer{}, now.Add(-time.Hour))
	open := state(true, answer{passes, ""}, now)
	older := state(true, answer{passes, ""}, now.Add(-time.Minute))
	fresh := state(false, answer{}, time.Time{})
	closed := state(false, answer{unknown, refused}, now)
	batch, more := mostUrgent([]*gate{silent, closed, open, fresh, older})
	if want := []*gate{older, open, fresh, closed}; !slices.Equal(batch, want) || !more {
		t.Errorf("got %d gates, more %v, want the four that may answer", len(batch), more)
	}
	if batch, more := mostUrgent([]*gate{silent}); len(batch) != 1 || more {
		t.Errorf("%d gates, more %v, want the silent one by itself", len(batch), more)
	}
}

// The first proof, and one after a change, is of the largest frame too, and the
// full segments go round the source ports.
func TestQuestions(t *testing.T) {
	runHost(t, 1, func(t *testing.T, h *fakeHost) {
		var seen []question
		h.mu.Lock()
		h.during = func(batch []question) { seen = append(seen, batch...) }
		h.mu.Unlock()
		h.use(1, 5*time.Second)
		h.Again()
		h.use(1, time.Second)
		h.mu.Lock()
		defer h.mu.Unlock()
		var anew []bool
		for i, q := range seen {
			if i > 0 && q.turn != seen[i-1].turn+1 {
				t.Errorf("turn %d after %d", q.turn, seen[i-1].turn)
			}
			anew = append(anew, q.anew)
		}
		if want := []bool{false, false, true}; !slices.Equal(anew, want) {
			t.Errorf("proofs anew: %v, want %v", anew, want)
		}
	})
}

// A way that opens and closes all the time does not fill the log.
func TestLogIsBounded(t *testing.T) {
	runHost(t, 1, func(t *testing.T, h *fakeHost) {
		for i := range 601 {
			h.pass()
			if i%2 == 0 {
				h.answer(0, blocked, "a rule")
			}
			h.gates[0].Open()
			h.Again()
			time.Sleep(atLeast)
		}
		if n := strings.Count(h.logged(), "\n"); n < 20 || n > 30 {
			t.Errorf("%d lines in a minute", n)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		lines := strings.Split(strings.TrimSpace(h.logged()), "\n")
		if last := lines[len(lines)-1]; h.State().Open || !strings.Contains(last, "closed") {
			t.Errorf("the last line is %q, and the state %+v", last, h.State())
		}
	})
}

// Neither a look at a gate nor a frame allocates.
func TestGateDoesNotAllocate(t *testing.T) {
	d := newDevice(Config{})
	g := d.Gates([]netip.Addr{vtep(0)})[0]
	if n := testing.AllocsPerRun(100, func() { g.Open() }); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}
