// SPDX-License-Identifier: Apache-2.0

package tunnel

import (
	"context"
	"errors"
	"math"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"vxtap/encap/virtio"
)

// fakeWaiter sleeps until it is woken, and counts.
type fakeWaiter struct {
	yields, waits int
	onYield       func(n int) // is told how many yields there were
	err           error       // what Wait says
	wake          chan struct{}
	once          sync.Once
	stop          chan struct{}
}

func newFakeWaiter() *fakeWaiter {
	return &fakeWaiter{wake: make(chan struct{}, 1), stop: make(chan struct{})}
}

func (w *fakeWaiter) Yield() {
	w.yields++
	if w.onYield != nil {
		w.onYield(w.yields)
	}
}

func (w *fakeWaiter) Wait() error {
	w.waits++
	if w.err != nil {
		return w.err
	}
	select {
	case <-w.wake:
		return nil
	case <-w.stop:
		return ErrInterrupted
	}
}

func (w *fakeWaiter) Wake() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

func (w *fakeWaiter) Interrupt() { w.once.Do(func() { close(w.stop) }) }

func (w *fakeWaiter) Interrupted() bool {
	select {
	case <-w.stop:
		return true
	default:
		return false
	}
}

// polled is an underlay that says when it is empty.
type polled struct{ fakeUnderlay }

func (u *polled) Receive(d []Datagram, _ bool) (int, error) {
	if len(u.datagrams) == 0 {
		return 0, ErrEmpty
	}
	return u.fakeUnderlay.Receive(d, false)
}

// running returns a switch whose only lane sleeps, in a synctest bubble, and what
// ends it.
func running(t *testing.T, l Lane, peers ...Peer) (*Switch, func()) {
	t.Helper()
	s, err := New(Config{
		VNI: testVNI, MAC: ownMAC, RouterMAC: routerMAC, Subnet: ownSubnet, MTU: testMTU, Lanes: []Lane{l},
	})
	if err != nil {
		t.Fatal(err)
	}
	s.SetPeers(peers)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	synctest.Wait()
	return s, func() {
		t.Helper()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// One thread carries both directions, sleeps when both are empty, and goes on
// when it is woken.
func TestLaneMovesBothDirections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := frame(routerMAC, ownMAC, "10.5.1.5", "10.5.2.9", 22, nil)
		in := encapsulated(frame(ownMAC, peerTwo.MAC, "10.5.2.9", "10.5.1.5", 22, nil))
		p := &fakePort{reads: [][]byte{out}}
		u := &polled{fakeUnderlay{maxSegments: 63, datagrams: []Datagram{{Data: in, From: peerTwo.VTEP}}}}
		w := newFakeWaiter()
		s, stop := running(t, Lane{Port: p, Underlay: u, Waiter: w}, peerTwo)
		if len(u.sent) != 1 || len(p.written) != 1 || w.waits != 1 {
			t.Errorf("sent %d, wrote %d, slept %d times, want one each", len(u.sent), len(p.written), w.waits)
		}
		p.reads = [][]byte{slices.Clone(out)}
		w.wake <- struct{}{}
		synctest.Wait()
		if len(u.sent) != 2 || w.waits != 2 {
			t.Errorf("after waking: sent %d, slept %d times, want 2 each", len(u.sent), w.waits)
		}
		stop()
		if st := s.Stats(); !st.Out.Balanced() || !st.In.Balanced() || st.Out.Delivered != 2 || st.In.Delivered != 1 {
			t.Errorf("counters %+v", st)
		}
	})
}

// Looks that pay are made: a lane that keeps being woken begins to look again
// before it sleeps, and stops when that finds nothing.
func TestLaneLooksAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := frame(routerMAC, ownMAC, "10.5.1.5", "10.5.2.9", 22, nil)
		p, u, w := &fakePort{}, &polled{fakeUnderlay{maxSegments: 63}}, newFakeWaiter()
		_, stop := running(t, Lane{Port: p, Underlay: u, Waiter: w}, peerTwo)
		for range retryPatience + 1 {
			p.reads = [][]byte{slices.Clone(f)}
			w.wake <- struct{}{}
			synctest.Wait()
		}
		if w.yields == 0 || w.yields > 3*fullPatience {
			t.Errorf("%d looks, want some and at most %d", w.yields, 3*fullPatience)
		}
		// A frame that comes while it looks restores the full measure.
		w.onYield = func(n int) {
			if n == 1 {
				p.reads = [][]byte{slices.Clone(f)}
			}
		}
		for range 2 * retryPatience {
			w.yields, p.reads = 0, [][]byte{slices.Clone(f)}
			w.wake <- struct{}{}
			synctest.Wait()
			if w.yields == 1+fullPatience {
				break
			}
		}
		if w.yields != 1+fullPatience {
			t.Errorf("%d looks after one that paid, want %d", w.yields, 1+fullPatience)
		}
		stop()
	})
}

// What a peer is delivered counts once, over as many batches as there are.
func TestPeerCountsOverBatches(t *testing.T) {
	r := &replay{frame: frame(routerMAC, ownMAC, "10.5.1.5", "10.5.2.9", 22, nil)}
	s := replaySwitch(t, r)
	l := newOutLoop(s, 0)
	for range 3 {
		outBatch(t, l, r, 2)
	}
	if got := s.Stats().Peers[0].OutFrames; got != 6 {
		t.Errorf("%d frames to the peer, want 6", got)
	}
}

// A table that comes while a thread sleeps in a read is the one that the frame
// it wakes for is looked up in.
func TestTableAfterALongSleep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &lateFrame{frame: frame(routerMAC, ownMAC, "10.5.1.5", "10.5.2.9", 22, nil), come: make(chan struct{})}
		u := &fakeUnderlay{maxSegments: 63, stop: make(chan struct{})}
		s, stop := running(t, Lane{Port: p, Underlay: u})
		s.SetPeers([]Peer{peerTwo})
		p.come <- struct{}{}
		synctest.Wait()
		if len(u.sent) != 1 {
			t.Errorf("sent %d: drops %v", len(u.sent), drops(s.Stats().Out))
		}
		stop()
	})
}

// lateFrame is a port whose reader sleeps until the frame comes.
type lateFrame struct {
	fakePort
	frame []byte
	come  chan struct{}
}

func (p *lateFrame) ReadFrame(b []byte, h *virtio.Header, wait bool) (int, error) {
	if !wait {
		return 0, ErrEmpty
	}
	if _, ok := <-p.come; !ok {
		return 0, ErrInterrupted
	}
	*h = virtio.Header{}
	return copy(b, p.frame), nil
}

func (p *lateFrame) Interrupt() { close(p.come) }

// A lane that always finds one more frame stops all the same.
func TestLaneStopsUnderAFlood(t *testing.T) {
	r := &replay{frame: frame(routerMAC, ownMAC, "10.5.1.5", "10.5.2.9", 22, nil), left: math.MaxInt}
	w := newFakeWaiter()
	s, err := New(Config{
		VNI: testVNI, MAC: ownMAC, RouterMAC: routerMAC, Subnet: ownSubnet, MTU: testMTU,
		Lanes: []Lane{{Port: r, Underlay: &polled{fakeUnderlay{maxSegments: 63}}, Waiter: w}},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	for s.Stats().Out.Received == 0 {
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// Whatever ends one lane for good ends all of them.
func TestLaneErrors(t *testing.T) {
	gone := errors.New("device gone")
	tests := []struct {
		name string
		lane func() Lane
	}{
		{"the TAP fails", func() Lane {
			return Lane{Port: &failingPort{err: gone}, Underlay: &polled{}, Waiter: newFakeWaiter()}
		}},
		{"the socket fails", func() Lane {
			return Lane{Port: &fakePort{}, Underlay: &failingUnderlay{err: gone}, Waiter: newFakeWaiter()}
		}},
		{"sleeping fails", func() Lane {
			w := newFakeWaiter()
			w.err = gone
			return Lane{Port: &fakePort{}, Underlay: &polled{}, Waiter: w}
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				good := Lane{Port: &fakePort{}, Underlay: &polled{}, Waiter: newFakeWaiter()}
				s, err := New(Config{
					VNI: testVNI, MAC: ownMAC, RouterMAC: routerMAC, Subnet: ownSubnet, MTU: testMTU, Lanes: []Lane{good, tt.lane()},
				})
				if err != nil {
					t.Fatal(err)
				}
				if err := s.Run(t.Context()); !errors.Is(err, gone) {
					t.Errorf("got %v, want %v", err, gone)
				}
			})
		})
	}
}

type failingUnderlay struct {
	fakeUnderlay
	err error
}

func (u *failingUnderlay) Receive([]Datagram, bool) (int, error) { return 0, u.err }

// The counters of a switch are the sums of its lanes'.
func TestStatsSumLanes(t *testing.T) {
	lane := func() Lane { return Lane{Port: &fakePort{}, Underlay: &fakeUnderlay{}} }
	s, err := New(Config{VNI: 1, MAC: ownMAC, RouterMAC: routerMAC, Subnet: ownSubnet, MTU: testMTU, Lanes: []Lane{lane(), lane(), lane()}})
	if err != nil {
		t.Fatal(err)
	}
	for i := range s.lanes {
		n := uint64(i + 1)
		s.lanes[i].out.publish(&Direction{
			Received: 3 * n, ReceivedBytes: 30 * n, Delivered: 2 * n, DeliveredBytes: 20 * n, Whole: n,
			Drops: [NumReasons]uint64{NoPeer: n}, Flagged: [NumReasons]uint64{NotAPeer: n},
		})
	}
	want := Direction{
		Received: 18, ReceivedBytes: 180, Delivered: 12, DeliveredBytes: 120, Whole: 6,
		Drops: [NumReasons]uint64{NoPeer: 6}, Flagged: [NumReasons]uint64{NotAPeer: 6},
	}
	if got := s.Stats().Out; got != want || !got.Balanced() {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// What the TAP stops taking while running is not given to it any more.
func TestInFollowsWhatTheTAPTakes(t *testing.T) {
	r := &replay{datagram: joined(10, 1000), takes: &Offloads{Csum: true, TCP4: true}}
	l := newInLoop(replaySwitch(t, r), 0)
	inBatch(t, l, r, 1)
	if r.taken != 1 {
		t.Fatalf("%d writes for ten segments, want one super-frame", r.taken)
	}
	r.takes, r.taken = &Offloads{Csum: true}, 0
	inBatch(t, l, r, 1)
	if r.taken != 10 {
		t.Errorf("%d writes for ten segments to a TAP without super-frames, want 10", r.taken)
	}
}
