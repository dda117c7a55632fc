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
)

const (
	// rereadEvery is how often the certificate files are looked at while
	// nothing is wrong. A handshake looks at them in any case.
	rereadEvery = 2 * time.Second
	// complainEvery is how often it is said that etcd does not take new ones.
	complainEvery = 30 * time.Second
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
	generation int
	replaced   chan struct{} // closed when another one takes its place
	since      time.Time     // when that was
}

// errReplaced is why a watch ends that goes on with the next session.
var errReplaced = errors.New("the connection to etcd is made anew, with other certificates")

// followFiles makes the connections anew when the certificates change: before
// somebody cuts the old ones, and while there is somebody who has just touched
// the files and looks at what comes of it. It ends with ctx.
func (s *Store) followFiles(ctx context.Context) {
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
		_, generation := s.files.current()
		replaced, err := s.renew(ctx, generation)
		switch {
		case err != nil && ctx.Err() == nil && time.Since(complained) > complainEvery:
			complained = time.Now()
			s.log.Warn("no connection to etcd with the new certificates; those that there are stay", "error", s.explain(ctx, err))
		case replaced != nil:
			complained = time.Time{}
			old = append(old, replaced)
			s.log.Info("connected to etcd with the new certificates")
		}
	}
}

// renew puts a new session in the place of one that was made with an earlier
// generation, once etcd has answered the new one, and returns the old.
func (s *Store) renew(ctx context.Context, generation int) (*session, error) {
	s.turn <- struct{}{}
	now := s.client
	<-s.turn
	if now == nil || now.generation == generation {
		return nil, nil
	}
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
	s.client = next
	<-s.turn
	now.since = time.Now()
	close(now.replaced)
	return now, nil
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
