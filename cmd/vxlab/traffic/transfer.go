// SPDX-License-Identifier: Apache-2.0

package traffic

import (
	"context"
	cryptorand "crypto/rand"
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sync/errgroup"

	"vxtap/cmd/vxlab/netns"
)

// chunk is how much is made, sent, acknowledged and hashed at a time, in bytes.
// The clock runs only while a chunk is on its way: what is measured is the
// network, neither the random numbers nor SHA-256. It is long enough that TCP
// spends nearly all of it at full speed.
const chunk = 16 << 20

// connectWait bounds the making of the connection.
const connectWait = 10 * time.Second

// Transfer is what became of one bulk transfer.
type Transfer struct {
	Bytes          int64
	Elapsed        time.Duration // on the way, without making and checking the data
	Sent, Received [sha256.Size]byte
}

// BitsPerSecond returns the throughput of the TCP payload.
func (t Transfer) BitsPerSecond() float64 {
	if t.Elapsed <= 0 {
		return 0
	}
	return float64(t.Bytes) * 8 / t.Elapsed.Seconds()
}

// Send sends size pseudo-random bytes over one TCP connection from one
// namespace to an address in another. That the two ends saw different bytes is
// an error, and the Transfer is valid beside it. When ctx ends the transfer
// does too.
func Send(ctx context.Context, from, to *netns.Namespace, addr netip.Addr, size int64) (Transfer, error) {
	t, err := send(ctx, from, to, addr, size)
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx) // and not that a connection is closed
	}
	if err == nil && t.Sent != t.Received {
		err = fmt.Errorf("SHA-256 differs: sent %x, received %x", t.Sent[:8], t.Received[:8])
	}
	if err != nil {
		return t, fmt.Errorf("transfer from %s to %s: %w", from.Name(), addr, err)
	}
	return t, nil
}

func send(ctx context.Context, from, to *netns.Namespace, addr netip.Addr, size int64) (Transfer, error) {
	if size <= 0 {
		return Transfer{}, fmt.Errorf("%d bytes are no transfer", size)
	}
	out, in, err := connect(ctx, from, to, addr)
	if err != nil {
		return Transfer{}, err
	}
	defer out.Close()
	defer in.Close()
	t := Transfer{Bytes: size}
	group, ctx := errgroup.WithContext(ctx)
	// When one end fails, or ctx ends, the other end must not wait for ever.
	stop := context.AfterFunc(ctx, func() { out.Close(); in.Close() })
	defer stop()
	group.Go(func() (err error) {
		t.Sent, t.Elapsed, err = produce(out, size)
		return err
	})
	group.Go(func() (err error) {
		t.Received, err = consume(in, size)
		return err
	})
	err = group.Wait() // on a line of its own: t is complete only after it
	return t, err
}

// connect opens a TCP connection and returns both ends of it.
func connect(ctx context.Context, from, to *netns.Namespace, addr netip.Addr) (out, in net.Conn, err error) {
	ctx, cancel := context.WithTimeout(ctx, connectWait)
	defer cancel()
	listener, err := to.Listen(ctx, netip.AddrPortFrom(addr, 0))
	if err != nil {
		return nil, nil, err
	}
	defer listener.Close()
	out, err = from.DialContext(ctx, "tcp", listener.Addr().String())
	if err != nil {
		return nil, nil, err
	}
	// The connection is made: it is in the queue, or will be when the last
	// segment of the handshake arrives.
	stop := context.AfterFunc(ctx, func() { listener.Close() })
	defer stop()
	in, err = listener.Accept()
	if err != nil {
		out.Close()
		return nil, nil, err
	}
	return out, in, nil
}

// produce sends size bytes in chunks and waits for each chunk's
// acknowledgement. It returns their hash and the time that it took without
// making the chunks.
func produce(conn io.ReadWriter, size int64) (sum [sha256.Size]byte, elapsed time.Duration, err error) {
	var seed [32]byte
	cryptorand.Read(seed[:]) // never fails since Go 1.24
	random, h := rand.NewChaCha8(seed), sha256.New()
	buf := make([]byte, min(chunk, size))
	for size > 0 {
		b := buf[:min(chunk, size)]
		_, _ = random.Read(b) // never fails
		h.Write(b)            // never fails
		begun := time.Now()
		if _, err := conn.Write(b); err != nil {
			return sum, elapsed, err
		}
		if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
			return sum, elapsed, fmt.Errorf("read acknowledgement: %w", err)
		}
		elapsed += time.Since(begun)
		size -= int64(len(b))
	}
	return total(h), elapsed, nil
}

// consume is the other end of produce.
func consume(conn io.ReadWriter, size int64) (sum [sha256.Size]byte, err error) {
	h := sha256.New()
	buf := make([]byte, min(chunk, size))
	for size > 0 {
		b := buf[:min(chunk, size)]
		if _, err := io.ReadFull(conn, b); err != nil {
			return sum, err
		}
		if _, err := conn.Write([]byte{0}); err != nil {
			return sum, fmt.Errorf("acknowledge: %w", err)
		}
		h.Write(b)
		size -= int64(len(b))
	}
	return total(h), nil
}

func total(h hash.Hash) (sum [sha256.Size]byte) {
	h.Sum(sum[:0])
	return sum
}
