// SPDX-License-Identifier: Apache-2.0

package uplink

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"vxtap/tunnel"
)

var local = netip.MustParseAddrPort("192.0.2.1:8472")

// fakeHost answers for a host, and for how often it was asked.
type fakeHost struct {
	*Device
	log     bytes.Buffer
	answers map[netip.Addr]answer // that are not "passes"
	asked   map[netip.Addr]int
	calls   int // of prove
	mends   int
	mended  func() (bool, error) // nil: there is nothing to mend
	gates   []tunnel.Gate
}

// vtep is the address of peer i.
func vtep(i int) netip.Addr { return netip.AddrFrom4([4]byte{198, 51, byte(i >> 8), byte(i)}) }

// runHost runs a device with n peers in a bubble of its own, and f after the
// first look.
func runHost(t *testing.T, n int, f func(t *testing.T, h *fakeHost)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		h := &fakeHost{answers: map[netip.Addr]answer{}, asked: map[netip.Addr]int{}}
		h.Device = newDevice(Config{Name: "up0", Local: local, MTU: 1450, Log: slog.New(slog.NewTextHandler(&h.log, nil))})
		h.prove = func(vteps []netip.Addr) []answer {
			h.calls++
			list := make([]answer, len(vteps))
			for i, v := range vteps {
				h.asked[v]++
				a, ok := h.answers[v]
				if !ok {
					a = answer{passes, ""}
				}
				list[i] = a
			}
			return list
		}
		h.mend = func() (bool, error) {
			if h.mends++; h.mended != nil {
				return h.mended()
			}
			return false, nil
		}
		h.setPeers(n)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- h.Run(ctx) }()
		time.Sleep(settle + atLeast/2)
		synctest.Wait()
		f(t, h)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func (h *fakeHost) setPeers(n int) {
	vteps := make([]netip.Addr, n)
	for i := range vteps {
		vteps[i] = vtep(i)
	}
	h.gates = h.Gates(vteps)
}

// use has the loops ask for the first n gates every 10 ms for a while.
func (h *fakeHost) use(n int, long time.Duration) {
	for end := time.Now().Add(long); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		for _, g := range h.gates[:n] {
			g.Open()
		}
	}
	synctest.Wait()
}

// probes returns how many probes f sees sent.
func (h *fakeHost) probes(f func()) int {
	sum := func() (n int) {
		for _, k := range h.asked {
			n += k
		}
		return n
	}
	before := sum()
	f()
	return sum() - before
}

// A gate is closed until somebody wants it, is proven again while it is in use,
// and closes when nobody does: then nothing is sent any more.
func TestGateOnDemand(t *testing.T) {
	runHost(t, 12, func(t *testing.T, h *fakeHost) {
		g := h.gates[slices.IndexFunc(h.gates, func(g tunnel.Gate) bool { return h.asked[vtep(slices.Index(h.gates, g))] == 0 })]
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
		if n := len(h.asked); n != curiosity || !h.State().Open {
			t.Errorf("%d peers asked about, state %+v", n, h.State())
		}
	})
	t.Run("all are down", func(t *testing.T) {
		runHost(t, 0, func(t *testing.T, h *fakeHost) {
			if s := h.State(); s.Open || s.Reason != noPeer {
				t.Errorf("state %+v", s)
			}
			for i := range 20 {
				h.answers[vtep(i)] = answer{unknown, ""}
			}
			h.setPeers(20)
			time.Sleep(3 * whileUsed)
			if len(h.asked) != 20 {
				t.Errorf("%d peers asked about, want each", len(h.asked))
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
		h.answers[vtep(7)] = answer{blocked, "a rule"}
		before := h.asked[vtep(7)]
		h.use(50, 30*time.Second)
		if n := h.asked[vtep(7)] - before; n < 3 || n > 4 {
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
		if n := strings.Count(h.log.String(), "closed"); n != 1 || !strings.Contains(h.log.String(), `reason="a rule" peer=198.51.0.7 others=0`) {
			t.Errorf("log:\n%s", h.log.String())
		}
		delete(h.answers, vtep(7))
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
			h.answers[vtep(i)] = answer{blocked, "a rule"}
		}
		h.use(40, 5*time.Second)
		if s := h.State(); s.Open || s.Cut != 40 || len(s.Some) != some || s.Reason != "a rule" {
			t.Errorf("state %+v", s)
		}
		clear(h.answers)
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
		calls := h.calls
		for range 500 {
			h.gates[0].Open()
			h.Again()
			time.Sleep(10 * time.Millisecond)
		}
		if n := h.calls - calls; n < 30 || n > 51 {
			t.Errorf("%d looks in five seconds", n)
		}
		if h.gates[1].Open() {
			t.Error("a gate that nobody uses is still open")
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
		if s := h.State(); s.Open || s.Reason != refused || !strings.Contains(h.log.String(), refused) {
			t.Errorf("state %+v, log:\n%s", s, h.log.String())
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
		shut := func() { h.answers[vtep(0)] = answer{blocked, "up0 takes no super-frame"} }
		shut()
		h.mended = func() (bool, error) {
			clear(h.answers)
			return true, nil
		}
		h.use(1, time.Second)
		h.Again()
		h.use(1, time.Second)
		if !h.gates[0].Open() || h.mends != 1 || strings.Contains(h.log.String(), "closed") || !strings.Contains(h.log.String(), "set up again") {
			t.Errorf("open %v, mended %d times, log:\n%s", h.gates[0].Open(), h.mends, h.log.String())
		}
		shut()
		h.mended = func() (bool, error) { return false, errors.New("rp_filter") }
		h.Again()
		h.use(1, time.Second)
		if s := h.State(); s.Open || s.Reason != "rp_filter" {
			t.Errorf("state %+v", s)
		}
		h.mended = nil
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

// A way that opens and closes all the time does not fill the log.
func TestLogIsBounded(t *testing.T) {
	runHost(t, 1, func(t *testing.T, h *fakeHost) {
		for i := range 600 {
			clear(h.answers)
			if i%2 == 0 {
				h.answers[vtep(0)] = answer{blocked, "a rule"}
			}
			h.gates[0].Open()
			h.Again()
			time.Sleep(atLeast)
		}
		if n := strings.Count(h.log.String(), "\n"); n < 20 || n > 30 {
			t.Errorf("%d lines in a minute", n)
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
