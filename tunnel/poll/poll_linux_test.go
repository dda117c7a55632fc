// SPDX-License-Identifier: Apache-2.0

package poll

import (
	"errors"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vxtap/tunnel"
)

func pipe(t *testing.T) (r, w int) {
	t.Helper()
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_NONBLOCK|unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(p[0]); unix.Close(p[1]) })
	return p[0], p[1]
}

func poller(t *testing.T, fds ...int) *Poller {
	t.Helper()
	p, err := New(fds...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

func TestWaitReturnsWhenAnyDescriptorIsReadable(t *testing.T) {
	r1, w1 := pipe(t)
	r2, w2 := pipe(t)
	p := poller(t, r1, r2)
	for _, w := range []int{w1, w2} {
		done := make(chan error)
		go func() { done <- p.Wait() }()
		if _, err := unix.Write(w, []byte{1}); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil {
			t.Errorf("got %v", err)
		}
		var b [1]byte
		_, _ = unix.Read(r1, b[:])
		_, _ = unix.Read(r2, b[:])
	}
}

func TestInterruptEndsThisWaitAndEveryOneAfter(t *testing.T) {
	r, _ := pipe(t)
	p := poller(t, r)
	done := make(chan error)
	go func() { done <- p.Wait() }()
	p.Interrupt()
	if err := <-done; !errors.Is(err, tunnel.ErrInterrupted) {
		t.Errorf("got %v", err)
	}
	if err := p.Wait(); !errors.Is(err, tunnel.ErrInterrupted) || !p.Interrupted() {
		t.Errorf("the wait after it: %v, interrupted %v", err, p.Interrupted())
	}
}

// A device that somebody deleted is an event, not something to sleep through.
func TestWaitReturnsWhenADescriptorBreaks(t *testing.T) {
	r, w := pipe(t)
	p := poller(t, r)
	done := make(chan error)
	go func() { done <- p.Wait() }()
	unix.Close(w) // POLLHUP
	if err := <-done; err != nil {
		t.Errorf("got %v", err)
	}
}

// A loop that sleeps past the Go scheduler does not hold up the others: a
// garbage collection, which stops them all, ends its sleep.
func TestSleepDoesNotHoldUpTheWorld(t *testing.T) {
	r, w := pipe(t)
	p := poller(t, r)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for !p.Interrupted() {
			_, _ = unix.Write(w, []byte{1}) // so that the next Wait starts with its short sleep
			_ = p.Wait()
			var b [1]byte
			_, _ = unix.Read(r, b[:])
			_ = p.Wait()
		}
	}()
	start := time.Now()
	for range 20 {
		runtime.GC()
	}
	// On a busy machine anything takes long; held up it would be for good.
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("20 collections took %s", took)
	}
	p.Interrupt()
	<-done
}

func TestWaitAndYieldDoNotAllocate(t *testing.T) {
	r, w := pipe(t)
	p := poller(t, r)
	if _, err := unix.Write(w, []byte{1}); err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(100, func() { p.Yield(); _ = p.Wait() }); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

func TestWakeEndsOneWait(t *testing.T) {
	r, _ := pipe(t)
	p := poller(t, r)
	for range 3 {
		p.Wake()
		p.Wake() // before anybody waits, and twice
		// A Wait may return for no reason; one of a few has been woken.
		for range 10 {
			if err := p.Wait(); err != nil {
				t.Fatalf("got %v", err)
			}
			if !readable(t, p.wake) {
				break
			}
		}
		if readable(t, p.wake) {
			t.Error("no wait will ever sleep again")
		}
	}
	p.Wake()
	p.Interrupt()
	for range 2 {
		if err := p.Wait(); !errors.Is(err, tunnel.ErrInterrupted) {
			t.Errorf("got %v, want the interrupt to outlive the wake", err)
		}
	}
}

func readable(t *testing.T, fd int) bool {
	t.Helper()
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
	if err != nil {
		t.Fatal(err)
	}
	return n > 0
}
