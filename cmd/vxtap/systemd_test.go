// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// told is a systemd that notes what it hears.
type told struct {
	supervised
	heard []string
	fault error
	does  string
	log   strings.Builder
}

func supervise(t *testing.T, limit time.Duration, f func(*told)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &told{does: "starting"}
		w.supervised = supervised{
			limit: limit,
			alive: func() error { return w.fault },
			line:  func() string { return w.does },
			send:  func(s string) { w.heard = append(w.heard, s) },
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
	w.heard = nil
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
		w.fault = errors.New("lane 1 of 1\ndoes not turn")
		if got, want := w.during(5*time.Minute), []string{"STATUS=hangs: lane 1 of 1; does not turn"}; !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
		if n := strings.Count(w.log.String(), "something hangs"); n != 1 {
			t.Errorf("got %d lines in the log, want 1: %s", n, w.log.String())
		}
		w.fault = nil
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
		w.does = "forwarding"
		if got, want := w.during(2*time.Second), []string{"STATUS=forwarding"}; !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}
