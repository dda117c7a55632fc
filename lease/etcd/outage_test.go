// SPDX-License-Identifier: Apache-2.0

//go:build unix

package etcd

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"vxtap/lease"
	"vxtap/lease/leasetest"
	"vxtap/test/ports"
	"vxtap/test/stall"
)

// lockedWriter is a strings.Builder that several goroutines may write to.
type lockedWriter struct {
	mu sync.Mutex
	b  *strings.Builder
}

func (w *lockedWriter) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.Write(b)
}

func TestEndpointFaults(t *testing.T) {
	const redis = "redis://127.0.0.1:1"
	for _, tt := range []struct {
		name string
		c    Config
		want string
	}{
		{"no endpoint", Config{}, "there is no endpoint"},
		{"blank endpoints", Config{Endpoints: []string{"", " "}}, "there is no endpoint"},
		{"another scheme", Config{Endpoints: []string{redis}}, `"redis://127.0.0.1:1" starts with neither`},
		{"a path", Config{Endpoints: []string{"http://127.0.0.1:1/v3"}}, "is no URL such as"},
		{"no host", Config{Endpoints: []string{"http://:2379"}}, "is no URL such as"},
		{"a port that is none", Config{Endpoints: []string{"http://127.0.0.1:x"}}, "is no URL such as"},
		{"with and without TLS", Config{Endpoints: []string{"http://127.0.0.1:1", "https://127.0.0.1:2"}}, "use https for all"},
		{"a password in the endpoint", Config{Endpoints: []string{"http://root:" + secret + "@127.0.0.1:1"}}, "give those by themselves"},
		{"user without password", Config{Endpoints: []string{"http://127.0.0.1:1"}, Username: "root"}, "give both or neither"},
		{"password without user", Config{Endpoints: []string{"http://127.0.0.1:1"}, Password: secret}, "give both or neither"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, err := Open(t.Context(), tt.c, nil)
			if err == nil {
				s.Close()
				t.Fatal("got no error")
			}
			if !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), secret) {
				t.Errorf("got %v, want an error that says %q and no secret", err, tt.want)
			}
		})
	}
}

func TestEndpointDefaults(t *testing.T) {
	for _, tt := range []struct {
		in    string
		files bool
		want  string
	}{
		{"127.0.0.1", false, "http://127.0.0.1:2379"},
		{"etcd.example:4001", true, "https://etcd.example:4001"},
		{"https://[fd00::1]/", false, "https://[fd00::1]:2379"},
	} {
		got, err := parseEndpoint(tt.in, tt.files)
		if err != nil || got.url != tt.want {
			t.Errorf("%s: got %s, %v, want %s", tt.in, got.url, err, tt.want)
		}
	}
}

func TestPathsAsFlannel(t *testing.T) {
	for prefix, want := range map[string]string{
		"/coreos.com/network":   "/coreos.com/network/config",
		"/coreos.com//network/": "/coreos.com/network/config",
		"net":                   "net/config",
		"/":                     "/config",
		"":                      "config",
	} {
		if got := (&Store{base: basePath(prefix)}).Path("config"); got != want {
			t.Errorf("prefix %q: got %s, want %s", prefix, got, want)
		}
	}
}

// Nobody there: the log says where it knocked and why it was in vain, soon.
func TestNoEtcd(t *testing.T) {
	t.Parallel()
	var log strings.Builder
	w := &lockedWriter{b: &log}
	a, b := ports.Keep(t), ports.Keep(t)
	s := openStore(t, Config{Endpoints: []string{"http://" + a, "http://" + b}, Prefix: "/net"})
	r := lease.New(s, lease.Options{Log: slog.New(slog.NewTextHandler(w, nil))})
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Second)
	defer cancel()
	if _, err := r.Config(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want to wait until the context ends", err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	got := log.String()
	if n := strings.Count(got, "\n"); n != 1 {
		t.Errorf("got %d lines, want 1 in the first 8 s: %s", n, got)
	}
	for _, part := range []string{"waiting for etcd", "no etcd can be reached", a + ": connection refused", b + ": connection refused", "check the endpoints"} {
		if !strings.Contains(got, part) {
			t.Errorf("got %q, want it to say %q", got, part)
		}
	}
	if st := r.Status(); st.Connected || !strings.Contains(st.LastError, "connection refused") || !st.LastContact.IsZero() {
		t.Errorf("got status %+v", st)
	}
}

// One dead endpoint among the living is no fault.
func TestFailover(t *testing.T) {
	srv := startServer(t, "http")
	s := openStore(t, Config{Endpoints: []string{"http://" + ports.Keep(t), srv.url("http")}, Prefix: "/net"})
	r := lease.New(s, lease.Options{})
	w := leasetest.Watch(t, r)
	for n := range 5 {
		leasetest.Acquire(t, r, n+1)
	}
	w.Until(t, "five leases", func(s lease.Snapshot) bool { return len(s.Leases) == 5 })
}

// After etcd was away, a host that leases as soon as it is back is learnt
// within two seconds, whichever way it was away.
func TestLearntAfterOutage(t *testing.T) {
	for _, tt := range []struct {
		name     string
		away     time.Duration // past the connection's last ping, and past every growing wait
		off, on  func(*server, testing.TB)
		noticeIn time.Duration
	}{
		{"killed", 10 * time.Second, func(s *server, _ testing.TB) { s.kill() }, func(s *server, t testing.TB) { s.start(t) }, 2 * time.Second},
		{"hanging", 18 * time.Second, (*server).stop, (*server).cont, pingEvery + pingTimeout + 2*time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			srv := startServer(t, "http")
			c := Config{Endpoints: []string{srv.url("http")}, Prefix: "/net"}
			r, other := lease.New(openStore(t, c), lease.Options{}), openStore(t, c)
			w := leasetest.Watch(t, r)
			l := leasetest.Acquire(t, r, 1)
			lost := leasetest.Keep(t, r, l)
			w.Until(t, "one lease", func(s lease.Snapshot) bool { return len(s.Leases) == 1 })

			gone := stall.Start()
			tt.off(srv, t)
			back := time.NewTimer(tt.away)
			each := time.NewTicker(100 * time.Millisecond)
			for away, noticed := true, false; away; {
				select {
				case <-back.C:
					away = false
					if !noticed {
						t.Error("Status never said that etcd was away")
					}
				case <-each.C:
					if !noticed && !r.Status().Connected {
						noticed = true
						if took := gone.Took(); took > tt.noticeIn {
							t.Errorf("noticed after %v", took)
						}
					}
				}
			}
			each.Stop()
			tt.on(srv, t)
			put(t, other, "subnets/10.5.250.0-24", leasetest.Value(t, 2))
			clock := stall.Start()
			w.Until(t, "the new host", func(s lease.Snapshot) bool { return len(s.Leases) == 2 })
			took := clock.Took()
			t.Logf("learnt %v after it was there", took)
			if took > 2*time.Second {
				t.Errorf("learnt after %v, want 2 s", took)
			}
			select {
			case err := <-lost:
				t.Errorf("the outage cost the lease: %v", err)
			default:
			}
		})
	}
}

// put writes a key as soon as the store takes it, through its own connection.
func put(t *testing.T, s *Store, key, value string) {
	t.Helper()
	for range 100 {
		_, err := s.Put(t.Context(), key, []byte(value), 0, 0)
		if err == nil {
			return
		}
		t.Logf("put: %v", err)
	}
	t.Fatal("etcd does not come back")
}
