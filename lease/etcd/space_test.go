// SPDX-License-Identifier: Apache-2.0

//go:build unix

package etcd

import (
	"context"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"vxtap/lease"
	"vxtap/lease/leasetest"
)

// A real etcd that is full refuses what needs space and nothing else, also to one
// who asks for what can never be.
func TestEtcdWithoutSpace(t *testing.T) {
	srv := startServer(t, "http", "--quota-backend-bytes=4000000")
	s := openStore(t, Config{Endpoints: []string{srv.url("http")}, Prefix: "/net"})
	ctx := t.Context()
	id, _, err := s.Grant(ctx, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	put(t, s, "subnets/own", "{}")
	impossible := func() error {
		_, err := s.Put(ctx, "subnets/own", nil, math.MaxInt64, 0)
		return err
	}
	if err := impossible(); !errors.Is(err, lease.ErrConflict) {
		t.Errorf("got %v while there is space, want a conflict", err)
	}

	client := rawClient(t, srv)
	for range 100 {
		if _, err = client.Put(ctx, "/elsewhere", strings.Repeat("x", 500_000)); err != nil {
			break
		}
	}
	if err == nil {
		t.Fatal("etcd does not get full")
	}
	for what, f := range map[string]func() error{
		"a write": func() error { _, err := s.Put(ctx, "subnets/new", []byte("{}"), 0, 0); return err },
		"a move": func() error {
			_, err := s.Move(ctx, lease.Exchange{From: "subnets/own", Revision: 1, To: "subnets/new"})
			return err
		},
		"a grant":            func() error { _, _, err := s.Grant(ctx, time.Minute); return err },
		"what can never be ": impossible,
	} {
		if err := f(); !errors.Is(err, lease.ErrNoSpace) || !strings.Contains(err.Error(), "etcdctl alarm disarm") {
			t.Errorf("%s: got %v, want no space and what to do", what, err)
		}
	}
	_, kept := s.KeepAlive(ctx, id)
	_, read := leasetest.List(ctx, s, "subnets/")
	if kept != nil || read != nil {
		t.Errorf("got %v of a renewal and %v of a read, want both", kept, read)
	}

	makeRoom(ctx, t, client, srv)
	if err := impossible(); !errors.Is(err, lease.ErrConflict) {
		t.Errorf("got %v when there is space again, want a conflict", err)
	}
	put(t, s, "subnets/new", "{}")
}

func rawClient(t *testing.T, srv *server) *clientv3.Client {
	t.Helper()
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{srv.url("http")}, DialTimeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

// makeRoom does what the error says.
func makeRoom(ctx context.Context, t *testing.T, client *clientv3.Client, srv *server) {
	t.Helper()
	now, err := client.Get(ctx, "/elsewhere", clientv3.WithKeysOnly())
	if err != nil {
		t.Fatal(err)
	}
	_, compacted := client.Compact(ctx, now.Header.Revision, clientv3.WithCompactPhysical())
	_, defragmented := client.Defragment(ctx, srv.url("http"))
	_, disarmed := client.AlarmDisarm(ctx, &clientv3.AlarmMember{})
	if err := errors.Join(compacted, defragmented, disarmed); err != nil {
		t.Fatal(err)
	}
}
