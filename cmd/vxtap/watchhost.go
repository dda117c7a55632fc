// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"log/slog"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"vxtap/tunnel/host"
)

const (
	// lookEvery is how often the host is looked at without a reason: in case that
	// a change was not told of.
	lookEvery = 30 * time.Second
	// lookAtMost bounds how often a host that changes all the time is looked at.
	// What somebody deletes is to be back within a second.
	lookAtMost = 200 * time.Millisecond
)

// watchHost sets up again what somebody takes away of what the host's kernel
// must know, and has the uplink's gates proven again when the host changes,
// until ctx ends. It is no reason to end if nobody tells of changes: the host is
// looked at now and then, and gates are proven while in use.
func (s *side) watchHost(ctx context.Context) {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		err := host.Changes(ctx, s.device, func(c host.Change) {
			if c == host.Elsewhere && s.whole != nil {
				s.whole.Again()
			}
			for _, news := range []chan struct{}{s.hostNews, s.homeNews, s.rulesNews, s.routes.hostNews} {
				poke(news)
			}
		})
		if err != nil {
			s.log.Warn("changes of the host are not heard of, and noticed later", "error", err)
		}
		return nil
	})
	g.Go(func() error {
		m := &mender{side: s, say: rate.NewLimiter(rate.Every(10*time.Second), 20)}
		tick := time.NewTicker(lookEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-s.hostNews:
			case <-tick.C:
			}
			if m.look() {
				poke(s.hostNews)
			}
			if pause(ctx, lookAtMost) != nil {
				return nil
			}
		}
	})
	_ = g.Wait() // neither returns an error
}

// mender sets up again what is not as the side's plan says.
type mender struct {
	*side
	say    *rate.Limiter
	failed string // what the last attempt failed by
	said   string // of that
}

// look says what it has mended, and once what it has failed to mend two times: a
// device that is being deleted fails it once. It reports whether that failed by
// something else than the last time, and is to be tried again soon.
func (m *mender) look() (again bool) {
	m.setting.Lock()
	changed, err := host.Apply(m.plan(slog.New(slog.DiscardHandler)))
	m.setting.Unlock()
	if len(changed) > 0 && m.say.Allow() {
		m.log.Warn("somebody changed what the overlay needs, it is set up again", "what", strings.Join(changed, ", "))
	}
	failed := ""
	if err != nil {
		failed = err.Error()
	}
	if failed != "" && failed == m.failed && failed != m.said && m.say.Allow() {
		m.log.Error("what the overlay needs of the host is not there, trying on", "error", err)
		m.said = failed
	}
	switch {
	case failed == "":
		m.unmended.Store(nil)
	case failed == m.failed:
		why := "what the overlay needs of the host is not there: " + failed
		m.unmended.Store(&why)
	}
	again = failed != "" && failed != m.failed
	m.failed = failed
	return again
}
