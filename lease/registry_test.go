// SPDX-License-Identifier: Apache-2.0

package lease_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"vxtap/lease"
	"vxtap/lease/leasetest"
)

// bubble runs body with an empty store and a clock that jumps.
func bubble(t *testing.T, body func(t *testing.T, s *leasetest.Store)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := leasetest.New()
		t.Cleanup(s.Close)
		body(t, s)
	})
}

// pass lets time go by, to the end of everything that happens in it.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// said is a text that may be read while somebody writes on.
type said struct {
	mu sync.Mutex
	b  strings.Builder
}

func (s *said) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// logTo returns a logger and what it has written.
func logTo() (*slog.Logger, *said) {
	b := new(said)
	return slog.New(slog.NewTextHandler(b, nil)), b
}

func TestConfigSaysWhatItWaitsFor(t *testing.T) {
	bubble(t, func(t *testing.T, s *leasetest.Store) {
		log, said := logTo()
		r := lease.New(s, lease.Options{Log: log})
		done := make(chan error, 1)
		s.Disconnect() // before anything can be read: a missing config has its own line
		go func() {
			_, err := r.Config(t.Context())
			done <- err
		}()
		pass(65 * time.Second)
		if n := strings.Count(said.String(), "waiting for etcd"); n != 3 {
			t.Errorf("got %d lines in 65 s without etcd, want 3: %s", n, said)
		}
		s.Connect()
		pass(65 * time.Second)
		if n := strings.Count(said.String(), "waiting for the network config"); n != 3 || !strings.Contains(said.String(), "key=/test/config") {
			t.Errorf("got %d lines in 65 s without config, want 3 that name the key: %s", n, said)
		}
		s.Force("config", leasetest.Config, 0)
		pass(2 * time.Second)
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestConfigEndsAtOnce(t *testing.T) {
	refused := fmt.Errorf("certificate: %w", lease.ErrRefused)
	for _, tt := range []struct {
		name    string
		prepare func(*leasetest.Store, context.CancelFunc)
		want    error // nil: any
	}{
		{"a config that does not parse", func(s *leasetest.Store, _ context.CancelFunc) { s.Force("config", "{", 0) }, nil},
		{"a store that refuses us", func(s *leasetest.Store, _ context.CancelFunc) {
			s.Hook(func(leasetest.Call) error { return refused })
		}, lease.ErrRefused},
		{"a context that has ended", func(_ *leasetest.Store, cancel context.CancelFunc) { cancel() }, context.Canceled},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, s *leasetest.Store) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				tt.prepare(s, cancel)
				start := time.Now()
				_, err := lease.New(s, lease.Options{}).Config(ctx)
				if err == nil || (tt.want != nil && !errors.Is(err, tt.want)) || time.Since(start) != 0 {
					t.Errorf("got %v after %v, want an error at once", err, time.Since(start))
				}
			})
		})
	}
}

func TestStatus(t *testing.T) {
	bubble(t, func(t *testing.T, s *leasetest.Store) {
		r := lease.New(s, lease.Options{TTL: time.Hour})
		if got := r.Status(); got != (lease.Status{}) {
			t.Errorf("got %+v before anything happened", got)
		}
		leasetest.Watch(t, r)
		l := leasetest.Acquire(t, r, 1)
		leasetest.Keep(t, r, l)
		pass(time.Second)
		if got := r.Status(); !got.Connected || got.LastError != "" || got.LastContact.IsZero() || time.Until(got.LeaseExpires) < 59*time.Minute {
			t.Errorf("got %+v with everything well", got)
		}
		s.Disconnect()
		pass(10 * time.Minute)
		got := r.Status()
		if got.Connected || got.LastError == "" || time.Since(got.LastContact) < 9*time.Minute {
			t.Errorf("got %+v with the store gone", got)
		}
		s.Connect()
		pass(5 * time.Second)
		if got := r.Status(); !got.Connected || got.LastError == "" || time.Since(got.LastContact) > 5*time.Second {
			t.Errorf("got %+v with the store back", got)
		}
	})
}

func TestOwn(t *testing.T) {
	bubble(t, func(t *testing.T, s *leasetest.Store) {
		r := lease.New(s, lease.Options{})
		s.Force("subnets/10.5.1.0-24", `{"PublicIP":"192.168.0.1","BackendType":"host-gw"}`, 0)
		s.Force("subnets/10.5.2.0-24", `{"PublicIP":"192.168.0.1","BackendType":"vxlan","BackendData":7}`, 0)
		s.Force("subnets/x", leasetest.Value(t, 1), 0)
		s.Force("subnets/10.5.3.0-24", leasetest.Value(t, 2), 0)
		if l, ok, err := r.Own(t.Context(), leasetest.Host(1).PublicIP); ok || err != nil {
			t.Errorf("got %+v, %v, want none with a MAC", l, err)
		}
		s.Force("subnets/10.5.4.0-24", leasetest.Value(t, 1), 0)
		l, ok, err := r.Own(t.Context(), leasetest.Host(1).PublicIP)
		if !ok || err != nil || l.Subnet != netip.MustParsePrefix("10.5.4.0/24") || l.Attrs.MAC != leasetest.Host(1).MAC {
			t.Errorf("got %+v, %v, %v", l, ok, err)
		}
	})
}

// A store whose history is compacted again and again while it is read is asked again:
// that is no answer.
func TestReadThatIsCompactedAgainAndAgain(t *testing.T) {
	bubble(t, func(t *testing.T, s *leasetest.Store) {
		leasetest.Put(t, s, "subnets/10.5.1.0-24", leasetest.Value(t, 1), 0)
		left := 12
		s.Hook(func(c leasetest.Call) error {
			if c.Op == "List" && !c.Done && left > 0 {
				left--
				return lease.ErrCompacted
			}
			return nil
		})
		own, held, err := lease.New(s, lease.Options{}).Own(t.Context(), leasetest.Host(1).PublicIP)
		if err != nil || !held || own.Key != "subnets/10.5.1.0-24" {
			t.Errorf("got %v, %v, %v", own, held, err)
		}
	})
}
