// SPDX-License-Identifier: Apache-2.0

package traffic

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// Pour sends zeros over n TCP connections side by side for some time, as fast
// as it goes, and returns how many bytes arrived. Unlike Stream it costs the
// processor little beside, so that the path is what is busy.
func Pour(ctx context.Context, from, to End, n int, during time.Duration) (int64, error) {
	var arrived atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	listener, err := to.Namespace.Listen(ctx, netip.AddrPortFrom(to.Addr, 0))
	if err != nil {
		return 0, fmt.Errorf("pour %s to %s: %w", from, to, err)
	}
	defer listener.Close()
	for range n {
		out, err := from.Namespace.DialContext(ctx, "tcp", listener.Addr().String())
		if err != nil {
			return 0, fmt.Errorf("pour %s to %s: %w", from, to, err)
		}
		defer out.Close()
		in, err := listener.Accept()
		if err != nil {
			return 0, fmt.Errorf("pour %s to %s: %w", from, to, err)
		}
		defer in.Close()
		stop := context.AfterFunc(ctx, func() { out.Close(); in.Close() })
		defer stop()
		group.Go(func() error { return pour(out, during) })
		group.Go(func() error {
			m, err := io.Copy(io.Discard, in)
			arrived.Add(m)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return 0, fmt.Errorf("pour %s to %s: %w", from, to, err)
	}
	return arrived.Load(), nil
}

// pour writes to conn for some time, and closes its direction.
func pour(conn net.Conn, during time.Duration) error {
	half, ok := conn.(*net.TCPConn)
	if !ok {
		return errors.New("no TCP connection")
	}
	b := make([]byte, 256<<10)
	for end := time.Now().Add(during); time.Now().Before(end); {
		if _, err := conn.Write(b); err != nil {
			return err
		}
	}
	return half.CloseWrite()
}
