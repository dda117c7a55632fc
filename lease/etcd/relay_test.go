// SPDX-License-Identifier: Apache-2.0

//go:build unix

package etcd

import (
	"net"
	"sync"
	"testing"
)

// relay is a way to a server that can become a black hole: it takes
// connections and bytes, and passes nothing on.
type relay struct {
	addr string

	mu    sync.Mutex
	open  *sync.Cond
	hole  bool
	over  bool
	taken int // connections, ever
	conns []net.Conn
}

// startRelay relays to a host:port until the test ends.
func startRelay(t testing.TB, to string) *relay {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err) // may be called beside the test's own goroutine
	}
	r := &relay{addr: l.Addr().String()}
	r.open = sync.NewCond(&r.mu)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { r.carry(c, to) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		r.mu.Lock()
		r.over = true
		for _, c := range r.conns {
			c.Close()
		}
		r.mu.Unlock()
		r.open.Broadcast()
		wg.Wait()
	})
	return r
}

func (r *relay) carry(in net.Conn, to string) {
	defer in.Close()
	out, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	defer out.Close()
	r.mu.Lock()
	r.taken++
	r.conns = append(r.conns, in, out)
	over := r.over
	r.mu.Unlock()
	if over {
		return
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { r.copy(out, in) })
	wg.Go(func() { r.copy(in, out) })
}

func (r *relay) copy(to, from net.Conn) {
	defer to.Close()
	b := make([]byte, 32<<10)
	for {
		n, err := from.Read(b)
		r.mu.Lock()
		for r.hole && !r.over {
			r.open.Wait()
		}
		r.mu.Unlock()
		if _, e := to.Write(b[:n]); err != nil || e != nil {
			return
		}
	}
}

// swallow makes the relay a black hole, or a way again.
func (r *relay) swallow(hole bool) {
	r.mu.Lock()
	r.hole = hole
	r.mu.Unlock()
	r.open.Broadcast()
}

func (r *relay) connections() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.taken
}
