// SPDX-License-Identifier: Apache-2.0

package tunnel

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"
)

// The log says at most once in quietest that frames are being dropped, and
// while that goes on ever less often, down to once in loudest: whoever can
// make us drop must not be able to fill a disk.
const (
	quietest = time.Second
	loudest  = 64 * time.Second
)

// reporter writes what the loops dropped and flagged to the log.
type reporter struct {
	s       *Switch
	before  Stats
	every   time.Duration // between two lines now
	elapsed time.Duration // since the last line
}

func newReporter(s *Switch) *reporter { return &reporter{s: s, every: quietest} }

// run looks once a second until ctx ends.
func (r *reporter) run(ctx context.Context) error {
	tick := time.NewTicker(quietest)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			r.report()
		}
	}
}

func (r *reporter) report() {
	r.elapsed += quietest
	if r.elapsed < r.every {
		return
	}
	now := r.s.Stats()
	lines := append(changes("in", &now.In, &r.before.In), changes("out", &now.Out, &r.before.Out)...)
	strangers := now.In.Drops[NotAPeer] + now.In.Flagged[NotAPeer] - r.before.In.Drops[NotAPeer] - r.before.In.Flagged[NotAPeer]
	r.before = now
	if len(lines) == 0 {
		if r.elapsed >= loudest {
			r.every = quietest
		}
		return
	}
	attrs := []slog.Attr{slog.String("reason", strings.Join(lines, " "))}
	if a := r.s.stranger.addr(); strangers > 0 && a.IsValid() {
		attrs = append(attrs, slog.String("stranger", a.String()))
	}
	r.s.Log.LogAttrs(context.Background(), slog.LevelWarn, "frames dropped", attrs...)
	r.elapsed = 0
	r.every = min(2*r.every, loudest)
}

// changes lists the reasons that grew, as in "in/not-a-peer+3". What a host's
// own kernel sends as a matter of course (IPv6 discovery, multicast) is not
// news, and neither are probes, and what comes while we start.
func changes(direction string, now, before *Direction) []string {
	var lines []string
	for r := range NumReasons {
		if quiet(direction, r) {
			continue
		}
		if n := now.Drops[r] - before.Drops[r]; n > 0 {
			lines = append(lines, fmt.Sprintf("%s/%s+%d", direction, r, n))
		}
		if n := now.Flagged[r] - before.Flagged[r]; n > 0 {
			lines = append(lines, fmt.Sprintf("%s/%s+%d(passed)", direction, r, n))
		}
	}
	return lines
}

// quiet reports whether r is no news.
func quiet(direction string, r Reason) bool {
	if r == Probe || r == NoPeersYet {
		return true
	}
	return direction == "out" && (r == IPv6 || r == IPv4 || r == NotIP || r == Broadcast || r == LinkLocal)
}
