// SPDX-License-Identifier: Apache-2.0

//go:build unix

package etcd

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"vxtap/lease"
	"vxtap/lease/leasetest"
	"vxtap/test/pki"
	"vxtap/test/stall"
)

// tlsServer is an etcd with TLS and what one needs to talk to it.
type tlsServer struct {
	*server
	ca, other           *pki.Authority // other is one that the server does not know
	clientCrt, clientK  string
	foreignCrt, foreign string // signed by other
}

func startTLS(t *testing.T, mutual bool, end time.Time, hosts ...string) *tlsServer {
	t.Helper()
	dir := t.TempDir()
	s := &tlsServer{ca: pki.New(t, dir, "ca"), other: pki.New(t, dir, "other")}
	crt, key := s.ca.Sign(t, "server", end, hosts...)
	s.clientCrt, s.clientK = s.ca.Sign(t, "client", time.Now().Add(time.Hour))
	s.foreignCrt, s.foreign = s.other.Sign(t, "foreign", time.Now().Add(time.Hour))
	args := []string{"--cert-file=" + crt, "--key-file=" + key}
	if mutual {
		args = append(args, "--client-cert-auth", "--trusted-ca-file="+s.ca.File)
	}
	s.server = startServer(t, "https", args...)
	return s
}

func TestTLS(t *testing.T) {
	later := time.Now().Add(time.Hour)
	mutual := startTLS(t, true, later, "127.0.0.1", "localhost")
	simple := startTLS(t, false, later, "127.0.0.1")
	elsewhere := startTLS(t, false, later, "etcd.example")
	expired := startTLS(t, false, time.Now().Add(-time.Minute), "127.0.0.1")
	plain := startServer(t, "http")
	tests := []struct {
		name    string
		srv     *server
		c       Config
		want    string // part of the error; "" for none
		refused bool
	}{
		{"mutual", mutual.server, Config{CAFile: mutual.ca.File, CertFile: mutual.clientCrt, KeyFile: mutual.clientK}, "", false},
		{"F14 with a CA alone", simple.server, Config{CAFile: simple.ca.File}, "", false},
		{"a CA that did not sign it", simple.server, Config{CAFile: simple.other.File}, "signed by an unknown authority", true},
		{"the system's roots", simple.server, Config{}, "signed by an unknown authority", true},
		{"a certificate of another name", elsewhere.server, Config{CAFile: elsewhere.ca.File}, "certificate is not for 127.0.0.1", true},
		{"an expired certificate", expired.server, Config{CAFile: expired.ca.File}, "has expired", true},
		{"no client certificate where one is wanted", mutual.server, Config{CAFile: mutual.ca.File}, "refuses our client certificate", true},
		{"a client certificate of a stranger", mutual.server, Config{CAFile: mutual.ca.File, CertFile: mutual.foreignCrt, KeyFile: mutual.foreign}, "refuses our client certificate", true},
		{"https to a server of http", plain, Config{CAFile: simple.ca.File}, "does not speak TLS: write http://", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.c.Endpoints = []string{tt.srv.url("https")}
			assertReach(t, tt.c, tt.want, tt.refused)
		})
	}
	t.Run("http to a server of https", func(t *testing.T) {
		t.Parallel()
		assertReach(t, Config{Endpoints: []string{simple.url("http")}}, "it speaks TLS: write https://", true)
	})
}

// assertReach opens c and reads something.
func assertReach(t *testing.T, c Config, want string, refused bool) {
	t.Helper()
	s := openStore(t, c)
	clock := stall.Start()
	_, err := leasetest.List(t.Context(), s, "config")
	if took := clock.Took(); took > callTimeout+2*time.Second {
		t.Errorf("took %v", took)
	}
	if want == "" {
		if err != nil {
			t.Errorf("got %v, want no error", err)
		}
		return
	}
	if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
		t.Fatalf("got %v, want one line that says %q", err, want)
	}
	if errors.Is(err, lease.ErrRefused) != refused {
		t.Errorf("got %v, matches ErrRefused: %v, want %v", err, !refused, refused)
	}
}

func TestTLSFiles(t *testing.T) {
	dir := t.TempDir()
	ca := pki.New(t, dir, "ca")
	crt, key := ca.Sign(t, "a", time.Now().Add(time.Hour))
	_, otherKey := ca.Sign(t, "b", time.Now().Add(time.Hour))
	text := filepath.Join(dir, "text")
	if err := os.WriteFile(text, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	gone := filepath.Join(dir, "gone")
	for _, tt := range []struct {
		name string
		c    Config
		want string
	}{
		{"CA file is not there", Config{CAFile: gone}, "CA file: open " + gone},
		{"CA file is a directory", Config{CAFile: dir}, "CA file: read " + dir},
		{"CA file is no certificate", Config{CAFile: text}, "has no certificate in PEM form"},
		{"certificate without key", Config{CertFile: crt}, "without its key"},
		{"key without certificate", Config{KeyFile: key}, "without its certificate"},
		{"certificate is not there", Config{CertFile: gone, KeyFile: key}, "certificate file: open " + gone},
		{"key is not there", Config{CertFile: crt, KeyFile: gone}, "key file: open " + gone},
		{"key of another certificate", Config{CertFile: crt, KeyFile: otherKey}, "private key does not match"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.c.Endpoints = []string{"https://127.0.0.1:1"}
			s, err := Open(t.Context(), tt.c, nil)
			if err == nil {
				s.Close()
				t.Fatal("got no error")
			}
			if !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %v, want one line that says %q", err, tt.want)
			}
		})
	}
}

// A certificate that is replaced on disk is used from the next handshake on.
func TestCertificateRotation(t *testing.T) {
	t.Parallel()
	srv := startTLS(t, true, time.Now().Add(time.Hour), "127.0.0.1")
	soon := time.Now().Add(3 * time.Second)
	crt, key := srv.ca.Sign(t, "short", soon)
	s := openStore(t, Config{Endpoints: []string{srv.url("https")}, CAFile: srv.ca.File, CertFile: crt, KeyFile: key})
	if _, err := leasetest.List(t.Context(), s, "config"); err != nil {
		t.Fatal(err)
	}
	srv.ca.Sign(t, "short", time.Now().Add(time.Hour)) // the same files
	waitUntil(t, soon.Add(time.Second))
	srv.kill()
	srv.start(t)
	if _, err := leasetest.List(t.Context(), s, "config"); err != nil {
		t.Errorf("got %v after the old certificate expired", err)
	}
}

func waitUntil(t *testing.T, at time.Time) {
	t.Helper()
	ctx, cancel := context.WithDeadline(t.Context(), at)
	defer cancel()
	<-ctx.Done()
}
