// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"vxtap/lease"
)

// reporter runs report in a synctest bubble.
type reporter struct {
	view  atomic.Pointer[lease.Selection]
	news  chan struct{}
	lines bytes.Buffer // read it after synctest.Wait only
}

func startReport(t *testing.T) *reporter {
	t.Helper()
	r := &reporter{news: make(chan struct{}, 1)}
	log := slog.New(slog.NewTextHandler(&r.lines, nil))
	go report(t.Context(), log, r.news, r.view.Load)
	return r
}

// put publishes n rejected keys, each with the reason.
func (r *reporter) put(n int, reason string) {
	s := &lease.Selection{}
	for i := range n {
		s.Rejected = append(s.Rejected, lease.Rejected{Key: fmt.Sprintf("subnets/%05d", i), Reason: reason})
	}
	r.view.Store(s)
	select {
	case r.news <- struct{}{}:
	default:
	}
}

func (r *reporter) wantLines(t *testing.T, what string, want int) {
	t.Helper()
	if got := strings.Count(r.lines.String(), what); got != want {
		t.Errorf("got %d lines with %q, want %d:\n%.2000s", got, what, want, &r.lines)
	}
}

func TestReportOfManyBadKeysIsShort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := startReport(t)
		r.put(20_000, "bad")
		synctest.Wait()
		r.wantLines(t, "\n", 6)
		r.wantLines(t, "more=19995 rejected=20000", 1)
		time.Sleep(time.Minute)
		r.put(20_001, "bad")
		synctest.Wait()
		r.wantLines(t, "\n", 7)
		r.wantLines(t, "key=subnets/20000", 1)
	})
}

func TestReportOfAKeyThatChangesAllTheTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := startReport(t)
		for i := range 10_000 { // 10 s
			r.put(1, fmt.Sprint("bad ", i))
			time.Sleep(time.Millisecond)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if got := strings.Count(r.lines.String(), "\n"); got > 12 {
			t.Errorf("got %d lines in 10 s, want about one a second", got)
		}
		r.wantLines(t, `"bad 9999"`, 1) // where it ended
	})
}

func TestReportCountsPeers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := startReport(t)
		for n := range 100 {
			r.view.Store(&lease.Selection{Peers: make([]lease.Lease, n+1)})
			select {
			case r.news <- struct{}{}:
			default:
			}
			time.Sleep(time.Millisecond)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		r.wantLines(t, "\n", 2)
		r.wantLines(t, "peers=100 before=1", 1)
	})
}

// Of keys that are too many to be named, the first are worth one line.
func TestReportOfKeysThatAreOnlyCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := startReport(t)
		for _, more := range []int{0, 1000, 2000, 199_000} {
			s := &lease.Selection{Rejected: []lease.Rejected{{Key: "subnets/a", Reason: "bad"}}, More: more}
			r.view.Store(s)
			r.news <- struct{}{}
			time.Sleep(time.Minute)
		}
		r.wantLines(t, "left out\" key=subnets/a", 1)
		r.wantLines(t, "more=1000 rejected=1001", 1)
		r.wantLines(t, "\n", 2)
	})
}
