// SPDX-License-Identifier: Apache-2.0

package tunnel

import (
	"context"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// reported runs a reporter beside drop for a while, in time that passes at
// once, and returns its lines.
func reported(t *testing.T, drop func(*Switch)) []string {
	t.Helper()
	var out strings.Builder
	synctest.Test(t, func(t *testing.T) {
		s := replaySwitch(t, &replay{})
		s.Log = slog.New(slog.NewTextHandler(&out, nil))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- newReporter(s).run(ctx) }()
		drop(s)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
}

func TestReporterIsQuietWhenNothingIsDropped(t *testing.T) {
	lines := reported(t, func(s *Switch) {
		s.lanes[0].in.publish(&Direction{Received: 5, Delivered: 5})
		// What a host's kernel sends of itself is not news either.
		s.lanes[0].out.publish(&Direction{Received: 1, Drops: [NumReasons]uint64{IPv6: 1}})
		time.Sleep(10 * time.Second)
	})
	if len(lines) != 1 || lines[0] != "" {
		t.Errorf("logged %q, want nothing", lines)
	}
}

func TestReporterNamesReasonAndStranger(t *testing.T) {
	lines := reported(t, func(s *Switch) {
		s.stranger.note(netip.MustParseAddr("192.168.0.99"))
		s.lanes[0].in.publish(&Direction{Received: 3, Drops: [NumReasons]uint64{NotAPeer: 2, ShortDatagram: 1}})
		time.Sleep(1500 * time.Millisecond)
	})
	for _, want := range []string{"in/short-datagram+1", "in/not-a-peer+2", "stranger=192.168.0.99"} {
		if len(lines) != 1 || !strings.Contains(lines[0], want) {
			t.Errorf("logged %q, want one line with %q", lines, want)
		}
	}
}

// A stranger of yesterday is not blamed for what a peer does today.
func TestReporterForgetsTheStranger(t *testing.T) {
	lines := reported(t, func(s *Switch) {
		s.stranger.note(netip.MustParseAddr("192.168.0.99"))
		s.lanes[0].in.publish(&Direction{Received: 1, Drops: [NumReasons]uint64{NotAPeer: 1}})
		time.Sleep(time.Minute)
		s.lanes[0].in.publish(&Direction{Received: 1, Drops: [NumReasons]uint64{WrongMAC: 1}})
		time.Sleep(time.Minute)
	})
	if len(lines) != 2 || strings.Contains(lines[1], "stranger") {
		t.Errorf("logged %q, want a second line without a stranger", lines)
	}
}

// An hour under fire makes a line a minute, not one a datagram, nor one a
// second.
func TestReporterIsBounded(t *testing.T) {
	lines := reported(t, func(s *Switch) {
		for range 3600 {
			s.lanes[0].in.publish(&Direction{Received: 1000, Drops: [NumReasons]uint64{NotAPeer: 1000}})
			time.Sleep(time.Second)
		}
	})
	if len(lines) < 50 || len(lines) > 70 {
		t.Errorf("%d lines in an hour, want about 60", len(lines))
	}
}
