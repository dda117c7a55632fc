// SPDX-License-Identifier: Apache-2.0

//go:build unix

package etcd

import (
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"vxtap/lease/leasetest"
)

// The cases that the store in memory passes in lease/leasetest.
func TestCases(t *testing.T) {
	for _, c := range leasetest.Cases() {
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			srv := startServer(t, "http")
			s := openStore(t, Config{Endpoints: []string{srv.url("http")}, Prefix: "/coreos.com/network"})
			c.Body(t, leasetest.Fixture{
				Store:      s,
				Compact:    func(t *testing.T) { compact(t, s) },
				Disconnect: func(*testing.T) { srv.kill() },
				Connect:    func(t *testing.T) { srv.start(t) },
			})
		})
	}
}

func client(t testing.TB, s *Store) *clientv3.Client {
	t.Helper()
	c, err := s.connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return c.Client
}

func compact(t testing.TB, s *Store) {
	t.Helper()
	c := client(t, s)
	l, err := c.Get(t.Context(), "x")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Compact(t.Context(), l.Header.Revision, clientv3.WithCompactPhysical()); err != nil {
		t.Fatal(err)
	}
}
