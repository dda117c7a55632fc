// SPDX-License-Identifier: Apache-2.0

package etcd

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"vxtap/lease"
)

// fault is an error in words for people that still matches what it is.
type fault struct {
	words string
	kind  error // what errors.Is finds; may be nil
}

func (f fault) Error() string { return f.words }
func (f fault) Unwrap() error { return f.kind }

// noSpace is in the order in which it has to be done (etcd's "Maintenance", space
// quota).
const noSpace = "etcd's database is full, so that it takes no writes; reads and renewals go on: " +
	"compact it (etcdctl compact REVISION), defragment every member (etcdctl defrag --cluster), then disarm the alarm (etcdctl alarm disarm)"

// explain puts an error of the client into words. ctx is the caller's own: when
// it has ended, nothing is etcd's fault.
func (s *Store) explain(ctx context.Context, err error) error {
	switch known := rpctypes.Error(err); {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, lease.ErrConflict), errors.Is(err, lease.ErrNoGrant):
		return err
	case errors.Is(known, rpctypes.ErrCompacted):
		return lease.ErrCompacted
	case errors.Is(known, rpctypes.ErrLeaseNotFound):
		return lease.ErrNoGrant
	case errors.Is(known, rpctypes.ErrAuthFailed):
		return fault{fmt.Sprintf("etcd knows no user %q with this password: check both", s.user), lease.ErrRefused}
	case errors.Is(known, rpctypes.ErrUserEmpty):
		return fault{"etcd wants a user name and a password: give both", lease.ErrRefused}
	case errors.Is(known, rpctypes.ErrPermissionDenied):
		return fault{s.forbidden(), lease.ErrRefused}
	case errors.Is(known, rpctypes.ErrNoSpace):
		return fault{noSpace, lease.ErrNoSpace}
	case errors.Is(known, rpctypes.ErrNoLeader), errors.Is(known, rpctypes.ErrTimeoutDueToLeaderFail), errors.Is(known, rpctypes.ErrTimeout):
		return fault{"etcd has no leader: more than half of its members must be up and reach each other", known}
	}
	if errors.Is(err, context.DeadlineExceeded) || status.Code(err) == codes.DeadlineExceeded || status.Code(err) == codes.Unavailable {
		return s.probed.of(ctx, s)
	}
	return err
}

func (s *Store) forbidden() string {
	who := fmt.Sprintf("user %q", s.user)
	if s.user == "" {
		who = "the user that our certificate names"
	}
	return fmt.Sprintf("etcd does not allow %s to do that: grant it a role that may read %s and write %s", who, s.Path(""), s.Path("subnets"))
}

// diagnosis remembers for a while what was found wrong with the endpoints:
// looking takes time that is better spent on trying again.
type diagnosis struct {
	mu    sync.Mutex
	at    time.Time
	found error
}

const (
	probeTimeout = 2 * time.Second
	probeAgain   = 5 * time.Second
)

func (d *diagnosis) of(ctx context.Context, s *Store) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if time.Since(d.at) > probeAgain {
		d.found = s.probe(ctx)
		d.at = time.Now()
	}
	return d.found
}

// probe knocks at all endpoints at once and says what it found. The answer
// matches lease.ErrRefused if none of them would ever have us.
func (s *Store) probe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	found := make([]string, len(s.endpoints))
	final := make([]bool, len(s.endpoints))
	var wg sync.WaitGroup
	for i, e := range s.endpoints {
		wg.Go(func() { found[i], final[i] = s.knock(ctx, e) })
	}
	wg.Wait()

	var parts, open []string
	refused := true
	for i, e := range s.endpoints {
		refused = refused && final[i]
		if found[i] == "" {
			open = append(open, e.url)
			continue
		}
		parts = append(parts, e.url+": "+found[i])
	}
	switch {
	case len(open) > 0:
		return fault{fmt.Sprintf("etcd at %s takes connections and does not answer: has the cluster a leader?", strings.Join(open, ", ")), nil}
	case refused:
		return fault{strings.Join(parts, "; "), lease.ErrRefused}
	}
	return fault{"no etcd can be reached: " + strings.Join(parts, "; ") + "; check the endpoints, and that etcd runs", nil}
}

// knock connects to e and returns what is wrong with it, or "".
func (s *Store) knock(ctx context.Context, e endpoint) (why string, final bool) {
	conn, err := new(net.Dialer).DialContext(ctx, e.network, e.addr)
	if err != nil {
		return dialFault(err), false
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(deadline)
	}
	if !e.tls {
		if speaksTLS(ctx, conn) {
			return "it speaks TLS: write https:// for it", true
		}
		return "", false
	}
	cfg, _ := s.files.current()
	cfg = cfg.Clone()
	cfg.ServerName, cfg.NextProtos = e.host, []string{"h2"}
	t := tls.Client(conn, cfg)
	if err := t.HandshakeContext(ctx); err != nil {
		if speaksHTTP(ctx, e) {
			return noTLS, true
		}
		return s.explainTLS(e, err)
	}
	// In TLS 1.3 the server judges our certificate after the handshake; only
	// the first read tells. A good server may just say nothing.
	if _, err := t.Read(make([]byte, 1)); isAlert(err) {
		return s.explainTLS(e, err)
	}
	return "", false
}

// dialFault returns the last part of what net.Dial says: the endpoint is named
// already.
func dialFault(err error) string {
	var op *net.OpError
	var name *net.DNSError
	var call *os.SyscallError
	switch {
	case errors.As(err, &name):
		return name.Error()
	case errors.As(err, &call):
		return call.Err.Error()
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, syscall.ETIMEDOUT):
		return "no answer within " + probeTimeout.String()
	case errors.As(err, &op):
		return op.Err.Error()
	}
	return err.Error()
}

// isAlert reports whether err is an alert that the other side sent. crypto/tls
// keeps the type of it to itself.
func isAlert(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "remote error"
}

// speaksTLS reports whether the other side answers the first message of a TLS
// handshake with a TLS record. A server of plain HTTP/2 hangs up, or answers
// with something else.
func speaksTLS(ctx context.Context, conn net.Conn) bool {
	first := &firstBytes{Conn: conn}
	// Nothing is sent over it, so it may be anybody's.
	_ = tls.Client(first, &tls.Config{InsecureSkipVerify: true}).HandshakeContext(ctx)
	// A handshake record or an alert, of TLS 1.x (RFC 8446, section 5.1).
	return bytes.HasPrefix(first.got, []byte{22, 3}) || bytes.HasPrefix(first.got, []byte{21, 3})
}

// speaksHTTP reports whether e answers plain HTTP. A server of that may hang up
// without a word when it is greeted with TLS. One of TLS may answer plain HTTP
// too, with a 400, so that this asks for a page that etcd has.
func speaksHTTP(ctx context.Context, e endpoint) bool {
	conn, err := new(net.Dialer).DialContext(ctx, e.network, e.addr)
	if err != nil {
		return false
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(deadline)
	}
	if _, err := io.WriteString(conn, "GET /version HTTP/1.0\r\n\r\n"); err != nil {
		return false
	}
	head := make([]byte, len("HTTP/1.x 200"))
	_, err = io.ReadFull(conn, head)
	return err == nil && bytes.HasPrefix(head, []byte("HTTP/1.")) && bytes.HasSuffix(head, []byte(" 200"))
}

// firstBytes remembers the first bytes that were read.
type firstBytes struct {
	net.Conn
	got []byte
}

func (f *firstBytes) Read(b []byte) (int, error) {
	n, err := f.Conn.Read(b)
	if len(f.got) < 2 {
		f.got = append(f.got, b[:n]...)
	}
	return n, err
}
