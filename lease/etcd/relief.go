// SPDX-License-Identifier: Apache-2.0

package etcd

import (
	"sync"
	"time"
)

// relief has Config.Relieve called when much has been read that is no longer needed:
// reliefDelay later, so that a flood that lasts is one call every while, and the last
// of it is followed by one.
type relief struct {
	call func() // nil: nobody wants to know

	mu      sync.Mutex
	bytes   int
	pending *time.Timer
	closed  bool
	calls   sync.WaitGroup // timers that have not ended
}

// See relief. A read of ten thousand leases has less.
const (
	reliefBytes = 4 << 20
	// eventCosts is what an event costs a daemon beside its own bytes.
	eventCosts  = 1 << 10
	reliefDelay = 2 * time.Second
)

// took notes that so many bytes have been read.
func (r *relief) took(bytes int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.bytes += bytes; r.bytes < reliefBytes || r.pending != nil || r.closed || r.call == nil {
		return
	}
	r.calls.Add(1)
	r.pending = time.AfterFunc(reliefDelay, func() {
		defer r.calls.Done()
		r.mu.Lock()
		closed := r.closed
		r.bytes, r.pending = 0, nil
		r.mu.Unlock()
		if !closed {
			r.call()
		}
	})
}

// close returns when call is not running, and never will be again.
func (r *relief) close() {
	r.mu.Lock()
	if r.closed = true; r.pending != nil && r.pending.Stop() {
		r.calls.Done()
	}
	r.mu.Unlock()
	r.calls.Wait()
}
