// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// pipeListener accepts one connection that is a net.Pipe, so that a synctest
// bubble can hold it.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }

// connectTo serves h until the test ends and returns a client's connection.
func connectTo(t *testing.T, h http.Handler) net.Conn {
	t.Helper()
	l := &pipeListener{conns: make(chan net.Conn, 1), closed: make(chan struct{})}
	client, server := net.Pipe()
	l.conns <- server
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- serveHTTP(ctx, l, h, slog.New(slog.DiscardHandler)) }()
	t.Cleanup(func() {
		client.Close()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return client
}

// A client that is slow, or only there, must not keep a descriptor for long.
func TestServerEndsIdleClients(t *testing.T) {
	tests := []struct {
		name  string
		send  string
		limit time.Duration
	}{
		{"nothing sent", "", 6 * time.Second},
		{"half a header", "GET / HTTP/1.1\r\nHost: x\r\n", 6 * time.Second},
		{"a body that does not come", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nx", 6 * time.Second},
		{"idle after an answer", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", 31 * time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := connectTo(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
					_, _ = io.Copy(io.Discard, r.Body) // an error is the client's
				}))
				start := time.Now()
				go func() { _, _ = io.WriteString(c, tt.send) }() // it may be cut short
				if err := c.SetReadDeadline(start.Add(time.Hour)); err != nil {
					t.Fatal(err)
				}
				if _, err := io.Copy(io.Discard, c); err != nil {
					t.Errorf("got error %v, want the server to hang up", err)
				}
				if took := time.Since(start); took > tt.limit {
					t.Errorf("the server hung up after %v, want at most %v", took, tt.limit)
				}
			})
		})
	}
}

func TestServerRefusesALongHeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := connectTo(t, http.NotFoundHandler())
		go func() { // it is cut short
			_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\nX: "+strings.Repeat("x", 100<<10)+"\r\n\r\n")
		}()
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("got %s, want 431", resp.Status)
		}
		time.Sleep(time.Second) // net/http lingers, so that the answer is read
	})
}

// Thousands of clients that only connect must not take all descriptors.
func TestServerKeepsTooManyClientsWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- serveHTTP(ctx, l, http.NotFoundHandler(), slog.New(slog.DiscardHandler)) }()
		var clients []net.Conn
		accepted := make(chan struct{}, maxConns+1)
		for range maxConns + 1 {
			client, server := net.Pipe()
			clients = append(clients, client)
			go func() {
				select {
				case l.conns <- server:
					accepted <- struct{}{}
				case <-l.closed:
				}
			}()
		}
		synctest.Wait()
		if got := len(accepted); got != maxConns {
			t.Errorf("got %d connections accepted, want %d", got, maxConns)
		}
		for _, c := range clients {
			c.Close()
		}
		synctest.Wait()
		if got := len(accepted); got != maxConns+1 {
			t.Errorf("got %d connections accepted after the others went, want %d", got, maxConns+1)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
