// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"

	"vxtap/test/field"
)

// Keys of the run.
const (
	prefix    = "/chaos/network/"
	configKey = prefix + "config"
	// markKey is written in the same transaction as whatever a fault writes: so
	// a watch tells the faults' writes from all others, and no answer that is
	// lost makes one look like the other.
	markKey = prefix + "fault"
)

// recorder hears of every change in etcd, by whichever member tells first, and
// hands it to the judge.
type recorder struct {
	clients []*clientv3.Client // one for each member

	mu       sync.Mutex // guards the rest, and the judge
	judge    *judge
	told     int64          // revision up to which all is known
	revoked  map[int64]bool // grants that a fault ends
	answers  []time.Time    // of each member: when its last good answer was asked for
	reads    []read         // that told of more than is known
	complete time.Time      // everything that happened before this is known
	say      func(event)
}

// read is one answer of a member.
type read struct {
	asked time.Time
	rev   int64
}

func newRecorder(f *field.Field, j *judge, say func(event)) (*recorder, error) {
	r := &recorder{judge: j, say: say, revoked: map[int64]bool{}, answers: make([]time.Time, len(f.Members))}
	for _, m := range f.Members {
		c, err := clientv3.New(clientv3.Config{
			Endpoints: []string{m.URL()}, Logger: zap.NewNop(), DialKeepAliveTime: 10 * time.Second, DialKeepAliveTimeout: 2 * time.Second,
			// gRPC waits up to two minutes before it dials a member again that was
			// away for long, and that member would be judged to be away still.
			DialOptions: []grpc.DialOption{grpc.WithConnectParams(grpc.ConnectParams{
				Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
				MinConnectTimeout: 2 * time.Second,
			})},
		})
		if err != nil {
			return nil, fmt.Errorf("make a client of %s: %w", m.Name, err)
		}
		r.clients = append(r.clients, c)
	}
	return r, nil
}

// run watches and asks every member until ctx ends.
func (r *recorder) run(ctx context.Context) {
	var wg sync.WaitGroup
	for i := range r.clients {
		wg.Go(func() { r.watch(ctx, i) })
		wg.Go(func() { r.ask(ctx, i) })
	}
	wg.Wait()
	for _, c := range r.clients {
		_ = c.Close() // nothing is lost
	}
}

func (r *recorder) watch(ctx context.Context, i int) {
	for ctx.Err() == nil {
		r.mu.Lock()
		from := r.told + 1
		r.mu.Unlock()
		wctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
		for resp := range r.clients[i].Watch(wctx, prefix, clientv3.WithPrefix(), clientv3.WithRev(from)) {
			r.hear(resp.Events)
		}
		cancel()
		_ = field.Pause(ctx, 100*time.Millisecond)
	}
}

// hear takes in what one member told.
func (r *recorder) hear(events []*clientv3.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	for len(events) > 0 {
		rev := events[0].Kv.ModRevision
		n := 1
		for n < len(events) && events[n].Kv.ModRevision == rev {
			n++
		}
		if rev > r.told {
			r.take(events[:n], now)
			r.told = rev
		}
		events = events[n:]
	}
	r.settle()
}

// take takes in the changes of one revision.
func (r *recorder) take(events []*clientv3.Event, now time.Time) {
	var mark string
	for _, ev := range events {
		if string(ev.Kv.Key) == markKey {
			mark = string(ev.Kv.Value)
		}
	}
	for _, ev := range events {
		key := strings.TrimPrefix(string(ev.Kv.Key), prefix)
		if !strings.HasPrefix(key, "subnets") {
			continue
		}
		e := event{
			rev: ev.Kv.ModRevision, at: now, key: key, deleted: ev.Type == mvccpb.DELETE,
			value: string(ev.Kv.Value), grant: ev.Kv.Lease, fault: mark,
		}
		if grant := r.judge.history.now().keys[key].grant; e.deleted && r.revoked[grant] {
			e.fault = string(revoked)
		}
		r.say(e)
		r.judge.event(e)
	}
}

// askedEvery is how long an answer of a member is good.
const askedEvery = 200 * time.Millisecond

// ask reads from one member, again and again.
func (r *recorder) ask(ctx context.Context, i int) {
	for ctx.Err() == nil {
		asked := time.Now()
		rev, err := r.askOnce(ctx, i)
		r.mu.Lock()
		if err == nil {
			r.answers[i] = asked
			r.reads = append(r.reads, read{asked, rev})
			r.settle()
		}
		r.mu.Unlock()
		_ = field.Pause(ctx, askedEvery)
	}
}

// askOnce returns the revision that a member has, after asking the majority.
func (r *recorder) askOnce(ctx context.Context, i int) (int64, error) {
	timed, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	resp, err := r.clients[i].Get(timed, configKey)
	if err != nil {
		return 0, err
	}
	return resp.Header.Revision, nil
}

// settle finds out since when everything is known.
func (r *recorder) settle() {
	open := r.reads[:0]
	for _, a := range r.reads {
		switch {
		case a.rev > r.told:
			open = append(open, a)
		case a.asked.After(r.complete):
			r.complete = a.asked
		}
	}
	r.reads = open
}

// client returns a client of the member that answered last.
func (r *recorder) client() *clientv3.Client {
	r.mu.Lock()
	defer r.mu.Unlock()
	best := 0
	for i, t := range r.answers {
		if t.After(r.answers[best]) {
			best = i
		}
	}
	return r.clients[best]
}
