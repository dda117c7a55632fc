// SPDX-License-Identifier: Apache-2.0

package lease

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"
)

// ErrLost is matched by what Keep returns when the lease is no longer this
// host's: deleted, expired, or overwritten with somebody else's address.
var ErrLost = errors.New("lease lost")

// ErrFull is matched by what Acquire returns when the network has no free
// subnet.
var ErrFull = errors.New("out of subnets")

// ErrNoIPv6 is matched by what Acquire returns when the host can have its lease for
// IPv4, and no IPv6 half beside it: without a PublicIPv6 it is asked for that.
var ErrNoIPv6 = errors.New("no IPv6 half")

// Options are what a Registry can be told. Zero fields mean the defaults.
type Options struct {
	TTL         time.Duration   // of a lease; 24 h, as flannel's; whole seconds, rounded up
	RenewMargin time.Duration   // a lease is renewed no later than this before it expires; 1 h
	Resync      time.Duration   // time between full comparisons of all leases; 5 min
	Pick        func(n int) int // chooses among n free subnets, 0 to n-1; at random
	Log         *slog.Logger    // nil: discard
}

func (o Options) withDefaults() Options {
	if o.TTL <= 0 {
		o.TTL = 24 * time.Hour
	}
	o.TTL = (o.TTL + time.Second - 1).Truncate(time.Second)
	if o.RenewMargin <= 0 {
		o.RenewMargin = time.Hour
	}
	if o.Resync <= 0 {
		o.Resync = 5 * time.Minute
	}
	if o.Pick == nil {
		o.Pick = rand.IntN
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

// Registry is one network's leases in a store. Its methods may be called
// concurrently.
type Registry struct {
	store *contact
	o     Options
	log   *slog.Logger
	signs signs

	mu       sync.Mutex
	granted  GrantID   // the last grant made here that a key is attached to
	expires  time.Time // of the lease in Keep's care
	conflict string
	// The config as it was last read, for Memory.
	lastConfig      Config
	lastConfigValue []byte
	spare           []Lease // that was given back; nil: none
}

// New returns a Registry over store, which stays the caller's to close.
func New(store Store, o Options) *Registry {
	o = o.withDefaults()
	return &Registry{store: &contact{Store: store}, o: o, log: o.Log}
}

// Status is how a Registry stands with its store.
type Status struct {
	Connected    bool      // the store answered last time
	LastError    string    // why not; kept after the store is back, "" if it never failed
	LastContact  time.Time // of the last answer
	NoSpace      string    // why the store takes no writes, and what to do; "" if it does, or was not asked to
	LeaseExpires time.Time // when the lease in Keep's care ends unless renewed; zero: none, or a reservation
	// Conflict says, in a sentence, that somebody writes under our own key
	// with our own public IP but another MAC, or that what stands there is
	// broken; "" if all is well.
	Conflict string
}

// Status returns the present state. It never waits for the store.
func (r *Registry) Status() Status {
	s := r.store.status()
	r.mu.Lock()
	defer r.mu.Unlock()
	s.LeaseExpires, s.Conflict = r.expires, r.conflict
	return s
}

func (r *Registry) setExpires(t time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.expires = t
}

// configPoll is how often a config that is not there yet is looked for, as
// flannel does.
const configPoll = time.Second

// Config returns the network config. While the store does not answer, or has
// no config, it waits, with a log line that says why at once and then every
// 30 s. A config that does not parse is an error at once, and so is a store
// that refuses us (ErrRefused).
func (r *Registry) Config(ctx context.Context) (Config, error) {
	c, err := r.config(ctx)
	if err != nil {
		return Config{}, fmt.Errorf("read network config: %w", err)
	}
	return c, nil
}

func (r *Registry) config(ctx context.Context) (Config, error) {
	var said pace
	for {
		p, err := r.pair(ctx, configKey)
		if err != nil {
			return Config{}, err
		}
		if p.Revision != 0 {
			return r.readConfig(p.Value)
		}
		if said.due("") {
			r.log.Warn("waiting for the network config", "key", r.path(configKey), "reason", "the key does not exist: put the network config there")
		}
		if err := sleep(ctx, configPoll); err != nil {
			return Config{}, err
		}
	}
}

func (r *Registry) readConfig(value []byte) (Config, error) {
	c, err := ParseConfig(value)
	if err != nil {
		return Config{}, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lastConfig, r.lastConfigValue = c, value
	return c, nil
}

// Own returns the lease that this host holds already, the first in key order
// with its public IP whose value is whole, to take the MAC address from. It
// waits for the store as Config does.
func (r *Registry) Own(ctx context.Context, publicIP netip.Addr) (Lease, bool, error) {
	b, err := r.book(ctx, book{keep: func(e *entry) bool { return e.Attrs.PublicIP == publicIP }})
	if err != nil {
		return Lease{}, false, fmt.Errorf("look for own lease: %w", err)
	}
	for _, e := range b.entries {
		if e.fault == "" && e.Attrs.BackendType == backendVXLAN && e.Attrs.PublicIP == publicIP {
			return e.Lease, true, nil
		}
	}
	return Lease{}, false, nil
}

// book reads everything under subnets into b, with patience.
func (r *Registry) book(ctx context.Context, b book) (*book, error) {
	var read *book
	err := r.patientRead(ctx, func(from Keys) (err error) {
		read, err = b.read(ctx, from)
		return err
	})
	return read, err
}

// pair reads one key, with patience; its Revision is 0 if there is none.
func (r *Registry) pair(ctx context.Context, key string) (p Pair, err error) {
	err = r.patientRead(ctx, func(from Keys) error {
		p, _, err = readPair(ctx, from, key)
		return err
	})
	return p, err
}

// readPair reads one key, and returns the revision at which it did, too. The
// key's own Revision is 0 if there is none.
func readPair(ctx context.Context, from Keys, key string) (p Pair, revision int64, err error) {
	revision, err = listWhole(func() (int64, error) {
		p = Pair{}
		return from.List(ctx, key, func(x Pair) {
			if x.Key == key {
				p = x
			}
		})
	})
	return p, revision, err
}

// wholeTries is how often a read is begun that the store's compaction of its
// history has cut off, which etcd does every few minutes, and a read of several
// pieces takes seconds.
const wholeTries = 5

// listWhole calls list, which calls List, until it has read all.
func listWhole(list func() (int64, error)) (revision int64, err error) {
	for range wholeTries {
		if revision, err = list(); !errors.Is(err, ErrCompacted) {
			break
		}
	}
	return revision, err
}

// patient calls f until the store answers it, whatever the answer is, and says
// in the log what it waits for. A read that is always cut off by the compaction of the
// store's history (see listWhole) is no answer. Beside what f returns it returns ctx's
// error.
func (r *Registry) patient(ctx context.Context, f func() error) error {
	return r.patientRead(ctx, func(Keys) error { return f() })
}

// patientRead is patient for an f that reads what may be much, from the keys that it is
// given.
func (r *Registry) patientRead(ctx context.Context, f func(from Keys) error) error {
	var said pace
	b := backoff{least: 100 * time.Millisecond, most: 2 * time.Second}
	alive := r.signs.begin("waiting for etcd")
	defer alive.end()
	for {
		alive.within(turnWithin)
		err := f(alive.reads(r.store))
		// What was compacted while it was read can be read anew.
		if answered(err) && !errors.Is(err, ErrCompacted) {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		switch due := said.due(err.Error()); {
		case due && errors.Is(err, ErrNoSpace):
			r.log.Warn("waiting for etcd to take writes again", "error", err)
		case due:
			r.log.Warn("waiting for etcd", "error", err)
		}
		if err := sleep(ctx, b.next()); err != nil {
			return err
		}
	}
}

// path returns key as people find it in the store.
func (r *Registry) path(key string) string {
	if p, ok := r.store.Store.(interface{ Path(key string) string }); ok {
		return p.Path(key)
	}
	return key
}
