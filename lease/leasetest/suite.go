// SPDX-License-Identifier: Apache-2.0

package leasetest

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"vxtap/encap/ether"
	"vxtap/lease"
)

// Fixture is an empty store and what can befall it.
type Fixture struct {
	Store      lease.Store
	Compact    func(t *testing.T) // all history is forgotten
	Disconnect func(t *testing.T) // the store is gone for everybody
	Connect    func(t *testing.T) // and back, with all it had
}

// Case is a test that every store must pass.
type Case struct {
	Name string
	Body func(t *testing.T, f Fixture)
}

// Cases returns all cases. Each wants a Fixture of its own. In a synctest
// bubble they take no time; with a real etcd each takes a few seconds at most.
func Cases() []Case { return slices.Concat(storeCases(), registryCases(), operatorCases()) }

// patience is how long a case waits for what must happen.
const patience = 30 * time.Second

// Config is the network that the cases lease from.
const Config = `{"Network": "10.5.0.0/16", "Backend": {"Type": "vxlan"}}`

// Network returns Config, parsed.
func Network(t testing.TB) lease.Config {
	t.Helper()
	c, err := lease.ParseConfig([]byte(Config))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Host returns the request of the n-th host.
func Host(n int) lease.Request {
	return lease.Request{
		PublicIP: netip.AddrFrom4([4]byte{192, 168, byte(n >> 8), byte(n)}),
		MAC:      ether.MAC{2, 0, 0, 0, byte(n >> 8), byte(n)},
	}
}

// Value returns the lease value of the n-th host as flannel writes it.
func Value(t testing.TB, n int) string {
	t.Helper()
	q := Host(n)
	b, err := json.Marshal(lease.Attrs{PublicIP: q.PublicIP, BackendType: "vxlan", VNI: 1, MAC: q.MAC})
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// Get returns key from s.
func Get(t testing.TB, s lease.Store, key string) (lease.Pair, bool) {
	t.Helper()
	l, err := List(t.Context(), s, key)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range l.Pairs {
		if p.Key == key {
			return p, true
		}
	}
	return lease.Pair{}, false
}

// Put writes key whatever is there, as a stranger with etcdctl does.
func Put(t testing.TB, s lease.Store, key, value string, grant lease.GrantID) lease.Pair {
	t.Helper()
	old, _ := Get(t, s, key)
	if _, err := s.Put(t.Context(), key, []byte(value), old.Revision, grant); err != nil {
		t.Fatal(err)
	}
	p, _ := Get(t, s, key)
	return p
}

// Delete deletes key, which must be there.
func Delete(t testing.TB, s lease.Store, key string) {
	t.Helper()
	p, ok := Get(t, s, key)
	if !ok {
		t.Fatalf("%s is not there", key)
	}
	if err := s.Delete(t.Context(), key, p.Revision); err != nil {
		t.Fatal(err)
	}
}

// Watcher is a running Registry.Watch and what it published last.
type Watcher struct {
	mu        sync.Mutex
	last      lease.Snapshot
	published int
	changed   chan struct{}
}

// Watch runs r.Watch until the test ends.
func Watch(t testing.TB, r *lease.Registry) *Watcher {
	t.Helper()
	w := &Watcher{changed: make(chan struct{}, 1)}
	run(t, func(ctx context.Context) error { return r.Watch(ctx, w.publish) })
	return w
}

func (w *Watcher) publish(s lease.Snapshot) {
	w.mu.Lock()
	w.last = s
	w.published++
	w.mu.Unlock()
	select {
	case w.changed <- struct{}{}:
	default:
	}
}

// Last returns the last snapshot and how many there were.
func (w *Watcher) Last() (lease.Snapshot, int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.last, w.published
}

// Until waits for a snapshot as ok wants it and returns it. One goroutine at a
// time may wait.
func (w *Watcher) Until(t testing.TB, what string, ok func(lease.Snapshot) bool) lease.Snapshot {
	t.Helper()
	late := time.NewTimer(patience)
	defer late.Stop()
	for {
		s, n := w.Last()
		if n > 0 && ok(s) {
			return s
		}
		select {
		case <-w.changed:
		case <-late.C:
			t.Fatalf("after %v there is no snapshot with %s; the last is %+v", patience, what, s)
		}
	}
}

// Keep runs r.Keep until the test ends, and returns what it will return.
func Keep(t testing.TB, r *lease.Registry, l lease.Lease) <-chan error {
	t.Helper()
	return run(t, func(ctx context.Context) error { return r.Keep(ctx, l) })
}

// run runs f until the test ends and delivers its error.
func run(t testing.TB, f func(context.Context) error) <-chan error {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	out := make(chan error, 1)
	var wg sync.WaitGroup
	wg.Go(func() { out <- f(ctx) })
	t.Cleanup(func() { cancel(); wg.Wait() })
	return out
}

// Wait returns what comes out of c.
func Wait(t testing.TB, what string, c <-chan error) error {
	t.Helper()
	late := time.NewTimer(patience)
	defer late.Stop()
	select {
	case err := <-c:
		return err
	case <-late.C:
		t.Fatalf("after %v still waiting for %s", patience, what)
		return nil
	}
}

// Acquire gets a lease for the n-th host.
func Acquire(t testing.TB, r *lease.Registry, n int) lease.Lease {
	t.Helper()
	l, err := r.Acquire(t.Context(), Network(t), Host(n))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// has reports whether s has a lease of the n-th host.
func has(n int) func(lease.Snapshot) bool {
	return func(s lease.Snapshot) bool {
		return slices.ContainsFunc(s.Leases, func(l lease.Lease) bool { return l.Attrs.PublicIP == Host(n).PublicIP })
	}
}

func hasNot(n int) func(lease.Snapshot) bool {
	return func(s lease.Snapshot) bool { return !has(n)(s) }
}

func name(n int) string { return fmt.Sprintf("host %d", n) }
