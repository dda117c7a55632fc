// SPDX-License-Identifier: Apache-2.0

package traffic

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sync/errgroup"
)

// trickle is what Trickle writes at a time.
const trickle = 4 << 10

// Trickle sends random bytes over one TCP connection, a few kilobytes every
// pace, for as long as until is open, and compares their SHA-256 at both ends. It
// returns how many there were. A connection that stands still for longer than
// stall is an error, though it might go on later.
func Trickle(ctx context.Context, from, to End, pace, stall time.Duration, until <-chan struct{}) (int64, error) {
	n, err := runTrickle(ctx, from, to, pace, stall, until)
	if err != nil {
		return n, fmt.Errorf("TCP %s to %s: %w", from, to, err)
	}
	return n, nil
}

func runTrickle(ctx context.Context, from, to End, pace, stall time.Duration, until <-chan struct{}) (int64, error) {
	listener, err := to.Namespace.Listen(ctx, netip.AddrPortFrom(to.Addr, 0))
	if err != nil {
		return 0, err
	}
	defer listener.Close()
	out, err := from.Namespace.DialContext(ctx, "tcp", listener.Addr().String())
	if err != nil {
		return 0, err
	}
	defer out.Close()
	in, err := listener.Accept()
	if err != nil {
		return 0, err
	}
	defer in.Close()
	group, ctx := errgroup.WithContext(ctx)
	stop := context.AfterFunc(ctx, func() { out.Close(); in.Close() })
	defer stop()
	sent, received := sha256.New(), sha256.New()
	var n int64
	group.Go(func() error { return drip(ctx, out, sent, pace, until) })
	group.Go(func() (err error) { n, err = drain(in, received, stall); return err })
	if err := group.Wait(); err != nil {
		return n, err
	}
	if [sha256.Size]byte(sent.Sum(nil)) != [sha256.Size]byte(received.Sum(nil)) {
		return n, errors.New("other bytes arrived than were sent")
	}
	return n, nil
}

func drip(ctx context.Context, conn net.Conn, sum hash.Hash, pace time.Duration, until <-chan struct{}) error {
	half, ok := conn.(*net.TCPConn)
	if !ok {
		return errors.New("no TCP connection")
	}
	random, b := rand.NewChaCha8([32]byte{2}), make([]byte, trickle)
	tick := time.NewTicker(pace)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-until:
			return half.CloseWrite()
		case <-tick.C:
		}
		_, _ = random.Read(b)
		sum.Write(b)
		if _, err := half.Write(b); err != nil {
			return err
		}
	}
}

func drain(conn net.Conn, sum hash.Hash, stall time.Duration) (n int64, err error) {
	b := make([]byte, 64<<10)
	for {
		_ = conn.SetReadDeadline(time.Now().Add(stall))
		m, err := conn.Read(b)
		sum.Write(b[:m])
		n += int64(m)
		switch {
		case errors.Is(err, io.EOF):
			return n, nil
		case isTimeout(err):
			return n, fmt.Errorf("nothing arrived for %v", stall)
		case err != nil:
			return n, err
		}
	}
}
