// SPDX-License-Identifier: Apache-2.0

package etcd

import (
	"context"
	"errors"
	"fmt"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"vxtap/lease"
)

const (
	// maxMessage is the largest message that is taken from etcd. gRPC looks at the
	// length before it makes room for a message (rpc_util.go, recvMsg). etcd itself
	// bounds what a client may write (--max-request-bytes, 1.5 MiB) but not what a
	// client is sent. Twenty thousand leases are in one.
	maxMessage = 8 << 20
	// pageBytes is what a page is to have that is read because everything in one
	// message is too much. For each, etcd counts all keys that are still to come.
	pageBytes = 2 << 20
	// firstPage is how many keys the first page has, and mostKeys how many any has.
	firstPage = 64
	mostKeys  = 1 << 16
)

// List implements lease.Keys: one linearizable range read, whatever the number of
// leases, as long as its answer fits one message. What does not, since strangers
// have put it there, is read in pages, all at the revision of the first. How many
// keys a page has follows from how large the last one was; one that is too large is
// tried with half as many, firstPage at most, down to one key, and one key that is too
// large is handed over without its value, which is never read.
func (s *Store) List(ctx context.Context, prefix string, take func(lease.Pair)) (int64, error) {
	r := s.begin(prefix, take)
	err := r.run(ctx)
	s.relief.took(r.bytes)
	if err != nil {
		// It may be too much for etcd to put together in that time.
		s.noteLarge(prefix, r.late || s.isLarge(prefix))
		return 0, fmt.Errorf("read %s: %w", s.Path(prefix), err)
	}
	s.listsInVain.Store(0)
	s.noteLarge(prefix, r.bytes > maxMessage/2)
	return r.revision, nil
}

// reading is one call of List on its way.
type reading struct {
	s         *Store
	take      func(lease.Pair)
	next, end string // what is still to be read
	limit     int    // keys of the next page
	revision  int64  // of all pages; 0 before the first
	bytes     int    // of all messages, and of those that were refused
	late      bool   // a page has not come in time
}

// begin returns a List that has read nothing yet. Of what was a lot the last time
// its first page is a small one.
func (s *Store) begin(prefix string, take func(lease.Pair)) *reading {
	r := &reading{
		s: s, take: take,
		next: s.base + prefix, end: clientv3.GetPrefixRangeEnd(s.base + prefix),
		limit: mostKeys,
	}
	if s.isLarge(prefix) {
		r.limit = firstPage
	}
	return r
}

// errTooLarge says that an answer is larger than maxMessage.
var errTooLarge = errors.New("the answer is too large")

func (r *reading) run(ctx context.Context) error {
	for more := true; more; {
		resp, err := r.page(ctx)
		switch {
		case errors.Is(err, errTooLarge) && r.limit > 1:
			r.bytes += maxMessage
			r.limit = min(r.limit/2, firstPage)
			continue
		case errors.Is(err, errTooLarge):
			if resp, err = r.page(ctx, clientv3.WithKeysOnly()); err == nil {
				for _, kv := range resp.Kvs {
					kv.Value = make([]byte, lease.MaxValue+1)
				}
			}
		}
		if err != nil {
			return err
		}
		more = r.took(resp)
	}
	return nil
}

// page reads the next page, or returns errTooLarge.
func (r *reading) page(ctx context.Context, also ...clientv3.OpOption) (resp *clientv3.GetResponse, err error) {
	tooLarge := false
	err = r.s.call(ctx, listTimeout, func(ctx context.Context, c *clientv3.Client) (err error) {
		opts := append([]clientv3.OpOption{clientv3.WithRange(r.end), clientv3.WithLimit(int64(r.limit)), clientv3.WithRev(r.revision)}, also...)
		resp, err = c.Get(ctx, r.next, opts...)
		if tooLarge = isTooLarge(err); tooLarge {
			return nil // etcd is well
		}
		r.late = isLate(err)
		return err
	})
	if tooLarge {
		return nil, errTooLarge
	}
	return resp, err
}

// took hands a page over, and reports whether there is another one.
func (r *reading) took(resp *clientv3.GetResponse) bool {
	if r.revision == 0 {
		r.revision = resp.Header.Revision
	}
	size := 0
	for i, kv := range resp.Kvs {
		size += len(kv.Key) + len(kv.Value) + 32
		r.next = string(kv.Key) + "\x00"
		r.take(r.s.pair(kv))
		resp.Kvs[i] = nil // a page is not to be held as a whole
	}
	r.bytes += size
	if n := len(resp.Kvs); n > 0 {
		r.limit = min(max(pageBytes/(size/n), 1), 4*r.limit, mostKeys)
	}
	return resp.More && len(resp.Kvs) > 0
}

// isTooLarge reports whether err is gRPC's, of an answer that we or etcd's own gRPC
// find too large. etcd's errors have words of their own.
func isTooLarge(err error) bool {
	var known rpctypes.EtcdError
	return err != nil && !errors.As(rpctypes.Error(err), &known) && status.Code(err) == codes.ResourceExhausted
}

// isLate reports whether err is that an answer has not come in time.
func isLate(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || status.Code(err) == codes.DeadlineExceeded
}

// isLarge reports whether prefix was more than half a message when it was last read, and
// so may be more than one now, or nobody knows since that took too long: etcd need
// not put together what is refused then.
func (s *Store) isLarge(prefix string) bool {
	_, large := s.large.Load(prefix)
	return large
}

func (s *Store) noteLarge(prefix string, large bool) {
	if large {
		s.large.Store(prefix, struct{}{})
		return
	}
	s.large.Delete(prefix)
}

// cutValue returns what is handed over of a value; the rest is free.
func cutValue(v []byte) []byte {
	if len(v) <= lease.MaxValue {
		return v
	}
	return append([]byte(nil), v[:lease.MaxValue+1]...)
}

// pair converts what etcd sends.
func (s *Store) pair(kv *mvccpb.KeyValue) lease.Pair {
	return lease.Pair{
		Key:      s.keyOf(kv.Key),
		Value:    cutValue(kv.Value),
		Created:  kv.CreateRevision,
		Revision: kv.ModRevision,
		Grant:    lease.GrantID(kv.Lease),
	}
}
