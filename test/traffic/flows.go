// SPDX-License-Identifier: Apache-2.0

package traffic

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// Burst is one send: Count datagrams of Size bytes, in one call that the kernel
// cuts (UDP_SEGMENT) where they are more than one. Size is numberLen at least.
type Burst struct{ Size, Count int }

// Flows is UDP flows that run side by side, each with its datagrams numbered.
type Flows struct {
	Number    int
	Pattern   []Burst // what a flow sends, over and over
	Datagrams int     // that each flow sends at the least
	// Until makes each flow go on until it is closed; nil: after Datagrams.
	Until <-chan struct{}
	Pace  time.Duration // from one send to the next; 0: as fast as it goes
	// Window bounds how many datagrams of a flow are under way, so that no
	// buffer on the way can overflow; 0: as fast as it goes.
	Window int
}

// Tally is what became of numbered datagrams.
type Tally struct {
	Sent     int
	Received int // each once
	Late     int // after one that was sent later
	Twice    int
	Spoilt   int // of the wrong length, or with other bytes than were sent
	Overflow int // found the receiver's socket full
	Segments int // in the largest burst: what one lost super-frame can cost
}

// Lost is how many never came.
func (t Tally) Lost() int { return t.Sent - t.Received }

// String returns the tally as it appears in a failure.
func (t Tally) String() string {
	return fmt.Sprintf("sent %d, lost %d (%d of them before a full socket), late %d, twice %d, spoilt %d",
		t.Sent, t.Lost(), t.Overflow, t.Late, t.Twice, t.Spoilt)
}

func (t *Tally) add(o Tally) {
	t.Sent += o.Sent
	t.Received += o.Received
	t.Late += o.Late
	t.Twice += o.Twice
	t.Spoilt += o.Spoilt
	t.Overflow += o.Overflow
}

// numberLen is the least that a numbered datagram has: its number at both ends.
const numberLen = 16

const (
	// stall is how long a full window waits for what is lost.
	stall = 100 * time.Millisecond
	// quiet is after how long without an arrival of any flow the rest counts as
	// lost: one that shares a queue with the others may come long after them.
	quiet = 500 * time.Millisecond
)

// Run sends all flows and returns what became of the datagrams in sum.
func (f Flows) Run(ctx context.Context, from, to End) (Tally, error) {
	group, ctx := errgroup.WithContext(ctx)
	tallies := make([]Tally, f.Number)
	var arrival atomic.Int64
	arrival.Store(time.Now().UnixNano())
	for i := range tallies {
		p, err := newUDPPair(ctx, from, to)
		if err != nil {
			return Tally{}, fmt.Errorf("flow %s to %s: %w", from, to, err)
		}
		defer p.Close()
		_ = p.far.SetReadBuffer(4 << 20) // or as much as there may be
		w := &flow{Flows: f, near: p.near, far: p.far, deadline: deadlineOf(ctx), arrival: &arrival}
		// A thread that moves to another processor overtakes what it has just
		// sent: each has a queue of its own between the namespaces of a veth
		// pair. One that stays where it is shows what is on the way.
		group.Go(func() error { return pinned(i, w.send) })
		group.Go(func() (err error) { tallies[i], err = w.receive(); return err })
	}
	err := group.Wait()
	var sum Tally
	for _, t := range tallies {
		sum.add(t)
	}
	for _, b := range f.Pattern {
		sum.Segments = max(sum.Segments, b.Count)
	}
	if err != nil {
		err = fmt.Errorf("flows %s to %s: %w", from, to, err)
	}
	return sum, err
}

func deadlineOf(ctx context.Context) time.Time {
	deadline, _ := ctx.Deadline()
	return deadline
}

// flow is one of Flows under way.
type flow struct {
	Flows
	near, far      *net.UDPConn
	deadline       time.Time
	sent, received atomic.Int64
	done           atomic.Bool   // all is sent
	arrival        *atomic.Int64 // of the last datagram of any flow, in Unix nanoseconds
}

// lengthOf returns the length that datagram number n has.
func (f *flow) lengthOf(n uint64) int {
	var whole uint64
	for _, b := range f.Pattern {
		whole += uint64(b.Count)
	}
	n %= whole
	for _, b := range f.Pattern {
		if n < uint64(b.Count) {
			return b.Size
		}
		n -= uint64(b.Count)
	}
	return 0
}

func number(b []byte, n uint64) {
	for i := range b {
		b[i] = byte(n + uint64(i))
	}
	binary.BigEndian.PutUint64(b, n)
	binary.BigEndian.PutUint64(b[len(b)-8:], n)
}

// spoilt reports whether b is not what number wrote for the number in it.
func spoilt(b []byte, want int) bool {
	if len(b) != want || binary.BigEndian.Uint64(b) != binary.BigEndian.Uint64(b[len(b)-8:]) {
		return true
	}
	n := binary.BigEndian.Uint64(b)
	for i := 8; i < len(b)-8; i++ {
		if b[i] != byte(n+uint64(i)) {
			return true
		}
	}
	return false
}

func (f *flow) send() error {
	defer f.done.Store(true)
	next := uint64(0)
	forgiven := int64(0) // of the window: taken to be lost
	b := make([]byte, 1<<16)
	for next < uint64(f.Datagrams) || !f.ended() {
		for _, burst := range f.Pattern {
			forgiven += f.await(int64(next)-forgiven, burst.Count)
			for i := range burst.Count {
				number(b[i*burst.Size:][:burst.Size], next)
				next++
			}
			var control []byte
			if burst.Count > 1 {
				control = segmentControl(burst.Size)
			}
			_, _, err := f.near.WriteMsgUDPAddrPort(b[:burst.Count*burst.Size], control, netip.AddrPort{})
			if err != nil {
				return fmt.Errorf("send: %w", err)
			}
			f.sent.Store(int64(next))
			if f.Pace > 0 {
				time.Sleep(f.Pace)
			}
		}
	}
	return nil
}

// ended reports whether no more is wanted than Datagrams.
func (f *flow) ended() bool {
	if f.Until == nil {
		return true
	}
	select {
	case <-f.Until:
		return true
	default:
		return false
	}
}

// await returns when n more fit the window, or when what is under way has to be
// given up: it returns how many those are.
func (f *flow) await(sent int64, n int) int64 {
	if f.Window == 0 {
		return 0
	}
	before, since := f.received.Load(), time.Now()
	for {
		now := f.received.Load()
		if sent-now+int64(n) <= int64(f.Window) {
			return 0
		}
		if now != before {
			before, since = now, time.Now()
		}
		if time.Since(since) > stall {
			return sent - now
		}
		time.Sleep(20 * time.Microsecond)
	}
}

func (f *flow) receive() (Tally, error) {
	var t Tally
	var seen []bool
	latest := int64(-1)
	b := make([]byte, 1<<16)
	for {
		_ = f.far.SetReadDeadline(time.Now().Add(quiet))
		n, err := f.far.Read(b)
		switch {
		case isTimeout(err) && f.done.Load() && time.Since(time.Unix(0, f.arrival.Load())) > quiet || !f.deadline.IsZero() && time.Now().After(f.deadline):
			t.Sent, t.Overflow = int(f.sent.Load()), socketDrops(f.far)
			return t, nil
		case isTimeout(err):
			continue
		case err != nil:
			return t, fmt.Errorf("receive: %w", err)
		case n < numberLen:
			t.Spoilt++
			continue
		}
		f.arrival.Store(time.Now().UnixNano())
		k := binary.BigEndian.Uint64(b)
		if k >= 1<<28 || spoilt(b[:n], f.lengthOf(k)) {
			t.Spoilt++
			continue
		}
		for uint64(len(seen)) <= k {
			seen = append(seen, false)
		}
		switch {
		case seen[k]:
			t.Twice++
			continue
		case int64(k) < latest:
			t.Late++
		}
		seen[k], latest = true, max(latest, int64(k))
		t.Received++
		f.received.Store(int64(t.Received))
		if f.done.Load() && int64(t.Received) == f.sent.Load() {
			// One that comes twice has little time to do so.
			_ = f.far.SetReadDeadline(time.Now().Add(quiet / 25))
			if n, err = f.far.Read(b); err == nil && n > 0 {
				t.Twice++
			}
			t.Sent, t.Overflow = t.Received, socketDrops(f.far)
			return t, nil
		}
	}
}

func isTimeout(err error) bool {
	e, ok := errors.AsType[net.Error](err)
	return ok && e.Timeout()
}

// pinned calls f on a thread that stays on one processor, the nth.
func pinned(n int, f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		err := pinThread(n)
		if err == nil {
			err = f()
		}
		done <- err
	}()
	return <-done
}
