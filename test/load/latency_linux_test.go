// SPDX-License-Identifier: Apache-2.0

package load

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vxtap/cmd/vxlab/lab"
	"vxtap/test/bed"
	"vxtap/test/traffic"
)

const (
	roundTrips = 4000
	// mostTail is several times what one round trip in two hundred takes on two
	// cores, and a fifth of what it took while the Go runtime's monitor, which
	// looks every ten milliseconds, had to find some of the frames.
	mostTail = 3 * time.Millisecond
	// tries are for a machine that is busy with something else.
	tries = 3
	// wakes is how many threads are woken in turn for one round trip: each end, and
	// each daemon twice.
	wakes = 6
	// work is what each of them has to do: on a busy machine one that does nothing is
	// let run sooner than one that does.
	work = 20 * time.Microsecond
	// mostTimes is how many times longer than as many threads without any frames a
	// round trip may take, where that is more than mostTail: a daemon's has to share
	// its processor with the kernel's part of the work. On a quiet machine mostTail is
	// the larger.
	mostTimes = 3
)

// A frame that comes alone does not lie about until something else happens, with
// offloads or without. What the machine itself adds is measured in the same
// seconds: threads that wake each other, and do no more than to keep busy
// for as long.
func TestFewRoundTripsTakeLong(t *testing.T) {
	for _, offload := range []string{"-offload=auto", "-offload=off"} {
		t.Run(offload, func(t *testing.T) {
			b := bed.Up(t, lab.Options{Hosts: 2, Args: []string{offload}})
			awaitPeers(t, b, 2, 1)
			from, to := b.ContainerEnd(1), b.ContainerEnd(2)
			warm(t, from, to)
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
			defer cancel()
			for range tries {
				trips, bare := byTurns(ctx, t, from, to)
				tail, control := trips[roundTrips*995/1000], bare[roundTrips*995/1000]
				t.Logf("median %s, 99.5th percentile %s, longest %s; of %d threads alone: median %s, 99.5th percentile %s",
					trips[roundTrips/2], tail, trips[roundTrips-1], wakes, bare[roundTrips/2], control)
				if tail <= max(mostTail, mostTimes*control) {
					return
				}
			}
			t.Errorf("the 99.5th percentile was more than %s each time, and more than %d times that of threads alone", mostTail, mostTimes)
		})
	}
}

// byTurns returns how long round trips take, and how long as many of a ring of
// threads, the shortest first: some of these and some of those by turns.
func byTurns(ctx context.Context, t *testing.T, from, to traffic.End) (trips, bare []time.Duration) {
	t.Helper()
	const turns = 20
	r := startRing(t, wakes)
	defer r.stop()
	for range turns {
		some, err := traffic.RoundTrips(ctx, from, to, roundTrips/turns)
		if err != nil {
			t.Fatal(err)
		}
		trips = append(trips, some...)
		for range roundTrips / turns {
			start := time.Now()
			if err := r.turn(); err != nil {
				t.Fatal(err)
			}
			bare = append(bare, time.Since(start))
		}
	}
	slices.Sort(trips)
	slices.Sort(bare)
	return trips, bare
}

// ring is some threads, each of which sleeps until the one before it wakes it,
// and then wakes the next. The last of them is who calls turn.
type ring struct {
	ends    [][2]int // of the pipe before each thread
	threads sync.WaitGroup
}

func startRing(t *testing.T, n int) *ring {
	t.Helper()
	r := &ring{ends: make([][2]int, n)}
	for i := range r.ends {
		if err := unix.Pipe2(r.ends[i][:], unix.O_CLOEXEC); err != nil {
			t.Fatal(err)
		}
	}
	for i := range n - 1 {
		r.threads.Go(func() {
			runtime.LockOSThread() // a goroutine alone would be woken by another thread
			defer runtime.UnlockOSThread()
			defer unix.Close(r.ends[i+1][1])
			for pass(r.ends[i][0], r.ends[i+1][1]) == nil {
			}
		})
	}
	return r
}

// pass waits for a byte, works, and writes one.
func pass(from, to int) error {
	var b [1]byte
	if n, err := unix.Read(from, b[:]); n != 1 {
		return errors.Join(err, errors.New("the ring ends"))
	}
	for start := time.Now(); time.Since(start) < work; {
	}
	_, err := unix.Write(to, b[:])
	return err
}

// turn wakes the first thread and waits for the last.
func (r *ring) turn() error {
	if _, err := unix.Write(r.ends[0][1], []byte{1}); err != nil {
		return err
	}
	var b [1]byte
	_, err := unix.Read(r.ends[len(r.ends)-1][0], b[:])
	return err
}

// stop ends the threads, one after the other.
func (r *ring) stop() {
	unix.Close(r.ends[0][1])
	r.threads.Wait()
	for _, e := range r.ends {
		unix.Close(e[0])
	}
}
