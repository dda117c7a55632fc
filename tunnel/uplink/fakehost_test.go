// SPDX-License-Identifier: Apache-2.0

package uplink

import (
	"bytes"
	"context"
	"log/slog"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"vxtap/tunnel"
)

var local = netip.MustParseAddrPort("192.0.2.1:8472")

// fakeHost answers for a host, and for how often it was asked. Run asks it, while
// the test looks on.
type fakeHost struct {
	*Device
	gates []tunnel.Gate

	mu      sync.Mutex
	log     bytes.Buffer
	answers map[netip.Addr]answer // that are not "passes"
	asked   map[netip.Addr]int
	calls   int // of prove
	mends   int
	mended  func() (bool, error)   // nil: there is nothing to mend
	during  func(batch []question) // nil, or what happens while it is being asked
}

// Write takes what the device logs.
func (h *fakeHost) Write(b []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.log.Write(b)
}

func (h *fakeHost) logged() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.log.String()
}

// answer has the host answer so for peer i.
func (h *fakeHost) answer(i int, v verdict, reason string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.answers[vtep(i)] = answer{v, reason}
}

// pass has the host let all pass.
func (h *fakeHost) pass() {
	h.mu.Lock()
	defer h.mu.Unlock()
	clear(h.answers)
}

func (h *fakeHost) askedOf(i int) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.asked[vtep(i)]
}

func (h *fakeHost) prove(batch []question) []answer {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.calls++; h.during != nil {
		h.during(batch)
	}
	list := make([]answer, len(batch))
	for i, q := range batch {
		h.asked[q.vtep]++
		a, ok := h.answers[q.vtep]
		if !ok {
			a = answer{passes, ""}
		}
		list[i] = a
	}
	return list
}

func (h *fakeHost) mend() (bool, error) {
	h.mu.Lock()
	h.mends++
	f := h.mended
	h.mu.Unlock()
	if f == nil {
		return false, nil
	}
	return f()
}

// vtep is the address of peer i.
func vtep(i int) netip.Addr { return netip.AddrFrom4([4]byte{198, 51, byte(i >> 8), byte(i)}) }

// runHost runs a device with n peers in a bubble of its own, and f after the
// first look.
func runHost(t *testing.T, n int, f func(t *testing.T, h *fakeHost)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		h := newFakeHost(n)
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

func newFakeHost(n int) *fakeHost {
	h := &fakeHost{answers: map[netip.Addr]answer{}, asked: map[netip.Addr]int{}}
	h.Device = newDevice(Config{Name: "up0", Local: local, MTU: 1450, Ports: []uint16{1, 2}, Log: slog.New(slog.NewTextHandler(h, nil))})
	h.Device.prove, h.Device.mend = h.prove, h.mend
	h.setPeers(n)
	return h
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

func (h *fakeHost) peersAsked() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.asked)
}

func (h *fakeHost) looks() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.calls
}

// probes returns how many probes f sees sent.
func (h *fakeHost) probes(f func()) int {
	sum := func() (n int) {
		h.mu.Lock()
		defer h.mu.Unlock()
		for _, k := range h.asked {
			n += k
		}
		return n
	}
	before := sum()
	f()
	return sum() - before
}
