// SPDX-License-Identifier: Apache-2.0

package lease

import (
	"bytes"
	"context"
	"sync"
	"time"
)

// ConfigNews is what the store says of the network config.
type ConfigNews struct {
	Config   Config // to be used only if Err is nil and Missing is not set
	Value    []byte // as it stands in the store; belongs to the receiver
	Revision int64  // of its last change, or at which it was missed
	Missing  bool   // there is none
	Err      error  // why it is none that a host starts with, as ParseConfig says it
}

// configGap is the least time between two calls of publish. The first of a burst
// of changes is published at once: whoever may write to the store must not keep
// every host busy setting devices up.
const configGap = time.Second

// WatchConfig follows the network config: publish gets what there is as soon as
// the store says so, and whenever it has another value, from one goroutine. A
// value that is put again is no news. What came and went meanwhile is left out.
// WatchConfig returns only when ctx ends, with nil.
//
// It is as careful as Watch: after whatever breaks the watch, and every few
// minutes in any case, the key is read again.
func (r *Registry) WatchConfig(ctx context.Context, publish func(ConfigNews)) error {
	f := &configFollower{r: r, news: make(chan struct{}, 1)}
	var wg sync.WaitGroup
	wg.Go(func() {
		r.tellOf(ctx, "publish the network config", f.news, configGap, func() { publish(f.current()) })
	})
	err := r.attend(ctx, attention{what: "watch the network config", log: r.log, follow: f.follow})
	wg.Wait()
	return err
}

// Adopt notes that this host goes by n from now on, for Memory.
func (r *Registry) Adopt(n ConfigNews) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lastConfig, r.lastConfigValue = n.Config, n.Value
}

// configFollower is one call of WatchConfig on its way.
type configFollower struct {
	r    *Registry
	news chan struct{} // tells publish that there is something

	mu       sync.Mutex
	now      Pair // Revision 0: there is none
	revision int64
	filled   bool // it has been read at least once

	rollbacks rollbacks
}

// current reads the config as it is now.
func (f *configFollower) current() ConfigNews {
	f.mu.Lock()
	p, revision := f.now, f.revision
	f.mu.Unlock()
	if p.Revision == 0 {
		return ConfigNews{Missing: true, Revision: revision}
	}
	n := ConfigNews{Value: bytes.Clone(p.Value), Revision: p.Revision}
	n.Config, n.Err = ParseConfig(p.Value)
	return n
}

// follow reads the config and then watches it, until the next read is due (nil)
// or something breaks.
func (f *configFollower) follow(ctx context.Context, t *turn) error {
	p, revision, err := readPair(ctx, t.alive.reads(f.r.store), configKey)
	if err != nil {
		return err
	}
	if err := f.replace(p, revision); err != nil {
		return err
	}
	return f.r.watchAwhile(ctx, configKey, revision+1, t, f.apply)
}

// replace takes in a read. One that is older than what is known has to be proven,
// as that of the leases.
func (f *configFollower) replace(p Pair, revision int64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, err := f.rollbacks.check(revision, f.revision); err != nil {
		return err
	}
	f.takeLocked(p)
	f.revision = revision
	return nil
}

// apply takes in what a watch delivered.
func (f *configFollower) apply(batch Batch) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, ev := range batch.Events {
		switch {
		case ev.Key != configKey || ev.Revision <= f.revision:
		case ev.Deleted:
			f.takeLocked(Pair{})
		default:
			f.takeLocked(ev.Pair)
		}
	}
	f.revision = max(f.revision, batch.Revision)
}

// takeLocked notes the config, and tells publish if it is another one. The lock
// is held.
func (f *configFollower) takeLocked(p Pair) {
	news := !f.filled || (p.Revision == 0) != (f.now.Revision == 0) || !bytes.Equal(p.Value, f.now.Value)
	f.now, f.filled = p, true
	if !news {
		return
	}
	select {
	case f.news <- struct{}{}:
	default: // it is told already
	}
}
