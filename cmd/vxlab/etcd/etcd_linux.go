// SPDX-License-Identifier: Apache-2.0

package etcd

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver"
	"go.etcd.io/etcd/server/v3/storage/wal"
)

// Sizes in bytes and times. A lab holds a few keys a host, and its state may be
// on a small tmpfs: etcd would allocate two log segments of 64 MB each.
const (
	quota       = 64 << 20
	segmentSize = 4 << 20
	// One member never loses an election, so it need not wait a second
	// before it stands for one.
	tick     = 20 * time.Millisecond
	election = 200 * time.Millisecond
	ready    = 20 * time.Second // for the first start on a machine that is very busy
)

// Serve runs the server until ctx ends, then closes it and returns nil. It
// writes its warnings to stderr. Because etcd keeps the size of its log
// segments in a variable of its own, only one Serve may run in a process.
func Serve(ctx context.Context, c Config) error {
	wal.SegmentSizeBytes = segmentSize
	server, err := embed.StartEtcd(c.embed())
	if err != nil {
		return fmt.Errorf("start etcd: %w", err)
	}
	defer server.Close()
	late := time.NewTimer(ready)
	defer late.Stop()
	select {
	case <-server.Server.ReadyNotify():
	case err := <-server.Err():
		return fmt.Errorf("start etcd: %w", err)
	case <-late.C:
		return fmt.Errorf("start etcd: not ready after %v", ready)
	case <-ctx.Done():
		return nil
	}
	if err := putOnce(ctx, server.Server, c.Key, c.Value); err != nil && ctx.Err() == nil {
		return err
	}
	select {
	case <-server.Server.StopNotify():
		return errors.New("etcd stopped by itself")
	case err := <-server.Err():
		return fmt.Errorf("serve etcd: %w", err)
	case <-ctx.Done():
		return nil
	}
}

// embed returns the server's configuration.
func (c Config) embed() *embed.Config {
	client := url.URL{Scheme: "http", Host: c.Client.String()}
	peer := url.URL{Scheme: "http", Host: c.Peer.String()}
	e := embed.NewConfig()
	e.Name = "lab"
	e.Dir = c.Dir
	e.ListenClientUrls, e.AdvertiseClientUrls = []url.URL{client}, []url.URL{client}
	e.ListenPeerUrls, e.AdvertisePeerUrls = []url.URL{peer}, []url.URL{peer}
	e.InitialCluster = e.InitialClusterFromName(e.Name)
	e.TickMs, e.ElectionMs = uint(tick.Milliseconds()), uint(election.Milliseconds())
	e.QuotaBackendBytes = quota
	e.UnsafeNoFsync = true
	e.LogOutputs, e.LogLevel = []string{"stderr"}, "warn"
	return e
}

// putOnce makes a key unless it is there already: after a restart a client may
// have changed it, and a new revision would look like another change.
func putOnce(ctx context.Context, server *etcdserver.EtcdServer, key, value string) error {
	_, err := server.Txn(ctx, &etcdserverpb.TxnRequest{
		Compare: []*etcdserverpb.Compare{{
			Key: []byte(key), Target: etcdserverpb.Compare_VERSION, Result: etcdserverpb.Compare_EQUAL,
			TargetUnion: &etcdserverpb.Compare_Version{Version: 0},
		}},
		Success: []*etcdserverpb.RequestOp{{Request: &etcdserverpb.RequestOp_RequestPut{
			RequestPut: &etcdserverpb.PutRequest{Key: []byte(key), Value: []byte(value)},
		}}},
	})
	if err != nil {
		return fmt.Errorf("put %s: %w", key, err)
	}
	return nil
}
