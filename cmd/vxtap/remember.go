// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"time"

	"vxtap/lease"
)

const (
	// rememberAfter joins changes that come together, as when a cluster starts.
	rememberAfter = 500 * time.Millisecond
	// rememberGap is the least time between two writes: whoever may write to
	// etcd must not keep every host's disk busy.
	rememberGap = 5 * time.Second
	// rememberLook is how often is looked for what nobody tells of: a renewal, a
	// lease that is lost.
	rememberLook = 10 * time.Second
	// rememberAnew is how old the file may get with nothing new in it but the
	// time. A reservation is never renewed, and good for a day from then.
	rememberAnew = time.Hour
)

// remember keeps what is known on the disk until ctx ends, and then once more.
// It has a goroutine of its own: a disk may take its time.
func (s *segment) remember(ctx context.Context) {
	if s.d.stateDir == "" {
		return
	}
	w := &rememberer{segment: s}
	look := time.NewTicker(rememberLook)
	defer look.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-look.C:
		case <-s.fresh:
			_ = pause(ctx, rememberAfter) // ended or not, it is written
		}
		if w.write() {
			_ = pause(ctx, rememberGap) // the loop looks at ctx
		}
	}
	w.write()
}

// rememberer writes what a segment knows when it has changed.
type rememberer struct {
	*segment
	path   string          // of the file that was written last
	last   lease.Memory    // that was written, but for its leases
	from   *lease.Snapshot // what it was made of
	ended  bool            // last says that the lease has ended
	failed bool            // the last attempt did
}

// write reports whether it had anything to write.
func (w *rememberer) write() bool {
	w.writing.Lock()
	defer w.writing.Unlock()
	m, told, ok := w.now()
	ended := w.lost.Load()
	if !ok || w.same(m, told, ended) {
		return false
	}
	if ended {
		m.Own.Expires = m.At // from then on, the subnet may be somebody else's
	}
	m.Host, m.IPv6MAC = hostID(w.d.at().uplink.Name), w.d.mac6
	// The lease may have another address than the host by now, for a moment.
	path := w.d.memoryPathOf(m.Own.Attrs.PublicIP)
	err := m.WriteFile(path)
	if err != nil && !w.failed {
		w.log.Warn("what is known is not remembered: if vxtap starts while etcd is down it will wait", "error", err, "silence", "-state-dir=none")
	}
	if w.failed = err != nil; !w.failed {
		w.retire(path, m.Own)
		m.All = lease.Snapshot{}
		w.last, w.from, w.ended = m, told, ended
	}
	return true
}

// now returns what there is to remember, if anything is. As long as etcd has not
// confirmed it, what is on the disk is as good, unless it is known to be wrong.
func (w *rememberer) now() (m lease.Memory, told *lease.Snapshot, ok bool) {
	told = w.told.Load()
	switch {
	case w.known != nil && !w.confirmed.Load() && !w.lost.Load():
		return m, nil, false
	case told != nil:
		m = w.d.registry.Memory(*w.own.Load(), *told)
		m.Uptime = uptime().At(m.At)
		return m, told, true
	case w.known != nil:
		return *w.known, nil, true
	}
	return m, nil, false
}

func (w *rememberer) same(m lease.Memory, told *lease.Snapshot, ended bool) bool {
	return !w.last.At.IsZero() && told == w.from && ended == w.ended &&
		(ended || m.Own.Expires.Equal(w.last.Own.Expires)) && m.Own.Subnet == w.last.Own.Subnet &&
		m.Own.Attrs == w.last.Own.Attrs && bytes.Equal(m.ConfigValue, w.last.ConfigValue) && m.At.Sub(w.last.At) < rememberAnew
}
