// SPDX-License-Identifier: Apache-2.0

package etcd

import (
	"context"
	"errors"
	"fmt"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"

	"vxtap/lease"
)

// Grant implements lease.Grants.
func (s *Store) Grant(ctx context.Context, ttl time.Duration) (lease.GrantID, time.Duration, error) {
	var id lease.GrantID
	var given time.Duration
	err := s.call(ctx, callTimeout, func(ctx context.Context, c *clientv3.Client) error {
		resp, err := c.Grant(ctx, int64((ttl+time.Second-1)/time.Second))
		if err != nil {
			return err
		}
		id, given = lease.GrantID(resp.ID), time.Duration(resp.TTL)*time.Second
		return nil
	})
	if err != nil {
		return 0, 0, fmt.Errorf("ask etcd for a lease: %w", err)
	}
	return id, given, nil
}

// KeepAlive implements lease.Grants. The client's own KeepAliveOnce tries again
// without a pause for as long as a member has no leader; this asks once.
func (s *Store) KeepAlive(ctx context.Context, id lease.GrantID) (time.Duration, error) {
	var ttl time.Duration
	err := s.call(ctx, callTimeout, func(ctx context.Context, c *clientv3.Client) error {
		stream, err := pb.NewLeaseClient(c.ActiveConnection()).LeaseKeepAlive(ctx, grpc.WaitForReady(true))
		if err != nil {
			return err
		}
		if err := stream.Send(&pb.LeaseKeepAliveRequest{ID: int64(id)}); err != nil {
			return err
		}
		resp, err := stream.Recv()
		if err != nil {
			return err
		}
		ttl = time.Duration(resp.TTL) * time.Second
		if err := stream.CloseSend(); err != nil {
			return err
		}
		if ttl <= 0 {
			return lease.ErrNoGrant
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("keep etcd lease alive: %w", err)
	}
	return ttl, nil
}

// Left implements lease.Grants.
func (s *Store) Left(ctx context.Context, id lease.GrantID) (time.Duration, error) {
	var left time.Duration
	err := s.call(ctx, callTimeout, func(ctx context.Context, c *clientv3.Client) error {
		resp, err := c.TimeToLive(ctx, clientv3.LeaseID(id))
		if err != nil {
			return err
		}
		if resp.TTL < 0 { // of a lease that is not there
			return lease.ErrNoGrant
		}
		left = time.Duration(resp.TTL) * time.Second
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("ask etcd for a lease's time: %w", err)
	}
	return left, nil
}

// Revoke implements lease.Grants.
func (s *Store) Revoke(ctx context.Context, id lease.GrantID) error {
	err := s.call(ctx, callTimeout, func(ctx context.Context, c *clientv3.Client) error {
		_, err := c.Revoke(ctx, clientv3.LeaseID(id))
		return err
	})
	if err != nil && !errors.Is(err, lease.ErrNoGrant) {
		return fmt.Errorf("revoke etcd lease: %w", err)
	}
	return nil
}
