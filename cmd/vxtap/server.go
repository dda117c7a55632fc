// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"golang.org/x/net/netutil"
	"golang.org/x/sync/errgroup"
)

// maxHeader is far more than any client of ours sends.
const maxHeader = 16 << 10

// maxConns is how many clients a server has at a time; the others wait in the
// kernel's queue. Each costs a descriptor and a goroutine with its buffers, and
// a few thousand of them would take both from the tunnel.
const maxConns = 64

// serveHTTP serves h on l until ctx ends. It closes l. No client, however slow,
// keeps a connection for longer than an answer needs, or half a minute idle.
func serveHTTP(ctx context.Context, l net.Listener, h http.Handler, log *slog.Logger) error {
	server := &http.Server{
		Handler:        h,
		ReadTimeout:    5 * time.Second,
		WriteTimeout:   10 * time.Second,
		IdleTimeout:    30 * time.Second,
		MaxHeaderBytes: maxHeader,
		ErrorLog:       slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	l = netutil.LimitListener(l, maxConns)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve %s: %w", l.Addr(), err)
		}
		return nil
	})
	g.Go(func() error {
		<-ctx.Done()
		// An answer under way may finish; nobody may hold up the exit.
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 300*time.Millisecond)
		defer cancel()
		if server.Shutdown(grace) != nil {
			return server.Close()
		}
		return nil
	})
	return g.Wait()
}
