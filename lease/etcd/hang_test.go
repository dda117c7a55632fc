// SPDX-License-Identifier: Apache-2.0

//go:build unix

package etcd

import (
	"testing"
	"time"

	"vxtap/lease"
	"vxtap/lease/leasetest"
	"vxtap/test/stall"
)

// A member that takes connections and does not answer costs a call two seconds,
// not as long as a whole list may take: the next one goes to another member.
func TestHangingMember(t *testing.T) {
	t.Parallel()
	well, hanging := startServer(t, "http"), startServer(t, "http")
	r := lease.New(openStore(t, Config{Endpoints: []string{well.url("http"), hanging.url("http")}, Prefix: "/net"}), lease.Options{})
	const config = `{"Network": "10.5.0.0/16", "Backend": {"Type": "vxlan"}}`
	for _, srv := range []*server{well, hanging} { // two that say the same stand for members of one cluster
		s := openStore(t, Config{Endpoints: []string{srv.url("http")}, Prefix: "/net"})
		if _, err := s.Put(t.Context(), "config", []byte(config), 0, 0); err != nil {
			t.Fatal(err)
		}
	}
	for range 4 { // both have answered
		if _, err := r.Config(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	hanging.stop(t)
	defer hanging.cont(t)
	for n := range 4 {
		clock := stall.Start()
		if _, err := r.Config(t.Context()); err != nil {
			t.Fatal(err)
		}
		if took := clock.Took(); took > 7*time.Second {
			t.Errorf("call %d took %v", n, took)
		}
	}
}

// A slow line gets the time that it needs: each call in vain doubles it.
func TestCallsInVainGetMoreTime(t *testing.T) {
	t.Parallel()
	srv := startServer(t, "http")
	s := openStore(t, Config{Endpoints: []string{srv.url("http")}, Prefix: "/net"})
	if _, err := leasetest.List(t.Context(), s, "config"); err != nil {
		t.Fatal(err)
	}
	srv.stop(t)
	defer srv.cont(t)
	for _, want := range []time.Duration{2 * time.Second, 4 * time.Second} {
		start, clock := time.Now(), stall.Start()
		_, err := leasetest.List(t.Context(), s, "config")
		if took := time.Since(start); err == nil || took < want || clock.Took() > want+probeTimeout+time.Second {
			t.Errorf("got %v after %v, want to give up after %v", err, took, want)
		}
	}
	srv.cont(t)
	// Small calls that are answered on a slow line say nothing of a large one.
	if err := s.Revoke(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	if n := s.listsInVain.Load(); n != 2 {
		t.Errorf("after the answer to a small call the next read has the time of %d in vain, want 2", n)
	}
	if _, err := leasetest.List(t.Context(), s, "config"); err != nil {
		t.Fatal(err)
	}
	if n := s.listsInVain.Load(); n != 0 {
		t.Errorf("after an answer the next call has the time of %d in vain", n)
	}
}
