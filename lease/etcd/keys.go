// SPDX-License-Identifier: Apache-2.0

package etcd

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/metadata"

	"vxtap/lease"
)

// Put implements lease.Keys.
func (s *Store) Put(ctx context.Context, key string, value []byte, ifRevision int64, grant lease.GrantID) (int64, error) {
	put := clientv3.OpPut(s.base+key, string(value), clientv3.WithLease(clientv3.LeaseID(grant)))
	rev, err := s.swap(ctx, key, ifRevision, put)
	if err != nil {
		return 0, fmt.Errorf("write %s: %w", s.Path(key), err)
	}
	return rev, nil
}

// Delete implements lease.Keys.
func (s *Store) Delete(ctx context.Context, key string, ifRevision int64) error {
	if _, err := s.swap(ctx, key, ifRevision, clientv3.OpDelete(s.base+key)); err != nil {
		return fmt.Errorf("delete %s: %w", s.Path(key), err)
	}
	return nil
}

// Move implements lease.Keys.
func (s *Store) Move(ctx context.Context, x lease.Exchange) (int64, error) {
	put := clientv3.OpPut(s.base+x.To, string(x.Value), clientv3.WithLease(clientv3.LeaseID(x.Grant)))
	what := []clientv3.Cmp{s.at(x.From, x.Revision), s.at(x.To, 0)}
	if x.Beside != "" {
		what = append(what, clientv3.Compare(clientv3.CreateRevision(s.base+x.Beside), "<", x.Since+1).WithPrefix())
	}
	rev, err := s.txn(ctx, what, clientv3.OpDelete(s.base+x.From), put)
	if err != nil {
		return 0, fmt.Errorf("write %s in place of %s: %w", s.Path(x.To), s.Path(x.From), err)
	}
	return rev, nil
}

// at says that key is at revision; that of a key that does not exist is 0.
func (s *Store) at(key string, revision int64) clientv3.Cmp {
	return clientv3.Compare(clientv3.ModRevision(s.base+key), "=", revision)
}

// swap does op if key is at revision.
func (s *Store) swap(ctx context.Context, key string, revision int64, op clientv3.Op) (int64, error) {
	return s.txn(ctx, []clientv3.Cmp{s.at(key, revision)}, op)
}

// txn does all of ops if all of what is holds.
func (s *Store) txn(ctx context.Context, what []clientv3.Cmp, ops ...clientv3.Op) (int64, error) {
	var rev int64
	err := s.call(ctx, callTimeout, func(ctx context.Context, c *clientv3.Client) error {
		resp, err := c.Txn(ctx).If(what...).Then(ops...).Commit()
		if err != nil {
			return err
		}
		if !resp.Succeeded {
			return lease.ErrConflict
		}
		rev = resp.Header.Revision
		return nil
	})
	return rev, err
}

// errHungUp is why a watch ends that has lost its connection.
var errHungUp = errors.New("the connection to etcd broke")

// errSilent is why a watch ends that etcd does not start.
var errSilent = errors.New("etcd does not start the watch")

// Watch implements lease.Keys. The client itself would resume a broken watch in
// silence, for hours if need be; here it ends as soon as no endpoint is
// connected, so that the caller knows, and reads everything afresh.
//
// A watch whose connection is replaced by one with other certificates is no
// broken one: it goes on where it was.
func (s *Store) Watch(ctx context.Context, prefix string, from int64, deliver func(lease.Batch)) error {
	err := errReplaced
	for errors.Is(err, errReplaced) {
		err = s.watch(ctx, prefix, from, func(b lease.Batch) {
			from = max(from, b.Revision+1)
			deliver(b)
		})
	}
	if err != nil {
		return fmt.Errorf("watch %s: %w", s.Path(prefix), err)
	}
	return nil
}

func (s *Store) watch(ctx context.Context, prefix string, from int64, deliver func(lease.Batch)) error {
	timed, done := context.WithTimeout(ctx, callTimeout)
	c, err := s.connect(timed)
	done()
	if err != nil {
		return s.explain(ctx, err)
	}
	// A member that lost its leader would go on and say nothing; this way it
	// ends the watch, and the client finds another member.
	wctx, cancel := context.WithCancelCause(ownStream(clientv3.WithRequireLeader(ctx), prefix))
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel(nil)
	wg.Go(func() { hangUp(wctx, c.Client, cancel) })
	wg.Go(func() { moveOn(wctx, c, cancel) })

	started := time.AfterFunc(callTimeout, func() { cancel(errSilent) })
	defer started.Stop()
	events := c.Watch(wctx, s.base+prefix, clientv3.WithPrefix(), clientv3.WithRev(from),
		clientv3.WithCreatedNotify(), clientv3.WithProgressNotify())
	for resp := range events {
		started.Stop()
		if err := resp.Err(); err != nil {
			if errors.Is(context.Cause(wctx), errReplaced) {
				return errReplaced
			}
			return s.explain(ctx, err)
		}
		deliver(s.batch(resp, from-1))
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if cause := context.Cause(wctx); cause != nil {
		return cause
	}
	return errHungUp
}

// ownStream has the client watch prefix by a stream of its own: it gives one to each
// set of metadata (clientv3, streamKeyFromCtx). In one stream, a message that is too
// large for the watch of all leases ends that of our own and of the config as well.
func ownStream(ctx context.Context, prefix string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "vxtap-watch", hex.EncodeToString([]byte(prefix)))
}

// batch converts one message. Its Revision is that of the last event in it, not
// the header's: etcd sends a watch that is behind its history in several
// messages, each with the revision that the store has by now. The first one, which
// says that the watch is there, tells whether the store has come to before.
func (s *Store) batch(resp clientv3.WatchResponse, before int64) lease.Batch {
	b := lease.Batch{Revision: before, Events: make([]lease.Event, len(resp.Events))}
	switch {
	case resp.Created:
		b.Revision = min(before, resp.Header.Revision)
	case resp.IsProgressNotify():
		b.Revision = resp.Header.Revision
	}
	bytes := 0
	for i, ev := range resp.Events {
		bytes += len(ev.Kv.Key) + len(ev.Kv.Value) + eventCosts
		b.Events[i] = lease.Event{Pair: s.pair(ev.Kv), Deleted: ev.Type == clientv3.EventTypeDelete}
		b.Revision = ev.Kv.ModRevision
	}
	if bytes > 0 {
		s.relief.took(bytes)
	}
	return b
}

// hangUp cancels a watch when no endpoint is connected any more.
func hangUp(ctx context.Context, c *clientv3.Client, cancel context.CancelCauseFunc) {
	conn := c.ActiveConnection()
	for {
		state := conn.GetState()
		if !conn.WaitForStateChange(ctx, state) {
			return // ctx ended
		}
		if state == connectivity.Ready {
			cancel(errHungUp)
			return
		}
	}
}

// moveOn cancels a watch when its session has been replaced.
func moveOn(ctx context.Context, c *session, cancel context.CancelCauseFunc) {
	select {
	case <-c.replaced:
		cancel(errReplaced)
	case <-ctx.Done():
	}
}
