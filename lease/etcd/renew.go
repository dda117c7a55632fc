// SPDX-License-Identifier: Apache-2.0

package etcd

import (
	"context"
	"errors"
	"net"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"vxtap/lease"
)

const (
	// rereadEvery is how often the certificate files are looked at while
	// nothing is wrong. A handshake looks at them in any case.
	rereadEvery = 2 * time.Second
	// complainEvery is how often it is said that etcd does not take new ones.
	complainEvery = 30 * time.Second
	// leaveAfter is the least age of a session that is made anew for a call that
	// was in vain: on a slow line they all may be.
	leaveAfter = 5 * time.Second
)

// handshake makes every connection with the files as they are at that moment.
// gRPC's own credentials keep the CA that they were made with for life.
type handshake struct{ files *files }

var _ credentials.TransportCredentials = handshake{}

func (h handshake) ClientHandshake(ctx context.Context, authority string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	cfg, _ := h.files.current()
	return credentials.NewTLS(cfg).ClientHandshake(ctx, authority, conn)
}

func (h handshake) ServerHandshake(net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.ErrUnsupported
}

func (h handshake) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "tls"}
}

func (h handshake) Clone() credentials.TransportCredentials { return h }

// OverrideServerName is deprecated, and nobody calls it.
func (h handshake) OverrideServerName(string) error { return errors.ErrUnsupported }

// session is a client with the generation of the files that it was made with.
type session struct {
	*clientv3.Client
	end        context.CancelFunc // of the context that it lives by
	generation int
	ends       time.Time // of their client certificate
	made       time.Time
	replaced   chan struct{} // closed when another one takes its place
	since      time.Time     // when that was
}

// Close closes the connections. What the session leaves behind otherwise is there
// until the Store is closed, and there may be a session every few seconds.
func (c *session) Close() error {
	defer c.end()
	return c.Client.Close()
}

// errReplaced is why a watch ends that goes on with the next session.
var errReplaced = errors.New("the connection to etcd is made anew")

// refresh makes the connections anew, beside those that there are, which serve
// until etcd has answered on the new ones. It ends with ctx.
//
// When the certificates change: before somebody cuts the old connections, and
// while there is somebody who has just touched the files and looks at what
// comes of it. When a call was in vain and there are several members: one whose
// process hangs takes every third call for as long as it hangs, since its
// kernel acknowledges them, and gRPC pings only connections with a stream. With
// new connections it is not even ready, and gets none.
func (s *Store) refresh(ctx context.Context) {
	tick := time.NewTicker(rereadEvery)
	defer tick.Stop()
	var old []*session
	var complained time.Time
	defer func() {
		for _, c := range old {
			_ = c.Close()
		}
	}()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		// Calls that are under way may end on the session they began with.
		for len(old) > 0 && time.Since(old[0].since) > listTimeout {
			_ = old[0].Close()
			old = old[1:]
		}
		now, other := s.stale()
		if now == nil {
			continue
		}
		next, err := s.renew(ctx, now)
		if next != nil {
			old = append(old, now)
		}
		switch {
		case !other || ctx.Err() != nil:
		case err != nil:
			err = s.explain(ctx, err)
			if why := err.Error(); errors.Is(err, lease.ErrRefused) { // otherwise etcd is down, and has not seen them
				s.certificate.refused.Store(&why)
			}
			if time.Since(complained) > complainEvery {
				complained = time.Now()
				s.log.Warn("no connection to etcd with the new certificates; those that there are stay", "error", err)
			}
		case next != nil:
			complained = time.Time{}
			s.certificate.refused.Store(nil)
			s.log.Info("connected to etcd with the new certificates")
		}
	}
}

// stale returns the session if it should be made anew, and whether it is for
// other certificates.
func (s *Store) stale() (now *session, other bool) {
	s.turn <- struct{}{}
	now = s.client
	<-s.turn
	if now == nil {
		return nil, false
	}
	if s.files != nil {
		_, generation := s.files.current()
		other = now.generation != generation
	}
	if !other {
		s.certificate.refused.Store(nil)
	}
	leave := time.Since(now.made) > leaveAfter && len(s.endpoints) > 1 && s.late.Swap(false)
	if !other && !leave {
		return nil, false
	}
	return now, other
}

// renew puts a new session in the place of now, once etcd has answered the new
// one, and returns it. It returns nil where somebody has put now away already.
func (s *Store) renew(ctx context.Context, now *session) (*session, error) {
	timed, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	next, err := s.newSession(timed)
	if err != nil {
		return nil, err
	}
	if _, err := next.Get(timed, s.base+"config"); unanswered(err) {
		_ = next.Close()
		return nil, err
	}
	s.turn <- struct{}{}
	gone := s.client != now
	if !gone {
		s.client = next
		s.certificate.ends.Store(&next.ends)
	}
	<-s.turn
	if gone {
		return nil, next.Close()
	}
	now.since = time.Now()
	close(now.replaced)
	return next, nil
}

// unanswered reports whether a call failed for want of an answer: whatever etcd
// says, it has taken the connection.
func unanswered(err error) bool {
	if err == nil {
		return false
	}
	c := status.Code(err)
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) ||
		c == codes.DeadlineExceeded || c == codes.Unavailable || c == codes.Canceled
}
