// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"log/slog"
	"time"

	"vxtap/lease"
)

const (
	// reportGap is the least time between two bursts of lines. Whoever may
	// write to etcd can change a lease a thousand times a second, and must not
	// fill the log of every host with it.
	reportGap = time.Second
	// reportMost is how many keys one burst names; the rest is a number.
	reportMost = 5
)

// report says in the log what changed among the leases, each time that news
// says so, until ctx ends. What came and went within a reportGap is not worth
// a line; what lasts always gets into one.
func report(ctx context.Context, log *slog.Logger, news <-chan struct{}, view func() *lease.Selection) {
	said := &lease.Selection{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-news:
		}
		now := view()
		if len(now.Peers) != len(said.Peers) {
			log.Info("peers", "peers", len(now.Peers), "before", len(said.Peers))
		}
		reportRejected(log, now, said)
		said = now
		if pause(ctx, reportGap) != nil {
			return
		}
	}
}

// reportRejected names the first few keys of now that are not in before.
func reportRejected(log *slog.Logger, now, before *lease.Selection) {
	known := make(map[lease.Rejected]struct{}, len(before.Rejected))
	for _, r := range before.Rejected {
		known[r] = struct{}{}
	}
	fresh := 0
	for _, r := range now.Rejected {
		if _, ok := known[r]; ok {
			continue
		}
		if fresh++; fresh <= reportMost {
			log.Warn("left out", "key", r.Key, "reason", r.Reason)
		}
	}
	// Of those that are only counted, it is worth a line that there are some.
	if fresh > reportMost || now.More > 0 && before.More == 0 {
		log.Warn("more keys left out, vxtap status lists them", "more", max(fresh-reportMost, 0)+max(now.More-before.More, 0), "rejected", len(now.Rejected)+now.More)
	}
}
