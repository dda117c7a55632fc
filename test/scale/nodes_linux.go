// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sync/errgroup"

	"vxtap/test/field"
)

// nodesWait bounds the start of all daemons.
const nodesWait = 2 * time.Minute

// measureNodes starts many daemons at once, on hosts of their own, in an empty
// network.
func (b *bench) measureNodes(ctx context.Context, f *figures) error {
	if _, err := b.client.Delete(ctx, prefix+"subnets/", clientv3.WithPrefix()); err != nil {
		return err
	}
	var hosts []*field.Host
	for range b.nodes {
		h, err := b.field.AddHost(b.vxtap, prefix)
		if err != nil {
			return err
		}
		hosts = append(hosts, h)
	}
	b.say("%d hosts are there", b.nodes)
	ctx, cancel := context.WithTimeout(ctx, nodesWait)
	defer cancel()
	begin := time.Now()
	group, ctx := errgroup.WithContext(ctx)
	for _, h := range hosts {
		group.Go(func() error {
			if err := h.Start(); err != nil {
				return err
			}
			return awaitReady(ctx, h)
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	f.ready = time.Since(begin)
	resp, err := b.client.Get(context.WithoutCancel(ctx), prefix+"subnets/", clientv3.WithPrefix(), clientv3.WithKeysOnly())
	if err != nil {
		return err
	}
	f.distinct = len(resp.Kvs)
	return nil
}

// awaitReady returns when the daemon says that it forwards.
func awaitReady(ctx context.Context, h *field.Host) error {
	for {
		s, err := h.Status(ctx)
		if err == nil && s.State == field.StateReady {
			return nil
		}
		if h.Unasked() {
			return fmt.Errorf("%s ended: see %s", h.Name, h.Log())
		}
		if field.Pause(ctx, 100*time.Millisecond) != nil {
			return fmt.Errorf("%s is not ready (%q, %w): see %s", h.Name, s.State, err, h.Log())
		}
	}
}
