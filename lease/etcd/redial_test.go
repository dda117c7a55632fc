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

// A watch ends at once, so that everything is read again, and calls go on.
func TestRedial(t *testing.T) {
	srv := startServer(t, "http")
	s, err := Open(t.Context(), Config{Endpoints: []string{"http://" + srv.client}, Prefix: "/n"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	s.Redial() // before there is anything to give up
	rev, err := s.Put(t.Context(), "config", []byte("1"), 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	heard, ended := make(chan lease.Batch, 16), make(chan error, 1)
	go func() {
		ended <- s.Watch(t.Context(), "config", rev, func(b lease.Batch) { heard <- b })
	}()
	<-heard
	clock := stall.Start()
	s.Redial()
	select {
	case err := <-ended:
		if err == nil {
			t.Error("the watch ended without an error")
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the watch goes on")
	}
	if took := clock.Took(); took > 2*time.Second {
		t.Errorf("the watch went on for %v", took)
	}
	clock = stall.Start()
	for {
		l, err := leasetest.List(t.Context(), s, "config")
		if err == nil && len(l.Pairs) == 1 {
			break
		}
		if clock.Took() > 2*time.Second {
			t.Fatalf("no answer after it: %v", err)
		}
	}
}
