// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"io/fs"
	"net/netip"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"vxtap/lease"
)

// askFor is how long a start waits for etcd when it knows how to go on without.
// An etcd that is there answers in a few milliseconds; containers wait for the
// rest.
const askFor = time.Second

// memory is what a segment knows from before, and what of its own is to be
// remembered. known is set before run.
type memory struct {
	known     *lease.Memory // that the segment was opened by; nil: by what etcd said
	confirmed atomic.Bool   // etcd has said since that the lease is ours
	asOf      atomic.Pointer[time.Time]
	told      atomic.Pointer[lease.Snapshot] // the last that etcd told; nil: nothing yet
	writing   sync.Mutex                     // held by whoever reads told beside hear
	fresh     chan struct{}                  // tells remember that told has changed
}

func (d *daemon) memoryPath() string { return d.memoryPathOf(d.at().vtep) }

func (d *daemon) memoryPathOf(publicIP netip.Addr) string {
	return filepath.Join(d.stateDir, d.registry.MemoryName(publicIP))
}

// recall reads what was last known; nil if there is nothing to forward by. The
// MAC and the subnet are worth something also when the rest is too old.
func (d *daemon) recall() *lease.Memory {
	if d.stateDir == "" {
		return nil
	}
	m, err := lease.ReadMemory(d.memoryPath())
	if errors.Is(err, fs.ErrNotExist) {
		d.recallFormer()
		return nil
	}
	if err == nil {
		err = d.registry.CheckMemory(m, d.at().vtep, uptime())
		if err == nil || errors.Is(err, lease.ErrStale) {
			d.before, d.mac6 = m.Own, macOf6(m)
		}
	}
	if err != nil {
		d.log.Warn("what was last known is of no use: without etcd nothing is forwarded", "file", d.memoryPath(), "reason", err)
		return nil
	}
	return &m
}

// begin returns the first place to open a segment for: what etcd says, or what
// was last known if it does not say anything soon. An etcd that answers, be it
// that we are refused, or that there is no config, is believed.
func (d *daemon) begin(ctx context.Context) (place, error) {
	for {
		at, err := d.beginHere(ctx)
		if !errors.Is(err, errElsewhere) {
			return at, err
		}
	}
}

// beginHere is begin at the address that the host has now.
func (d *daemon) beginHere(ctx context.Context) (place, error) {
	known := d.recall()
	if known == nil {
		return d.askFrom(ctx)
	}
	soon, cancel := context.WithTimeout(ctx, askFor)
	defer cancel()
	at, err := d.ask(soon)
	if err == nil || ctx.Err() != nil || soon.Err() == nil {
		return at, err
	}
	if d.registry.Status().Connected {
		return d.askFrom(ctx)
	}
	d.log.Warn("etcd does not answer: going by what was last known", "as_of", known.At.Format(time.RFC3339),
		"subnet", known.Own.Subnet, "leases", len(known.All.Leases), "file", d.memoryPath())
	return place{config: known.Config, known: known}, nil
}

// ask waits for etcd.
func (d *daemon) ask(ctx context.Context) (place, error) {
	config, err := d.registry.Config(ctx)
	return place{config: config}, err
}

// forget goes on by etcd, where what was known made no segment: the config may
// be another by now.
func (d *daemon) forget(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return err
	}
	d.log.Warn("what was last known cannot be gone by, asking etcd first", "error", err)
	at, err := d.askFrom(ctx)
	if errors.Is(err, errElsewhere) {
		return d.beginAgain(ctx)
	}
	if err != nil {
		return err
	}
	return &movedError{at}
}

// beginAgain is begin for a host that has another address now.
func (d *daemon) beginAgain(ctx context.Context) error {
	at, err := d.begin(ctx)
	if err != nil {
		return err
	}
	return &movedError{at}
}

// byMemory says for people that peers are not what etcd told, given when it last
// answered and as of when the peers are; "" if they are.
func byMemory(answered, asOf *time.Time) string {
	if asOf == nil {
		return ""
	}
	since := ""
	if answered == nil {
		since = "not reached since start; "
	}
	return since + "peers as of " + asOf.UTC().Format(time.RFC3339)
}

// note is what is to be said beside that the daemon is ready: "; " and a few
// words, or "".
func (d *daemon) note() string {
	asOf := d.peersAsOf()
	if asOf == nil {
		return ""
	}
	return "; etcd: " + byMemory(unlessZero(d.registry.Status().LastContact), asOf)
}

// peersAsOf returns when what is known of the peers was true; nil: it is what
// etcd has told this segment.
func (d *daemon) peersAsOf() (at *time.Time) {
	d.withSegment(func(s *segment) {
		if s != nil {
			at = s.asOf.Load()
		}
	})
	return at
}

// publishKnown is publish with what the segment was opened by.
func (s *segment) publishKnown() {
	if s.known == nil {
		return
	}
	at := s.known.At
	s.asOf.Store(&at)
	s.publish(s.known.All)
}

// hear takes what etcd tells of all leases.
func (s *segment) hear(all lease.Snapshot) {
	s.asOf.Store(nil)
	s.publish(all)
	// What remember writes at this moment stays as it is.
	if old := s.told.Swap(&all); old != nil && s.writing.TryLock() {
		s.d.registry.Reuse(*old)
		s.writing.Unlock()
	}
	poke(s.fresh)
}

// confirm asks etcd, once it is there, for what the segment was opened by: the
// config and the lease. If all is the same nothing else happens, and traffic
// goes on; else it returns a movedError. It returns nil when ctx ends.
func (s *segment) confirm(ctx context.Context) error {
	if s.known == nil {
		return nil
	}
	if err := s.regain(ctx, s.acquireAgain); err != nil {
		s.lost.Store(true) // and remember it so
		return err
	}
	if ctx.Err() == nil {
		s.confirms()
		s.log.Info("etcd says that what was last known still holds", "subnet", s.own.Load().Subnet)
	}
	return nil
}

// knows returns what another segment may go by; nil if it had better ask.
func (s *segment) knows() *lease.Memory {
	told := s.told.Load()
	switch {
	case s.lost.Load():
		return nil
	case told != nil:
		m := s.d.registry.Memory(*s.own.Load(), *told)
		return &m
	}
	return s.known
}
