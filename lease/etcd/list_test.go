// SPDX-License-Identifier: Apache-2.0

//go:build unix

package etcd

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"vxtap/lease"
	"vxtap/lease/leasetest"
)

const megabyte = 1 << 20

// junk puts n values of that many bytes under prefix.
func junk(t *testing.T, s *Store, prefix string, n, bytes int) {
	t.Helper()
	value := strings.Repeat("x", bytes)
	for i := range n {
		if _, err := client(t, s).Put(t.Context(), fmt.Sprintf("%s%s%05d", s.base, prefix, i), value); err != nil {
			t.Fatal(err)
		}
	}
}

// startLarge starts an etcd that takes values of 32 MB.
func startLarge(t *testing.T) Config {
	t.Helper()
	srv := startServer(t, "http", "--max-request-bytes=33554432")
	return Config{Endpoints: []string{srv.url("http")}, Prefix: "/net"}
}

// putLarge puts one value that the Store's own client would not send.
func putLarge(t *testing.T, c Config, key string, bytes int) {
	t.Helper()
	large, err := clientv3.New(clientv3.Config{Endpoints: c.Endpoints, MaxCallSendMsgSize: 64 * megabyte})
	if err != nil {
		t.Fatal(err)
	}
	defer large.Close()
	if _, err := large.Put(t.Context(), c.Prefix+"/"+key, strings.Repeat("x", bytes)); err != nil {
		t.Fatal(err)
	}
}

// What is more than one message comes whole, in order and once, at one revision,
// whatever its sizes: many small keys, few large ones, and one that no message takes.
func TestListInPages(t *testing.T) {
	c := startLarge(t)
	s := openStore(t, c)
	fill(t, s, 1000)
	junk(t, s, "subnets/a-", 30, megabyte)
	junk(t, s, "subnets/b-", 3000, 1000)
	putLarge(t, c, "subnets/a-00010x", 20*megabyte)
	putLarge(t, c, "subnets/zz", 9*megabyte)
	for _, when := range []string{"first", "again"} { // it is known then that it is a lot
		var last string
		n, cut := 0, 0
		revision, err := s.List(t.Context(), "subnets", func(p lease.Pair) {
			if p.Key <= last {
				t.Fatalf("%s: %s comes after %s", when, p.Key, last)
			}
			last = p.Key
			n++
			if len(p.Value) > lease.MaxValue {
				cut++
			}
			if len(p.Value) > lease.MaxValue+1 || p.Created == 0 || p.Revision == 0 {
				t.Fatalf("%s: %s has %d bytes, created %d, revision %d", when, p.Key, len(p.Value), p.Created, p.Revision)
			}
		})
		if err != nil || n != 1000+30+3000+2 || cut != 32 {
			t.Fatalf("%s: got %d keys, of them %d cut, %v", when, n, cut, err)
		}
		if r := s.begin("subnets", nil); r.limit != firstPage {
			t.Errorf("%s: the next read begins with %d keys, though this was a lot", when, r.limit)
		}
		if resp, err := client(t, s).Get(t.Context(), "x"); err != nil || resp.Header.Revision != revision {
			t.Errorf("%s: got revision %d, etcd is at %d, %v", when, revision, resp.Header.Revision, err)
		}
	}
}

// Between two pages somebody writes and somebody compacts: what is read is what
// stood at the revision of the first, or the read is begun again.
func TestListInPagesWhileThingsChange(t *testing.T) {
	srv := startServer(t, "http")
	c := Config{Endpoints: []string{srv.url("http")}, Prefix: "/net"}
	s := openStore(t, c)
	junk(t, s, "subnets/a-", 20, megabyte)
	fill(t, s, 100)
	moved := false
	var keys []string
	revision, err := s.List(t.Context(), "subnets", func(p lease.Pair) {
		if keys = append(keys, p.Key); len(keys) == 2 && !moved {
			moved = true
			if _, err := client(t, s).Put(t.Context(), "/net/subnets/zz", "late"); err != nil {
				t.Fatal(err)
			}
			if _, err := client(t, s).Delete(t.Context(), "/net/subnets/a-00019"); err != nil {
				t.Fatal(err)
			}
		}
	})
	if err != nil || len(keys) != 120 || keys[119] != "subnets/a-00019" {
		t.Fatalf("got %d keys at %d, the last %s, %v", len(keys), revision, keys[len(keys)-1], err)
	}
	// The watch from the next revision on has what the pages have not.
	seen := 0
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	_ = s.Watch(ctx, "subnets", revision+1, func(b lease.Batch) {
		if seen += len(b.Events); seen == 2 {
			cancel()
		}
	})
	if seen != 2 {
		t.Errorf("the watch from %d on has %d changes, want 2", revision+1, seen)
	}

	compacted, read := false, s.relief.bytes
	_, err = s.List(t.Context(), "subnets", func(lease.Pair) {
		if compacted {
			return
		}
		compacted = true
		resp, err := client(t, s).Put(t.Context(), "/net/subnets/zz", "later")
		if err == nil {
			_, err = client(t, s).Compact(t.Context(), resp.Header.Revision)
		}
		if err != nil {
			t.Fatal(err)
		}
	})
	if !errors.Is(err, lease.ErrCompacted) {
		t.Errorf("got %v for pages at a revision that was compacted", err)
	}
	if s.relief.bytes == read {
		t.Error("what was read in vain is not counted as memory to be given back")
	}
}

// On a slow line the small pages are answered in time, and must not take the time away
// that a large one needs: else no read would ever come to its end.
func TestAPageInVainGetsMoreTime(t *testing.T) {
	t.Parallel()
	srv := startServer(t, "http")
	s := openStore(t, Config{Endpoints: []string{srv.url("http")}, Prefix: "/net"})
	junk(t, s, "subnets/a-", 10, megabyte)
	for want := range int32(3) {
		if n := s.listsInVain.Load(); n != want {
			t.Errorf("after %d reads in vain the next one has the time of %d", want, n)
		}
		if want == 2 {
			break
		}
		_, err := s.List(t.Context(), "subnets", func(p lease.Pair) {
			if p.Key == "subnets/a-00000" { // of the first page, of more than one
				srv.stop(t)
			}
		})
		srv.cont(t)
		if err == nil {
			t.Fatal("everything was read from a server that stands still")
		}
	}
	if _, err := s.List(t.Context(), "subnets", func(lease.Pair) {}); err != nil {
		t.Fatal(err)
	}
	if n := s.listsInVain.Load(); n != 0 {
		t.Errorf("after a whole read the next one has the time of %d in vain", n)
	}
}

// Ten thousand leases are one read, and no flood.
func TestListReadsOnce(t *testing.T) {
	srv := startServer(t, "http")
	s := openStore(t, Config{Endpoints: []string{srv.url("http")}, Prefix: "/net"})
	fill(t, s, 10000)
	r := s.begin("subnets", func(lease.Pair) {})
	resp, err := r.page(t.Context())
	if err != nil || len(resp.Kvs) != 10000 || resp.More {
		t.Fatalf("got %v", err)
	}
	if more := r.took(resp); more || s.isLarge("subnets") {
		t.Errorf("there is another page: %v, it is a lot: %v", more, s.isLarge("subnets"))
	}
}

// A watch that is sent more than a message may have ends, so that its owner reads
// everything anew, in pages; the one from there on is a watch as any other.
func TestWatchThatIsSentTooMuch(t *testing.T) {
	c := startLarge(t)
	s := openStore(t, c)
	l, err := leasetest.List(t.Context(), s, "subnets")
	if err != nil {
		t.Fatal(err)
	}
	putLarge(t, c, "subnets/large", 9*megabyte)
	if err := s.Watch(t.Context(), "subnets", l.Revision+1, func(lease.Batch) {}); err == nil || errors.Is(err, lease.ErrRefused) {
		t.Fatalf("got %v for a message of 9 MB", err)
	}
	r := lease.New(openStore(t, c), lease.Options{})
	w := leasetest.Watch(t, r)
	w.Until(t, "the large one", func(s lease.Snapshot) bool { return len(s.Rejected) == 1 && s.Rejected[0].Key == "subnets/large" })
	putLarge(t, c, "subnets/larger", 10*megabyte)
	w.Until(t, "the larger one", func(s lease.Snapshot) bool { return len(s.Rejected) == 2 })
	leasetest.Put(t, s, "subnets/10.5.1.0-24", leasetest.Value(t, 1), 0)
	w.Until(t, "a host that comes after them", func(s lease.Snapshot) bool { return len(s.Leases) == 1 })
}

// A key of a megabyte is told by its head and found by its tail, and two that differ
// in the middle are two.
func TestLongKeys(t *testing.T) {
	srv := startServer(t, "http")
	s := openStore(t, Config{Endpoints: []string{srv.url("http")}, Prefix: "/net"})
	middle := strings.Repeat("y", megabyte)
	for _, m := range []string{middle, middle[1:] + "z", middle[2:] + "z"} {
		if _, err := client(t, s).Put(t.Context(), "/net/subnets/head"+m+"x10.5.7.0-24", "v"); err != nil {
			t.Fatal(err)
		}
	}
	l, err := leasetest.List(t.Context(), s, "subnets")
	if err != nil || len(l.Pairs) != 3 {
		t.Fatalf("got %d keys, %v", len(l.Pairs), err)
	}
	seen := map[string]bool{}
	for _, p := range l.Pairs {
		seen[p.Key] = true
		if len(p.Key) > maxKey || !strings.HasPrefix(p.Key, "subnets/head") || !strings.HasSuffix(p.Key, "x10.5.7.0-24") {
			t.Errorf("got a key of %d bytes: %.20s", len(p.Key), p.Key)
		}
	}
	if len(seen) != 3 {
		t.Errorf("got %d keys that differ, want 3", len(seen))
	}
}

// Who reads much is told when it is over, once for all of it.
func TestRelief(t *testing.T) {
	srv := startServer(t, "http")
	var called atomic.Int32
	told := make(chan struct{}, 10)
	s := openStore(t, Config{Endpoints: []string{srv.url("http")}, Prefix: "/net", Relieve: func() {
		called.Add(1)
		told <- struct{}{}
	}})
	fill(t, s, 1000)
	if _, err := leasetest.List(t.Context(), s, "subnets"); err != nil {
		t.Fatal(err)
	}
	s.relief.mu.Lock()
	if s.relief.pending != nil {
		t.Error("a thousand leases are nothing to speak of")
	}
	s.relief.mu.Unlock()
	junk(t, s, "subnets/a-", 10, megabyte)
	for range 3 {
		if _, err := leasetest.List(t.Context(), s, "subnets"); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case <-told:
	case <-time.After(10 * time.Second):
		t.Fatal("nobody was told")
	}
	if n := called.Load(); n != 1 {
		t.Errorf("told %d times, want once", n)
	}
}

// What takes etcd too long to put together is asked for in pages from then on, and no
// more when it turns out to be little.
func TestListInPagesAfterOneInVain(t *testing.T) {
	t.Parallel()
	srv := startServer(t, "http")
	s := openStore(t, Config{Endpoints: []string{srv.url("http")}, Prefix: "/net"})
	fill(t, s, 1000)
	if _, err := leasetest.List(t.Context(), s, "subnets"); err != nil || s.isLarge("subnets") {
		t.Fatalf("1000 leases are a lot, %v", err)
	}
	srv.stop(t)
	defer srv.cont(t)
	if _, err := leasetest.List(t.Context(), s, "subnets"); err == nil || !s.isLarge("subnets") {
		t.Errorf("got %v, and the next read is in pages: %v", err, s.isLarge("subnets"))
	}
	srv.cont(t)
	l, err := leasetest.List(t.Context(), s, "subnets")
	if err != nil || len(l.Pairs) != 1000 || s.isLarge("subnets") {
		t.Errorf("got %d leases, %v; the one after it is in pages: %v", len(l.Pairs), err, s.isLarge("subnets"))
	}
}

// What is too large for one watch does not end another one.
func TestWatchBesideOneThatIsSentTooMuch(t *testing.T) {
	c := startLarge(t)
	s := openStore(t, c)
	at, err := s.Put(t.Context(), "config", []byte("{}"), 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	begun, changed, ended := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		first := true
		ended <- s.Watch(ctx, "config", at+1, func(b lease.Batch) {
			if first {
				first = false
				close(begun)
			}
			if len(b.Events) > 0 {
				close(changed)
			}
		})
	}()
	<-begun
	putLarge(t, c, "subnets/large", 9*megabyte)
	if err := s.Watch(t.Context(), "subnets", at+1, func(lease.Batch) {}); err == nil {
		t.Error("got no error for a message of 9 MB")
	}
	if _, err := s.Put(t.Context(), "config", []byte("{ }"), at, 0); err != nil {
		t.Fatal(err)
	}
	select {
	case <-changed:
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("the watch of the config ended: %v", err)
		}
	case err := <-ended:
		cancel()
		t.Errorf("the watch of the config ended: %v", err)
	}
}
