// SPDX-License-Identifier: Apache-2.0

//go:build unix

package etcd

import (
	"context"
	"sync/atomic"
	"testing"

	"vxtap/lease/leasetest"
)

// countingContext counts what depends on it.
type countingContext struct {
	context.Context //nolint:containedctx // it is one
	n               atomic.Int64
}

// AfterFunc is how context.WithCancel asks a context that it does not know.
func (c *countingContext) AfterFunc(f func()) func() bool {
	c.n.Add(1)
	stop := context.AfterFunc(c.Context, f)
	return func() bool {
		c.n.Add(-1)
		return stop()
	}
}

// Value hides the context within, which would be asked instead.
func (c *countingContext) Value(any) any { return nil }

// A member that hangs has the connections made anew every few seconds, for weeks:
// a session that is closed must leave nothing behind.
func TestClosedSessionsLeaveNothing(t *testing.T) {
	srv := startServer(t, "http")
	s := openStore(t, Config{Endpoints: []string{srv.url("http")}, Prefix: "/n"})
	life := &countingContext{Context: s.config.Context}
	s.config.Context = life //nolint:fatcontext // counted once, below nothing else
	for range 5 {
		if _, err := leasetest.List(t.Context(), s, "config"); err != nil {
			t.Fatal(err)
		}
		old := s.client
		if next, err := s.renew(t.Context(), old); err != nil || next == nil {
			t.Fatalf("renewed to %v, %v", next, err)
		}
		if err := old.Close(); err != nil {
			t.Error(err)
		}
		s.Redial()
	}
	if n := life.n.Load(); n != 0 {
		t.Errorf("%d contexts are left of sessions that are closed", n)
	}
}
