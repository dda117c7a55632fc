// SPDX-License-Identifier: Apache-2.0

package lease

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"time"

	"vxtap/encap/ether"
)

var errUnfinished = errors.New("not built yet")

// ErrLost is matched by what Keep returns when the lease is no longer this
// host's: deleted, expired, or overwritten with somebody else's address.
var ErrLost = errors.New("lease lost")

// ErrFull is matched by what Acquire returns when the network has no free
// subnet.
var ErrFull = errors.New("out of subnets")

// Options are what a Registry can be told. Zero fields mean the defaults.
type Options struct {
	TTL         time.Duration // of a lease; 24 h
	RenewMargin time.Duration // a lease is renewed no later than this before it expires; 1 h
	Resync      time.Duration // time between full comparisons of all leases; 5 min
	Log         *slog.Logger  // nil: discard
}

// Registry is one network's leases in a store. Its methods may be called
// concurrently.
type Registry struct{}

// New returns a Registry over store, which stays the caller's to close.
func New(store Store, o Options) *Registry { return &Registry{} }

// Config returns the network config. While the store does not answer, or has
// no config, it waits, with a log line that says why at once and then every
// 30 s. A config that does not parse is an error at once, and so is a store
// that refuses us (ErrRefused).
func (r *Registry) Config(ctx context.Context) (Config, error) { return Config{}, errUnfinished }

// Own returns the lease that this host holds already, the first in key order
// with its public IP, to take the MAC address from. It waits for the store as
// Config does.
func (r *Registry) Own(ctx context.Context, publicIP netip.Addr) (Lease, bool, error) {
	return Lease{}, false, errUnfinished
}

// Request is what a host asks a lease with.
type Request struct {
	PublicIP netip.Addr   // its VTEP, IPv4
	MAC      ether.MAC    // its VTEP MAC
	Previous netip.Prefix // the subnet that it had, from subnet.env; the zero Prefix if none
}

// Acquire gets this host a lease in the network c: the one that it holds, else
// its previous subnet if that is free, else a random one of the first 100 free
// ones.
func (r *Registry) Acquire(ctx context.Context, c Config, q Request) (Lease, error) {
	return Lease{}, errUnfinished
}

// Keep renews l until ctx ends (nil) or the lease is lost (ErrLost, with why).
// A store that does not answer is waited for.
func (r *Registry) Keep(ctx context.Context, l Lease) error { return errUnfinished }

// Release gives l up: it deletes the key, if it still is this host's. A
// reservation is left as it is.
func (r *Registry) Release(ctx context.Context, l Lease) error { return errUnfinished }

// Watch follows all leases: publish gets a Snapshot at the start, as soon as
// there is one, and after every change, from one goroutine, never two at once.
// Changes that come while publish runs are joined in the next Snapshot. Watch
// returns only when ctx ends, with nil.
func (r *Registry) Watch(ctx context.Context, publish func(Snapshot)) error { return errUnfinished }

// Status is how a Registry stands with its store.
type Status struct {
	Connected    bool      // the store answered last time
	LastError    string    // why not; kept after the store is back, "" if it never failed
	LastContact  time.Time // of the last answer
	LeaseExpires time.Time // when the lease in Keep's care ends unless renewed; zero: none, or a reservation
	// Conflict says, in a sentence, that somebody writes under our own key
	// with our own public IP but another MAC; "" if nobody does.
	Conflict string
}

// Status returns the present state.
func (r *Registry) Status() Status { return Status{} }
