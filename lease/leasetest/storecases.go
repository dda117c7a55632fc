// SPDX-License-Identifier: Apache-2.0

package leasetest

import (
	"context"
	"errors"
	"testing"
	"time"

	"vxtap/lease"
)

func storeCases() []Case {
	return []Case{
		{"a key is created once", createdOnce},
		{"a write at a stale revision changes nothing", staleWrite},
		{"a delete at a stale revision changes nothing", staleDelete},
		{"a key is moved at once or not at all", moved},
		{"a listing is in order and of one revision", listing},
		{"a watch tells everything from its revision on", watchReplays},
		{"a watch from before a compaction says so", watchCompacted},
		{"a watch ends with its context", watchEnds},
		{"a watch ends when the store goes away", watchHangsUp},
		{"a key goes with its grant", grantEnds},
		{"a grant that is kept alive lives", grantLives},
		{"a revoked grant takes its keys along", grantRevoked},
		{"a key put without a grant outlives the old one", grantDetached},
	}
}

func createdOnce(t *testing.T, f Fixture) {
	rev, err := f.Store.Put(t.Context(), "a", []byte("1"), 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Store.Put(t.Context(), "a", []byte("2"), 0, 0); !errors.Is(err, lease.ErrConflict) {
		t.Errorf("got %v, want ErrConflict", err)
	}
	p, ok := Get(t, f.Store, "a")
	if !ok || string(p.Value) != "1" || p.Created != rev || p.Revision != rev || p.Grant != 0 {
		t.Errorf("got %+v, want value 1 at revision %d", p, rev)
	}
}

func staleWrite(t *testing.T, f Fixture) {
	first := Put(t, f.Store, "a", "1", 0)
	second := Put(t, f.Store, "a", "2", 0)
	if second.Created != first.Created || second.Revision <= first.Revision {
		t.Errorf("got created %d, revision %d after %+v", second.Created, second.Revision, first)
	}
	for _, rev := range []int64{first.Revision, second.Revision + 100, 0} {
		if _, err := f.Store.Put(t.Context(), "a", []byte("3"), rev, 0); !errors.Is(err, lease.ErrConflict) {
			t.Errorf("at revision %d: got %v, want ErrConflict", rev, err)
		}
	}
	if p, _ := Get(t, f.Store, "a"); string(p.Value) != "2" {
		t.Errorf("got value %s, want 2", p.Value)
	}
}

func staleDelete(t *testing.T, f Fixture) {
	first := Put(t, f.Store, "a", "1", 0)
	second := Put(t, f.Store, "a", "2", 0)
	if err := f.Store.Delete(t.Context(), "a", first.Revision); !errors.Is(err, lease.ErrConflict) {
		t.Errorf("got %v, want ErrConflict", err)
	}
	if err := f.Store.Delete(t.Context(), "a", second.Revision); err != nil {
		t.Error(err)
	}
	if err := f.Store.Delete(t.Context(), "a", second.Revision); !errors.Is(err, lease.ErrConflict) {
		t.Errorf("second time: got %v, want ErrConflict", err)
	}
}

func moved(t *testing.T, f Fixture) {
	old := Put(t, f.Store, "subnets/a", "1", 0)
	other := Put(t, f.Store, "subnets/b", "2", 0)
	grant, _, err := f.Store.Grant(t.Context(), shortest)
	if err != nil {
		t.Fatal(err)
	}
	good := lease.Exchange{From: old.Key, Revision: old.Revision, To: "subnets/c", Value: []byte("3"), Grant: grant, Beside: "subnets", Since: other.Created}
	for _, tt := range []struct {
		name string
		harm func(*lease.Exchange)
	}{
		{"at a stale revision", func(x *lease.Exchange) { x.Revision-- }},
		{"on a key that is there", func(x *lease.Exchange) { x.To = other.Key }},
		{"from a key that is not there", func(x *lease.Exchange) { x.Revision = 0 }},
		{"beside a key that is younger", func(x *lease.Exchange) { x.Since = old.Created }},
	} {
		x := good
		tt.harm(&x)
		if _, err := f.Store.Move(t.Context(), x); !errors.Is(err, lease.ErrConflict) {
			t.Errorf("%s: got %v, want ErrConflict", tt.name, err)
		}
	}
	if p, _ := Get(t, f.Store, old.Key); p.Revision != old.Revision {
		t.Errorf("got %+v, want nothing done to %+v", p, old)
	}
	Put(t, f.Store, other.Key, "4", 0) // is as old as it was
	rev, err := f.Store.Move(t.Context(), good)
	if err != nil {
		t.Fatal(err)
	}
	p, _ := Get(t, f.Store, "subnets/c")
	if _, there := Get(t, f.Store, old.Key); there || string(p.Value) != "3" || p.Revision != rev || p.Created != rev || p.Grant != grant {
		t.Errorf("got %+v, and the old key there: %v, want it moved at revision %d", p, there, rev)
	}
	got := collect(t, f.Store, other.Revision+1, 3)
	if len(got) != 3 || !got[1].Deleted || got[1].Key != old.Key || got[2].Key != "subnets/c" || got[1].Revision != rev || got[2].Revision != rev {
		t.Errorf("got %+v, want both changes at revision %d, the deletion first", got, rev)
	}
}

func listing(t *testing.T, f Fixture) {
	for _, k := range []string{"subnets/b", "config", "subnets/a", "subnets-x", "subnet"} {
		Put(t, f.Store, k, k, 0)
	}
	last := Put(t, f.Store, "subnets/c", "c", 0)
	l, err := List(t.Context(), f.Store, "subnets")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, p := range l.Pairs {
		got = append(got, p.Key)
	}
	want := []string{"subnets-x", "subnets/a", "subnets/b", "subnets/c"}
	if len(got) != len(want) {
		t.Fatalf("got %q, want %q", got, want)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if l.Revision != last.Revision {
		t.Errorf("got revision %d, want %d", l.Revision, last.Revision)
	}
}

// collect watches from a revision until n events have come.
func collect(t *testing.T, s lease.Store, from int64, n int) []lease.Event {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var got []lease.Event
	last := from - 1
	err := s.Watch(ctx, "subnets", from, func(b lease.Batch) {
		got = append(got, b.Events...)
		for _, ev := range b.Events {
			if ev.Revision <= last && ev.Revision < b.Revision {
				t.Errorf("event at revision %d after %d", ev.Revision, last)
			}
			last = ev.Revision
		}
		if b.Revision < last {
			t.Errorf("got revision %d after an event at %d", b.Revision, last)
		}
		if len(got) >= n {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) || len(got) != n {
		t.Fatalf("got %d events and %v, want %d", len(got), err, n)
	}
	return got
}

func watchReplays(t *testing.T, f Fixture) {
	first := Put(t, f.Store, "subnets/a", "1", 0)
	Put(t, f.Store, "config", "no business of this watch", 0)
	Put(t, f.Store, "subnets/a", "2", 0)
	Delete(t, f.Store, "subnets/a")
	Put(t, f.Store, "subnets/b", "3", 0)
	got := collect(t, f.Store, first.Revision+1, 3)
	if string(got[0].Value) != "2" || got[0].Deleted || got[0].Created != first.Revision {
		t.Errorf("got %+v, want the second write", got[0])
	}
	if !got[1].Deleted || got[1].Key != "subnets/a" || len(got[1].Value) != 0 || got[1].Revision <= got[0].Revision {
		t.Errorf("got %+v, want a delete with the key alone", got[1])
	}
	if got[2].Key != "subnets/b" || string(got[2].Value) != "3" {
		t.Errorf("got %+v, want the third write", got[2])
	}
}

func watchCompacted(t *testing.T, f Fixture) {
	first := Put(t, f.Store, "subnets/a", "1", 0)
	Put(t, f.Store, "subnets/a", "2", 0)
	Put(t, f.Store, "subnets/a", "3", 0)
	f.Compact(t)
	err := f.Store.Watch(t.Context(), "subnets", first.Revision, func(lease.Batch) {})
	if !errors.Is(err, lease.ErrCompacted) {
		t.Errorf("got %v, want ErrCompacted", err)
	}
}

func watchEnds(t *testing.T, f Fixture) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	p := Put(t, f.Store, "subnets/a", "1", 0)
	out := run(t, func(context.Context) error {
		return f.Store.Watch(ctx, "subnets", p.Revision+1, func(lease.Batch) { cancel() })
	})
	if err := Wait(t, "the watch to end", out); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
}

func watchHangsUp(t *testing.T, f Fixture) {
	p := Put(t, f.Store, "subnets/a", "1", 0)
	begun := make(chan error, 1)
	out := run(t, func(ctx context.Context) error {
		return f.Store.Watch(ctx, "subnets", p.Revision+1, func(lease.Batch) {
			select {
			case begun <- nil:
			default:
			}
		})
	})
	_ = Wait(t, "the watch to begin", begun)
	f.Disconnect(t)
	if err := Wait(t, "the watch to end", out); err == nil {
		t.Error("got no error from a watch that lost its store")
	}
	short, cancel := context.WithTimeout(t.Context(), shortest)
	defer cancel()
	if _, err := List(short, f.Store, "subnets"); err == nil {
		t.Error("got a listing from a store that is gone")
	}
	f.Connect(t)
	if got, ok := Get(t, f.Store, "subnets/a"); !ok || got.Revision != p.Revision {
		t.Errorf("got %+v after the store came back, want %+v", got, p)
	}
}

// shortest is the least time to live that etcd grants with a heartbeat as the
// tests set it.
const shortest = time.Second

func grantEnds(t *testing.T, f Fixture) {
	id, ttl, err := f.Store.Grant(t.Context(), shortest)
	if err != nil || ttl < shortest || id == 0 {
		t.Fatalf("got grant %d of %v, %v", id, ttl, err)
	}
	p := Put(t, f.Store, "subnets/a", "1", id)
	if p.Grant != id {
		t.Errorf("got grant %d on the key, want %d", p.Grant, id)
	}
	if got := collect(t, f.Store, p.Revision+1, 1); !got[0].Deleted {
		t.Errorf("got %+v, want a delete", got[0])
	}
	if _, err := f.Store.KeepAlive(t.Context(), id); !errors.Is(err, lease.ErrNoGrant) {
		t.Errorf("keep alive: got %v, want ErrNoGrant", err)
	}
	if _, err := f.Store.Put(t.Context(), "subnets/a", nil, 0, id); !errors.Is(err, lease.ErrNoGrant) {
		t.Errorf("put: got %v, want ErrNoGrant", err)
	}
	if _, ok := Get(t, f.Store, "subnets/a"); ok {
		t.Error("the key is back")
	}
}

func grantLives(t *testing.T, f Fixture) {
	id, ttl, err := f.Store.Grant(t.Context(), 2*shortest)
	if err != nil {
		t.Fatal(err)
	}
	Put(t, f.Store, "subnets/a", "1", id)
	each := time.NewTicker(ttl / 4)
	defer each.Stop()
	for range 8 {
		<-each.C
		if got, err := f.Store.KeepAlive(t.Context(), id); err != nil || got != ttl {
			t.Fatalf("got %v, %v, want %v", got, err, ttl)
		}
	}
	if _, ok := Get(t, f.Store, "subnets/a"); !ok {
		t.Error("the key is gone")
	}
	if left, err := f.Store.Left(t.Context(), id); err != nil || left > ttl || left < ttl/2 {
		t.Errorf("got %v, %v left, want nearly %v", left, err, ttl)
	}
	if _, err := f.Store.Left(t.Context(), id+1); !errors.Is(err, lease.ErrNoGrant) {
		t.Errorf("got %v for a grant that never was, want ErrNoGrant", err)
	}
}

func grantRevoked(t *testing.T, f Fixture) {
	id, _, err := f.Store.Grant(t.Context(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	Put(t, f.Store, "subnets/a", "1", id)
	for range 2 {
		if err := f.Store.Revoke(t.Context(), id); err != nil {
			t.Error(err)
		}
	}
	if _, ok := Get(t, f.Store, "subnets/a"); ok {
		t.Error("the key is still there")
	}
}

func grantDetached(t *testing.T, f Fixture) {
	id, _, err := f.Store.Grant(t.Context(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	Put(t, f.Store, "subnets/a", "1", id)
	if p := Put(t, f.Store, "subnets/a", "2", 0); p.Grant != 0 {
		t.Errorf("got grant %d, want none", p.Grant)
	}
	if err := f.Store.Revoke(t.Context(), id); err != nil {
		t.Error(err)
	}
	if _, ok := Get(t, f.Store, "subnets/a"); !ok {
		t.Error("the key is gone")
	}
}
