// SPDX-License-Identifier: Apache-2.0

package poll

import (
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"vxtap/tunnel"
)

// Poller waits for a fixed set of descriptors. One goroutine at a time waits;
// Wake and Interrupt may be called by anyone.
type Poller struct {
	// set has an eventfd behind the caller's descriptors, which Wake makes
	// readable once and Interrupt for good: closing a descriptor would not wake
	// whoever is parked on it.
	set     []unix.PollFd
	wake    int
	stopped atomic.Bool
}

// New returns a poller for fds, which stay the caller's and are closed after
// the poller.
func New(fds ...int) (*Poller, error) {
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	p := &Poller{wake: wake, set: make([]unix.PollFd, 0, len(fds)+1)}
	for _, fd := range append(slices.Clip(fds), wake) {
		p.set = append(p.set, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
	}
	return p, nil
}

// Yield implements tunnel.Waiter: sched_yield(2). It goes to the kernel past
// the Go scheduler, for it never sleeps.
func (p *Poller) Yield() { _, _, _ = unix.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0) }

// shortSleep is how long Wait sleeps past the Go scheduler. It must be less than
// the ten milliseconds after which the runtime signals a thread that seems to
// be running all the time.
const shortSleep = 4 * time.Millisecond

// Wait implements tunnel.Waiter. It also returns when a descriptor is broken,
// and now and then for no reason: the next read says which it is.
//
// A sleep that the scheduler knows of has a price. The runtime's monitor takes
// the processor away from the thread, which must get one again when it wakes,
// and then looks around every 20 us for a while: 3 % of a machine under load.
// Under load sleeps are short; so the first milliseconds are slept without
// telling. Should the runtime want the thread meanwhile, to stop the world, its
// signal ends the sleep.
func (p *Poller) Wait() error {
	timeout := unix.NsecToTimespec(shortSleep.Nanoseconds())
	n, _, errno := unix.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(unsafe.SliceData(p.set))), uintptr(len(p.set)),
		uintptr(unsafe.Pointer(&timeout)), 0, 0, 0)
	if errno == 0 && n == 0 {
		_, err := unix.Poll(p.set, -1)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("poll: %w", err)
		}
	} else if errno != 0 && errno != unix.EINTR {
		return fmt.Errorf("poll: %w", errno)
	}
	if p.stopped.Load() {
		return tunnel.ErrInterrupted
	}
	if p.set[len(p.set)-1].Revents != 0 {
		return p.calm()
	}
	return nil
}

// calm takes back what Wake wrote. Should it take an Interrupt's with it, then
// that has set stopped before it wrote.
func (p *Poller) calm() error {
	var count [8]byte
	_, _ = unix.Read(p.wake, count[:]) // at worst the next Wait is short as well
	if p.stopped.Load() {
		return tunnel.ErrInterrupted
	}
	return nil
}

// Wake implements tunnel.Waiter.
func (p *Poller) Wake() { p.signal() }

// Interrupt implements tunnel.Waiter.
func (p *Poller) Interrupt() {
	p.stopped.Store(true)
	p.signal()
}

func (p *Poller) signal() {
	one := [8]byte{1, 1, 1, 1, 1, 1, 1, 1} // any number but zero
	_, _ = unix.Write(p.wake, one[:])
}

// Interrupted reports whether Interrupt was called. A loop that always finds
// one more frame never waits, and must ask.
func (p *Poller) Interrupted() bool { return p.stopped.Load() }

// Close frees what New took. No call may be under way.
func (p *Poller) Close() error { return unix.Close(p.wake) }
