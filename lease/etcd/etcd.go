// SPDX-License-Identifier: Apache-2.0

// Package etcd is the store of production: leases in etcd v3. It is the only
// package that imports the etcd client.
//
// The client is told to notice a dead connection and to make a new one quickly,
// every call ends in bounded time, and what goes wrong is said in words that
// name the endpoint and what to look at: the client itself says "context
// deadline exceeded" whether a cable is out or a certificate is wrong.
package etcd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"

	"vxtap/lease"
)

// Config says which etcd, and as whom. The three files may be replaced while
// the Store is open: every new connection uses them as they are then, and the
// old ones are made anew within seconds.
type Config struct {
	// Endpoints are URLs, http or https but not both; unix and unixs sockets
	// too. https is verified with CAFile, or with the system's roots where
	// there is none. Where the scheme is left out it is https if any of the
	// three files is given.
	Endpoints []string
	Prefix    string // of the network, as "/coreos.com/network"
	CAFile    string // PEM; alone, or with a client certificate
	CertFile  string // PEM
	KeyFile   string // of CertFile, PEM
	Username  string
	Password  string
	// Relieve is called some time after so much has been read that it was
	// exceptional, from any goroutine: the memory that it has taken can be given
	// back. It may be nil.
	Relieve func()
}

const (
	// callTimeout bounds a call of one key, listTimeout one that may carry
	// megabytes over a slow line.
	callTimeout = 5 * time.Second
	listTimeout = 15 * time.Second
	// loginTimeout bounds the login, which is part of the first call.
	loginTimeout = 4 * time.Second
	// firstTimeout is for calls before etcd ever answered: somebody is
	// watching a start, and wants to know early what is wrong. Later, calls
	// start with it too, and each that was in vain doubles it for the next:
	// the next one goes to another member, which may be well, and a line that is
	// only slow gets its time.
	firstTimeout = 2 * time.Second

	// A dead peer is noticed after pingEvery + pingTimeout. gRPC allows no
	// less than 10 s, and etcd answers more than one ping in 5 s by hanging up.
	pingEvery   = 10 * time.Second
	pingTimeout = 3 * time.Second
	// redialMost bounds the wait between attempts to connect (gRPC's own
	// default is two minutes, for which nobody would learn of a new host).
	redialMost = time.Second
)

// Store implements lease.Store over etcd.
type Store struct {
	base      string // the prefix with a slash behind
	endpoints []endpoint
	files     *files // nil: no endpoint speaks TLS
	user      string
	log       *slog.Logger

	config clientv3.Config // its Context ends at Close, and with it everything the client does
	cancel context.CancelFunc
	turn   chan struct{} // holds a token while somebody makes the client
	client *session      // made by the first call; guarded by turn
	fresh  sync.WaitGroup

	reached atomic.Bool  // etcd has answered at least once
	late    atomic.Bool  // a call has got no answer since refresh looked last
	vain    atomic.Int32 // calls in a row that have got no answer in time, but for reads of much
	// listsInVain is vain of those that may carry megabytes, until a List has read all
	// of it. On a slow line small calls, and small pages, are answered, and must not
	// take the time away that a large one needs.
	listsInVain atomic.Int32
	probed      diagnosis

	large  sync.Map // prefixes that were a lot when they were last read
	relief relief

	certificate inUse
}

var _ lease.Store = (*Store)(nil)

// Open makes a client from c. It does not wait for etcd: an error is a fault
// of c itself or of a file that it names, in one line. The Store must be
// closed; it ends with ctx, too. log may be nil.
func Open(ctx context.Context, c Config, log *slog.Logger) (*Store, error) {
	s, err := open(ctx, c, log)
	if err != nil {
		return nil, fmt.Errorf("etcd: %w", err)
	}
	return s, nil
}

func open(ctx context.Context, c Config, log *slog.Logger) (*Store, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if (c.Username == "") != (c.Password == "") {
		return nil, errors.New("a user name needs a password and a password needs a user name: give both or neither")
	}
	files := c.CAFile != "" || c.CertFile != "" || c.KeyFile != ""
	endpoints, err := parseEndpoints(c.Endpoints, files)
	if err != nil {
		return nil, err
	}
	s := &Store{base: basePath(c.Prefix), endpoints: endpoints, user: c.Username, log: log, relief: relief{call: c.Relieve}, turn: make(chan struct{}, 1)}
	switch {
	case endpoints[0].tls:
		if s.files, err = openFiles(c, log); err != nil {
			return nil, err
		}
	case files:
		log.Warn("certificates are not used: the endpoints are http", "reason", "write https:// in the endpoints to use them")
	}
	life, cancel := context.WithCancel(ctx)
	s.config, s.cancel = s.clientConfig(life, c), cancel
	s.fresh.Go(func() { s.refresh(life) })
	return s, nil
}

// basePath joins as flannel does, with path.Join.
func basePath(prefix string) string {
	p := path.Join(prefix, "x")
	return strings.TrimSuffix(p, "x")
}

func (s *Store) clientConfig(life context.Context, c Config) clientv3.Config {
	urls := make([]string, len(s.endpoints))
	for i, e := range s.endpoints {
		urls[i] = e.url
	}
	config := clientv3.Config{
		Context:              life,
		Endpoints:            urls,
		Username:             c.Username,
		Password:             c.Password,
		DialTimeout:          loginTimeout,
		DialKeepAliveTime:    pingEvery,
		DialKeepAliveTimeout: pingTimeout,
		MaxCallRecvMsgSize:   maxMessage,
		Logger:               bridge(s.log),
		DialOptions: []grpc.DialOption{grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: redialMost},
			MinConnectTimeout: 3 * time.Second,
		})},
	}
	if s.files != nil {
		// In the place of what the client makes of Config.TLS.
		config.DialOptions = append(config.DialOptions, grpc.WithTransportCredentials(handshake{s.files}))
	}
	return config
}

// Path returns key as it stands in etcd.
func (s *Store) Path(key string) string { return s.base + key }

// Close ends all calls and closes the connections. No call may be made after
// it.
func (s *Store) Close() error {
	s.cancel()
	s.relief.close()
	s.fresh.Wait()
	s.turn <- struct{}{}
	defer func() { <-s.turn }()
	if s.client == nil {
		return nil
	}
	err := s.client.Close()
	if errors.Is(err, context.Canceled) {
		return nil // we did that ourselves, a moment ago
	}
	return err
}

// connect returns the client, and makes it first if need be.
func (s *Store) connect(ctx context.Context) (*session, error) {
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if s.client != nil {
		return s.client, nil
	}
	c, err := s.newSession(ctx)
	if err != nil {
		return nil, err
	}
	s.client = c
	s.certificate.ends.Store(&c.ends)
	return c, nil
}

// newSession makes a client: with a user name it logs in while it is being
// made, and fails if it cannot.
func (s *Store) newSession(ctx context.Context) (*session, error) {
	if err := s.config.Context.Err(); err != nil {
		return nil, err
	}
	// The client keeps the context that it is made with for life, so that it
	// must be ours; but until it is made, the caller's counts too.
	life, cancel := context.WithCancel(s.config.Context)
	stop := context.AfterFunc(ctx, cancel)
	config := s.config
	config.Context = life
	made := &session{end: cancel, made: time.Now(), replaced: make(chan struct{})}
	if s.files != nil {
		made.generation, made.ends = s.files.set()
	}
	c, err := clientv3.New(config)
	if !stop() && err == nil { // the caller gave up in that very moment
		_ = c.Close()
		err = ctx.Err()
	}
	if err != nil {
		cancel()
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return nil, err
	}
	made.Client = c
	return made, nil
}

// call runs f against etcd within limit and explains its error.
func (s *Store) call(ctx context.Context, limit time.Duration, f func(context.Context, *clientv3.Client) error) error {
	vain, much := &s.vain, limit == listTimeout
	if much {
		vain = &s.listsInVain
	}
	switch {
	case s.reached.Load():
		limit = min(limit, firstTimeout<<min(vain.Load(), 3))
	case s.user == "":
		limit = min(limit, firstTimeout)
	}
	// A member that is cut off from the others would keep a call waiting for as
	// long as it lasts; this way it says at once that it has no leader.
	timed, cancel := context.WithTimeout(clientv3.WithRequireLeader(ctx), limit)
	defer cancel()
	c, err := s.connect(timed)
	if err == nil {
		err = f(timed, c.Client)
	}
	late := errors.Is(timed.Err(), context.DeadlineExceeded)
	switch {
	case ctx.Err() != nil:
	case late:
		vain.Add(1)
		s.late.Store(true)
	case !much || err != nil: // a page says nothing of the next, which may be larger: see List
		vain.Store(0)
	}
	if err == nil {
		s.reached.Store(true)
		return nil
	}
	return s.explain(ctx, err)
}
