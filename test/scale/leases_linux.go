// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	clientv3 "go.etcd.io/etcd/client/v3"

	"vxtap/test/field"
)

// first is the number of the first lease: the first subnet is nobody's, since
// flannel does not give it away. It is the one that probes go to.
const first = 1

// measureLeases measures one daemon among many leases.
func (b *bench) measureLeases(ctx context.Context, f *figures) error {
	h, err := b.field.AddHost(b.vxtap, prefix)
	if err != nil {
		return err
	}
	p, err := b.newProbe(h)
	if err != nil {
		return err
	}
	defer p.close()
	// Of two and of ten leases, to compare with.
	if err := b.fill(ctx, first, first+2, p); err != nil {
		return err
	}
	if _, err := b.startHost(ctx, h, p); err != nil {
		return err
	}
	if f.kernel[0], err = b.countKernel(h); err != nil {
		return err
	}
	if err := b.fill(ctx, first+2, first+10, p); err != nil {
		return err
	}
	if f.few, err = steady(ctx, h); err != nil {
		return err
	}
	if err := errors.Join(h.End(syscall.SIGTERM), b.fill(ctx, first+10, first+b.leases, p)); err != nil {
		return err
	}
	b.say("%d leases are in etcd", b.leases)
	if err := b.measureStarts(ctx, h, p, f); err != nil {
		return err
	}
	if f.kernel[1], err = b.countKernel(h); err != nil {
		return err
	}
	if f.changes, f.puts, err = b.measureChanges(ctx, p); err != nil {
		return err
	}
	b.say("changes: half within %v, 90 in a hundred %v, 95 %v, 99 %v, all %v", quantile(f.changes, 50), quantile(f.changes, 90),
		quantile(f.changes, 95), quantile(f.changes, 99), quantile(f.changes, 100))
	f.many, err = steady(ctx, h)
	return errors.Join(err, h.End(syscall.SIGTERM))
}

// measureStarts starts the daemon again and again, as on its first day, with
// etcd there and with an etcd that comes later. At the end it runs.
func (b *bench) measureStarts(ctx context.Context, h *field.Host, p *probe, f *figures) error {
	m := b.field.Members[0]
	for n := range 2 * b.starts {
		if err := errors.Join(h.End(syscall.SIGTERM), forget(h)); err != nil {
			return err
		}
		if n%2 == 0 {
			took, err := b.startHost(ctx, h, p)
			if err != nil {
				return err
			}
			f.starts = append(f.starts, took)
			continue
		}
		if err := errors.Join(m.End(syscall.SIGKILL), h.Start()); err != nil {
			return err
		}
		// It finds nobody, again and again, and is asleep when etcd comes.
		if err := field.Pause(ctx, 3*time.Second+time.Duration(n)*170*time.Millisecond); err != nil {
			return err
		}
		if err := m.Start(); err != nil {
			return err
		}
		answered, err := b.answers(ctx)
		if err != nil {
			return err
		}
		arrived, err := p.first(ctx, answered)
		if err != nil {
			return err
		}
		f.returns = append(f.returns, max(0, arrived.Sub(answered)))
	}
	b.say("starts: %v; etcd came back: %v", f.starts, f.returns)
	return nil
}

// startHost starts the daemon and returns how long it took until its first
// packet was where it belongs.
func (b *bench) startHost(ctx context.Context, h *field.Host, p *probe) (time.Duration, error) {
	begin := time.Now()
	if err := h.Start(); err != nil {
		return 0, err
	}
	arrived, err := p.first(ctx, begin)
	return arrived.Sub(begin), err
}

// forget takes away what the host knows of before.
func forget(h *field.Host) error {
	return errors.Join(removeAll(h.SubnetFile()), removeAll(filepath.Join(h.Dir, "*.json")))
}

// fill puts the leases from a up to b. The first one is the probe's.
func (b *bench) fill(ctx context.Context, from, to int, p *probe) error {
	for i := from; i < to; {
		var ops []clientv3.Op
		for ; i < to && len(ops) < 100; i++ {
			at := b.vteps(i)
			if i == first {
				at = p.at(0)
			}
			ops = append(ops, clientv3.OpPut(b.key(i), b.value(at, i)))
		}
		if _, err := b.client.Txn(ctx).Then(ops...).Commit(); err != nil {
			return fmt.Errorf("put %d leases: %w", to-from, err)
		}
	}
	return nil
}

// steady returns the memory of a daemon that has nothing to do for a while, in
// MiB.
func steady(ctx context.Context, h *field.Host) (float64, error) {
	if err := field.Pause(ctx, 10*time.Second); err != nil {
		return 0, err
	}
	n, err := h.Memory()
	return float64(n) / (1 << 20), err
}

// countKernel returns what the host's kernel has of the overlay, of both families.
func (b *bench) countKernel(h *field.Host) (k kernel, err error) {
	devices := []struct {
		name   string
		family int
	}{{"flannel.1", netlink.FAMILY_V4}, {"flannel-v6.1", netlink.FAMILY_V6}}
	if !b.dual {
		devices = devices[:1]
	}
	err = h.Namespace().Do(func() error {
		for _, d := range devices {
			link, err := netlink.LinkByName(d.name)
			if err != nil {
				return err
			}
			routes, err := netlink.RouteList(link, d.family)
			if err != nil {
				return err
			}
			neighbours, err := netlink.NeighList(link.Attrs().Index, d.family)
			if err != nil {
				return err
			}
			k.routes += len(routes)
			for _, n := range neighbours {
				if n.State&netlink.NUD_NOARP == 0 { // those are of multicast groups
					k.neighbours++
				}
			}
		}
		return nil
	})
	return k, err
}
