// SPDX-License-Identifier: Apache-2.0

//go:build unix

package etcd

import (
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"vxtap/lease"
	"vxtap/lease/leasetest"
	"vxtap/test/stall"
)

// rotation is a store over TLS whose files are about to be replaced.
type rotation struct {
	*tlsServer
	way   *relay
	store *Store
	log   *lockedBuffer
	crt   string
	key   string
	caOf  string // the CA file of the store, its own
}

func startRotation(t *testing.T, end time.Time) *rotation {
	t.Helper()
	r := &rotation{tlsServer: startTLS(t, true, time.Now().Add(time.Hour), "127.0.0.1"), log: &lockedBuffer{}}
	r.way = startRelay(t, r.client)
	r.crt, r.key = r.ca.Sign(t, "host", end)
	r.caOf = r.ca.Dir + "/store-ca.pem"
	copyFiles(t, r.caOf, r.ca.File)
	s, err := Open(t.Context(), Config{
		Endpoints: []string{"https://" + r.way.addr}, Prefix: "/net", CAFile: r.caOf, CertFile: r.crt, KeyFile: r.key,
	}, slog.New(slog.NewTextHandler(r.log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	r.store = s
	r.list(t)
	return r
}

// copyFiles replaces a file by what several others hold.
func copyFiles(t *testing.T, to string, from ...string) {
	t.Helper()
	var all []byte
	for _, f := range from {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, b...)
	}
	if err := os.WriteFile(to, all, 0o600); err != nil {
		t.Fatal(err)
	}
}

func (r *rotation) list(t *testing.T) {
	t.Helper()
	if _, err := leasetest.List(t.Context(), r.store, "subnets"); err != nil {
		t.Error(err)
	}
}

// says waits until the log has text.
func (r *rotation) says(t *testing.T, text string) {
	t.Helper()
	each := time.NewTicker(20 * time.Millisecond)
	defer each.Stop()
	for range 500 {
		if strings.Contains(r.log.String(), text) {
			return
		}
		<-each.C
	}
	t.Fatalf("the log does not say %q within 10 s:\n%s", text, r.log)
}

const connectedAnew = "connected to etcd with the new certificates"

// Connections are made anew with the new certificate while the old ones are
// still good, and a watch that is under way does not notice.
func TestConnectionsAreMadeAnew(t *testing.T) {
	t.Parallel()
	r := startRotation(t, time.Now().Add(time.Hour))
	var registry strings.Builder
	reg := lease.New(r.store, lease.Options{Log: slog.New(slog.NewTextHandler(&lockedWriter{b: &registry}, nil))})
	w := leasetest.Watch(t, reg)
	w.Until(t, "nothing", func(lease.Snapshot) bool { return true })
	before := r.way.connections()
	r.ca.Sign(t, "host", time.Now().Add(2*time.Hour)) // the same files
	r.says(t, connectedAnew)
	if n := r.way.connections(); n <= before {
		t.Errorf("got %d connections, had %d before", n, before)
	}
	if left := time.Until(r.store.CertificateEnds()); left < 90*time.Minute {
		t.Errorf("the certificate ends in %v, want that of the new one", left)
	}
	if _, err := r.store.Put(t.Context(), "subnets/10.5.250.0-24", []byte(leasetest.Value(t, 2)), 0, 0); err != nil {
		t.Error(err)
	}
	w.Until(t, "the new host", func(s lease.Snapshot) bool { return len(s.Leases) == 1 })
	if !reg.Status().Connected || strings.Contains(registry.String(), "not watched") {
		t.Errorf("the watch broke: %s", &registry)
	}
}

// The server gets a certificate of another authority, and the CA file follows.
func TestCARotation(t *testing.T) {
	t.Parallel()
	r := startRotation(t, time.Now().Add(time.Hour))
	r.other.Sign(t, "server", time.Now().Add(time.Hour), "127.0.0.1")
	copyFiles(t, r.caOf, r.other.File)
	r.says(t, connectedAnew)
	r.kill() // and with it every connection that was made with the old CA
	r.start(t)
	r.list(t)
}

// A set of files that does not fit together is not used: a connection that has
// to be made meanwhile is made with the earlier one.
func TestHalfWrittenFiles(t *testing.T) {
	for _, tt := range []struct {
		name string
		harm func(*testing.T, *rotation)
		want string
	}{
		{"a new certificate and the old key", func(t *testing.T, r *rotation) { copyFiles(t, r.crt, r.clientCrt) }, "private key does not match"},
		{"half a certificate", func(t *testing.T, r *rotation) { truncate(t, r.crt, 100) }, "failed to find any PEM data"},
		{"an empty key", func(t *testing.T, r *rotation) { truncate(t, r.key, 0) }, "failed to find any PEM data"},
		{"an empty CA file", func(t *testing.T, r *rotation) { truncate(t, r.caOf, 0) }, "has no certificate in PEM form"},
		{"no key file", func(t *testing.T, r *rotation) { _ = os.Remove(r.key) }, "no such file"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := startRotation(t, time.Now().Add(time.Hour))
			tt.harm(t, r)
			r.says(t, "the earlier ones stay in use")
			r.says(t, tt.want)
			if w := r.store.CertificateWarning(); !strings.Contains(w, tt.want) {
				t.Errorf("got warning %q, want %q in it", w, tt.want)
			}
			before := r.way.connections()
			r.kill()
			r.start(t)
			r.list(t)
			if n := r.way.connections(); n <= before {
				t.Errorf("got %d connections, had %d before: nothing was shown", n, before)
			}
			if n := strings.Count(r.log.String(), "the earlier ones stay in use"); n != 1 {
				t.Errorf("said %d times, want once:\n%s", n, r.log)
			}
			copyFiles(t, r.caOf, r.ca.File)
			copyFiles(t, r.key, r.clientK)
			copyFiles(t, r.crt, r.clientCrt)
			r.says(t, connectedAnew)
			if w := r.store.CertificateWarning(); w != "" {
				t.Errorf("got warning %q, want none", w)
			}
		})
	}
}

func truncate(t *testing.T, path string, size int64) {
	t.Helper()
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
}

// Nobody replaced the certificate in time. It is said that it ended, and all is
// well within seconds of somebody doing so.
func TestExpiredThenRotated(t *testing.T) {
	t.Parallel()
	end := time.Now().Add(3 * time.Second)
	r := startRotation(t, end)
	waitUntil(t, end.Add(time.Second))
	r.kill()
	r.start(t)
	_, _, err := r.store.Grant(t.Context(), time.Minute)
	if err == nil || !strings.Contains(err.Error(), "client certificate, which ended at "+end.UTC().Format("2006-01-02T15:04")) {
		t.Errorf("got %v, want that the certificate ended", err)
	}
	clock := stall.Start()
	r.ca.Sign(t, "host", time.Now().Add(time.Hour))
	for clock.Took() < 10*time.Second {
		if _, _, err = r.store.Grant(t.Context(), time.Minute); err == nil {
			break
		}
	}
	took := clock.Took()
	t.Logf("etcd answered %v after the files were replaced", took)
	if err != nil || took > 5*time.Second {
		t.Errorf("got %v after %v", err, took)
	}
}

// A new certificate that etcd does not take is said, and costs nothing.
func TestRefusedRotation(t *testing.T) {
	t.Parallel()
	r := startRotation(t, time.Now().Add(time.Hour))
	if w := r.store.CertificateWarning(); w != "" {
		t.Errorf("got warning %q before anything happened", w)
	}
	r.other.Sign(t, "host", time.Now().Add(9*time.Hour))
	r.says(t, "no connection to etcd with the new certificates; those that there are stay")
	r.says(t, "refuses our client certificate")
	r.list(t)
	if left := time.Until(r.store.CertificateEnds()); left > 2*time.Hour {
		t.Errorf("got %v until the certificate ends, want that of the one in use", left)
	}
	for _, want := range []string{"refuses our client certificate", "loses etcd"} {
		if w := r.store.CertificateWarning(); !strings.Contains(w, want) {
			t.Errorf("got warning %q, want %q in it", w, want)
		}
	}
	r.ca.Sign(t, "host", time.Now().Add(5*time.Hour))
	r.says(t, connectedAnew)
	// What connected may be a try with the files of before that took the new ones
	// on its way; it is made anew once more, then.
	each := time.NewTicker(20 * time.Millisecond)
	defer each.Stop()
	var left time.Duration
	for range 500 {
		if left = time.Until(r.store.CertificateEnds()); left > 4*time.Hour && left < 6*time.Hour {
			break
		}
		<-each.C
	}
	if left < 4*time.Hour || left > 6*time.Hour {
		t.Errorf("got %v until the certificate ends, want that of the new one", left)
	}
	if w := r.store.CertificateWarning(); w != "" {
		t.Errorf("got warning %q, want none", w)
	}
}
