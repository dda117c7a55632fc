// SPDX-License-Identifier: Apache-2.0

//go:build unix

package etcd

import (
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"vxtap/lease"
	"vxtap/lease/leasetest"
	"vxtap/test/stall"
)

const secret = "s3cr3t-pa55w0rd"

// startAuth starts an etcd that wants a password. "node" may read the network
// and write subnets, "reader" may only read.
func startAuth(t *testing.T) *server {
	t.Helper()
	srv := startServer(t, "http")
	c := client(t, openStore(t, Config{Endpoints: []string{srv.url("http")}}))
	ctx := t.Context()
	must := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	grant := func(role, dir string, kind clientv3.PermissionType) {
		t.Helper()
		must(c.RoleGrantPermission(ctx, role, dir, clientv3.GetPrefixRangeEnd(dir), kind))
	}
	must(c.RoleAdd(ctx, "reads"))
	grant("reads", "/net/", clientv3.PermissionType(clientv3.PermRead))
	must(c.RoleAdd(ctx, "writes"))
	grant("writes", "/net/subnets", clientv3.PermissionType(clientv3.PermReadWrite))
	for user, roles := range map[string][]string{"root": {"root"}, "node": {"reads", "writes"}, "reader": {"reads"}} {
		must(c.UserAdd(ctx, user, secret))
		for _, r := range roles {
			must(c.UserGrantRole(ctx, user, r))
		}
	}
	must(c.Put(ctx, "/net/config", leasetest.Config))
	must(c.AuthEnable(ctx))
	return srv
}

func TestAuth(t *testing.T) {
	srv := startAuth(t)
	urls := []string{srv.url("http")}
	t.Run("the least that a host needs is enough", func(t *testing.T) {
		s := openStore(t, Config{Endpoints: urls, Prefix: "/net", Username: "node", Password: secret})
		r := lease.New(s, lease.Options{})
		if _, err := r.Config(t.Context()); err != nil {
			t.Fatal(err)
		}
		w := leasetest.Watch(t, r)
		l := leasetest.Acquire(t, r, 1)
		leasetest.Keep(t, r, l)
		w.Until(t, "our own lease", func(s lease.Snapshot) bool { return len(s.Leases) == 1 })
		if err := r.Release(t.Context(), l); err != nil {
			t.Error(err)
		}
	})
	for _, tt := range []struct{ name, user, password, want string }{
		{"wrong password", "node", "wrong-" + secret, `knows no user "node" with this password`},
		{"no such user", "nobody", secret, `knows no user "nobody" with this password`},
		{"no user at all", "", "", "wants a user name and a password"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var log strings.Builder
			s := openLogged(t, Config{Endpoints: urls, Prefix: "/net", Username: tt.user, Password: tt.password}, &log)
			_, err := lease.New(s, lease.Options{}).Config(t.Context())
			assertRefused(t, err, tt.want)
			if strings.Contains(log.String(), secret) {
				t.Errorf("the log has the password in it: %s", &log)
			}
		})
	}
	t.Run("a user that may not write", func(t *testing.T) {
		s := openStore(t, Config{Endpoints: urls, Prefix: "/net", Username: "reader", Password: secret})
		_, err := lease.New(s, lease.Options{}).Acquire(t.Context(), leasetest.Network(t), leasetest.Host(1))
		assertRefused(t, err, `does not allow user "reader" to do that`)
	})
}

func assertRefused(t *testing.T, err error, want string) {
	t.Helper()
	if !errors.Is(err, lease.ErrRefused) || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
		t.Errorf("got %v, want ErrRefused in one line that says %q", err, want)
	}
	if err != nil && strings.Contains(err.Error(), secret) {
		t.Errorf("the error has the password in it: %v", err)
	}
}

func openLogged(t *testing.T, c Config, to *strings.Builder) *Store {
	t.Helper()
	h := slog.NewTextHandler(&lockedWriter{b: to}, &slog.HandlerOptions{Level: slog.LevelDebug})
	s, err := Open(t.Context(), c, slog.New(h))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// A login is forgotten by an etcd that is started anew, and made again.
func TestLoginAgain(t *testing.T) {
	t.Parallel()
	srv := startAuth(t)
	s := openStore(t, Config{Endpoints: []string{srv.url("http")}, Prefix: "/net", Username: "node", Password: secret})
	r := lease.New(s, lease.Options{})
	w := leasetest.Watch(t, r)
	w.Until(t, "nothing", func(lease.Snapshot) bool { return true })
	srv.kill()
	srv.start(t)
	l := leasetest.Acquire(t, r, 1)
	leasetest.Keep(t, r, l)
	w.Until(t, "our own lease", func(s lease.Snapshot) bool { return len(s.Leases) == 1 })
}

// A password does not make Open wait for an etcd that is not there, and a login
// that fails for that is made up for later.
func TestLoginLater(t *testing.T) {
	t.Parallel()
	srv := startAuth(t)
	srv.kill()
	clock := stall.Start()
	s := openStore(t, Config{Endpoints: []string{srv.url("http")}, Prefix: "/net", Username: "node", Password: secret})
	if took := clock.Took(); took > time.Second {
		t.Errorf("Open took %v", took)
	}
	if _, err := leasetest.List(t.Context(), s, "config"); err == nil || errors.Is(err, lease.ErrRefused) || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("got %v, want that nobody is there", err)
	}
	srv.start(t)
	c, err := lease.New(s, lease.Options{}).Config(t.Context())
	if err != nil || !c.Network.IsValid() {
		t.Errorf("got %+v, %v", c, err)
	}
}
