// SPDX-License-Identifier: Apache-2.0

package lease

import (
	"context"
	"errors"
	"time"
)

// Store is what this package asks of a key-value store with revisions, as etcd
// has them. Keys are relative to the prefix of the network that the store was
// opened for: "config", "subnets/10.5.52.0-24". All methods may be called
// concurrently. Every call ends in bounded time by itself, Watch excepted, and List
// within bounded time of what it has handed over last.
type Store interface {
	Keys
	Grants
}

// Keys reads and writes keys. There is no unconditional write.
type Keys interface {
	// List calls take with every key that starts with prefix, in key order, all
	// read at one revision, which it returns, and which is no older than the last
	// completed write (a linearizable read). What is taken may come in pieces, of
	// which the store keeps none: strangers can put more there than memory holds.
	// With an error, one that matches ErrCompacted among them, what was taken is
	// not all there is, and is to be forgotten.
	List(ctx context.Context, prefix string, take func(Pair)) (revision int64, err error)
	// Put writes key if its Revision still is ifRevision; 0 means that the key
	// must not exist. The key goes when grant ends; grant 0 is for ever. It
	// returns the new revision, or an error that matches ErrConflict.
	Put(ctx context.Context, key string, value []byte, ifRevision int64, grant GrantID) (int64, error)
	// Delete removes key if its Revision still is ifRevision, else it returns
	// an error that matches ErrConflict.
	Delete(ctx context.Context, key string, ifRevision int64) error
	// Move removes one key and writes another, both at once and at one revision,
	// which it returns, if all is as x says, else it returns an error that matches
	// ErrConflict. Otherwise it is as Put.
	Move(ctx context.Context, x Exchange) (int64, error)
	// Watch calls deliver with every change to keys that start with prefix,
	// from revision from onwards, in order, from one goroutine. It returns
	// when ctx ends or when the stream breaks; an error that matches
	// ErrCompacted says that from is too old. A Watch that lost its store must
	// return: a stream that hangs in silence looks like a quiet network.
	Watch(ctx context.Context, prefix string, from int64, deliver func(Batch)) error
}

// Grants are times to live that keys are attached to; etcd calls them leases.
type Grants interface {
	// Grant makes a time to live. The store may round ttl up; what it gave is
	// returned.
	Grant(ctx context.Context, ttl time.Duration) (GrantID, time.Duration, error)
	// KeepAlive starts the time to live afresh and returns it, or an error
	// that matches ErrNoGrant when it has ended.
	KeepAlive(ctx context.Context, id GrantID) (time.Duration, error)
	// Left returns how long a grant lasts unless it is kept alive, or an error
	// that matches ErrNoGrant when it has ended.
	Left(ctx context.Context, id GrantID) (time.Duration, error)
	// Revoke ends a grant, and deletes every key that is attached to it.
	// Ending a grant that has ended already is no error.
	Revoke(ctx context.Context, id GrantID) error
}

// Exchange is one key in the place of another.
type Exchange struct {
	From     string
	Revision int64  // of From
	To       string // does not exist
	Value    []byte // of To
	Grant    GrantID
	// No key that starts with Beside was created after the revision Since; "" where
	// that does not matter.
	Beside string
	Since  int64
}

// GrantID names a grant; 0 is none.
type GrantID int64

// MaxValue is how many bytes of a value a Store hands over. A lease of both
// families has 300, a network config with every field 700. A longer value comes cut
// to one byte more than that, so that it is known for what it is: no reader of this
// package takes it.
const MaxValue = 64 << 10

// Pair is a key with its value. Value belongs to whoever received the Pair. A Store
// may shorten the Key where it is longer than any subnet's, so that two keys still
// differ and the end of each is as it was.
type Pair struct {
	Key      string
	Value    []byte // of at most MaxValue bytes, else cut to MaxValue + 1
	Created  int64  // revision at which the key last came into being
	Revision int64  // revision of its last change
	Grant    GrantID
}

// Event is one change of one key. Of a deleted key only Key and Revision are
// set: what its value was, the store no longer says.
type Event struct {
	Pair
	Deleted bool
}

// Batch is what one message of a watch carries. Events may be empty: the watch
// is alive, and nothing happened up to Revision.
type Batch struct {
	Events []Event
	// Revision: everything up to it has been delivered. It is less than in the
	// Batch before, or than what was asked for, where the store has not come, or
	// comes no more, that far.
	Revision int64
}

// Errors that a Store returns, wrapped with what it knows.
var (
	// ErrConflict: the key is not at the revision that was asked for. Nothing
	// was written.
	ErrConflict = errors.New("key was changed by somebody else")
	// ErrCompacted: the store no longer has the history that a watch asked for.
	ErrCompacted = errors.New("revision was compacted")
	// ErrNoGrant: the grant has ended or never was.
	ErrNoGrant = errors.New("grant has ended")
	// ErrRefused: the store is there and will not have us, or we must not have
	// it: a certificate that does not verify, a wrong password, no permission.
	// Waiting alone does not mend it.
	ErrRefused = errors.New("refused")
	// ErrNoSpace: the store is there, and has no space for Put, Move and Grant. It
	// answers everything else. Somebody has to make room.
	ErrNoSpace = errors.New("no space")
)
