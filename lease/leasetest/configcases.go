// SPDX-License-Identifier: Apache-2.0

package leasetest

import (
	"context"
	"testing"
	"time"

	"vxtap/lease"
)

// configFollowed: what the config becomes is told, whatever befalls the watch,
// and what is no news is not.
func configFollowed(t *testing.T, f Fixture) {
	heard := make(chan lease.ConfigNews, 16)
	r := lease.New(f.Store, lease.Options{})
	run(t, func(ctx context.Context) error {
		return r.WatchConfig(ctx, func(n lease.ConfigNews) { heard <- n })
	})
	next := func(what string) lease.ConfigNews {
		t.Helper()
		select {
		case n := <-heard:
			return n
		case <-time.After(patience):
			t.Fatalf("%s: nothing was told", what)
		}
		return lease.ConfigNews{}
	}
	if n := next("no config"); !n.Missing {
		t.Errorf("got %+v, want that there is none", n)
	}
	Put(t, f.Store, "config", Config, 0)
	if n := next("a config"); n.Err != nil || n.Config.Network != Network(t).Network || string(n.Value) != Config {
		t.Errorf("got %+v", n)
	}
	Put(t, f.Store, "config", Config, 0) // no news
	Put(t, f.Store, "config-old", "{", 0)
	Put(t, f.Store, "config", "{", 0)
	if n := next("a broken one"); n.Err == nil {
		t.Errorf("got %+v, want why it is broken", n)
	}
	const later = `{"Network": "10.5.0.0/16", "Backend": {"Type": "vxlan", "MTU": 1400}}`
	Put(t, f.Store, "config", later, 0)
	if n := next("a mended one"); n.Err != nil || n.Config.Backend.MTU != 1400 {
		t.Errorf("got %+v", n)
	}
	f.Disconnect(t)
	f.Connect(t)
	f.Compact(t)
	Delete(t, f.Store, "config")
	if n := next("a deleted one"); !n.Missing {
		t.Errorf("got %+v, want that there is none", n)
	}
	select {
	case n := <-heard:
		t.Errorf("got %+v, want nothing more", n)
	default:
	}
}
