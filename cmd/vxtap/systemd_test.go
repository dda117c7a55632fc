// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// told is a systemd that notes what it hears.
type told struct {
	supervised
	log strings.Builder

	mu    sync.Mutex
	heard []string
	fault error
	does  string
}

// let changes what the daemon is like.
func (w *told) let(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
}

func (w *told) alive() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.fault
}

func (w *told) line() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.does
}

func (w *told) send(s string) { w.let(func() { w.heard = append(w.heard, s) }) }

func supervise(t *testing.T, limit time.Duration, f func(*told)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &told{does: "starting"}
		w.supervised = supervised{
			limit: limit,
			alive: w.alive,
			line:  w.line,
			send:  w.send,
			log:   slog.New(slog.NewTextHandler(&w.log, nil)),
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { w.run(ctx); close(done) }()
		synctest.Wait()
		f(w)
		cancel()
		<-done
	})
}

// during returns what is heard while d passes.
func (w *told) during(d time.Duration) []string {
	w.let(func() { w.heard = nil })
	time.Sleep(d)
	synctest.Wait()
	return w.heard
}

func TestWatchdogIsFedInTime(t *testing.T) {
	supervise(t, time.Minute, func(w *told) {
		if got := w.during(10*time.Minute + time.Second); len(got) != 40 || slices.ContainsFunc(got, func(s string) bool { return s != "WATCHDOG=1" }) {
			t.Errorf("got %q in ten minutes, want a sign of life every 15 s", got)
		}
	})
}

// What hangs must not be fed by somebody who does not.
func TestWatchdogStarvesWhileSomethingHangs(t *testing.T) {
	supervise(t, time.Minute, func(w *told) {
		w.during(time.Minute + time.Second)
		w.let(func() { w.fault = errors.New("lane 1 of 1\ndoes not turn") })
		if got, want := w.during(5*time.Minute), []string{"STATUS=hangs: lane 1 of 1; does not turn"}; !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
		if n := strings.Count(w.log.String(), "something hangs"); n != 1 {
			t.Errorf("got %d lines in the log, want 1: %s", n, w.log.String())
		}
		w.let(func() { w.fault = nil })
		if got, want := w.during(15*time.Second), []string{"WATCHDOG=1", "STATUS=starting"}; !slices.Equal(got, want) {
			t.Errorf("got %q when it goes on, want %q", got, want)
		}
	})
}

func TestSystemdHearsWhatTheDaemonDoes(t *testing.T) {
	supervise(t, 0, func(w *told) {
		if want := []string{"STATUS=starting"}; !slices.Equal(w.heard, want) {
			t.Errorf("got %q at once, want %q", w.heard, want)
		}
		if got := w.during(time.Hour); len(got) > 0 {
			t.Errorf("got %q while nothing changes", got)
		}
		w.let(func() { w.does = "forwarding" })
		if got, want := w.during(2*time.Second), []string{"STATUS=forwarding"}; !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}
