// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

var errNoLease = errors.New("it has no lease right now")

// mark writes to etcd, with the mark of a fault.
func (r *run) mark(ctx context.Context, k kind, ops ...clientv3.Op) error {
	ops = append(ops, clientv3.OpPut(markKey, string(k)))
	_, err := r.recorder.client().Txn(ctx).Then(ops...).Commit()
	return err
}

func del(key string) clientv3.Op { return clientv3.OpDelete(prefix + key) }

func put(key, value string, grant int64) clientv3.Op {
	return clientv3.OpPut(prefix+key, value, clientv3.WithLease(clientv3.LeaseID(grant)))
}

// hitStore does what takes a moment: it changes what is in etcd.
func (r *run) hitStore(ctx context.Context, f fault) error {
	switch f.kind {
	case compacted:
		return r.compact(ctx)
	case junkAdded:
		return r.addJunk(ctx, f)
	default:
	}
	k, ok := r.lease(f.hosts[0])
	if !ok {
		return errNoLease
	}
	switch f.kind {
	case revoked:
		if k.grant == 0 {
			return errNoLease
		}
		r.recorder.mu.Lock()
		r.recorder.revoked[k.grant] = true
		r.recorder.mu.Unlock()
		_, err := r.recorder.client().Revoke(ctx, clientv3.LeaseID(k.grant))
		return err
	case keyDeleted:
		return r.mark(ctx, f.kind, del(k.key))
	case keyHijacked:
		return r.mark(ctx, f.kind, put(k.key, valueOf(stranger(f.pick), f.pick), 0))
	case valueSpoilt:
		return r.mark(ctx, f.kind, put(k.key, spoilt(f.pick), k.grant))
	case shortened:
		return r.shorten(ctx, f, k)
	default:
		return fmt.Errorf("nobody knows how to do %q", f.kind)
	}
}

// compact takes the history away that everybody who is cut off would need, and
// gives the room back.
func (r *run) compact(ctx context.Context) error {
	r.recorder.mu.Lock()
	told := r.recorder.told
	r.recorder.mu.Unlock()
	if _, err := r.recorder.client().Compact(ctx, told); err != nil {
		return err
	}
	for i, m := range r.field.Members {
		one, cancel := context.WithTimeout(ctx, time.Second)
		if _, err := r.recorder.clients[i].Defragment(one, m.URL()); err != nil {
			r.say("%s is not defragmented: %v", m.Name, err)
		}
		cancel()
	}
	return nil
}

// shorten puts a lease's own value again, with 2 to 5 s to live.
func (r *run) shorten(ctx context.Context, f fault, k holding) error {
	c := r.recorder.client()
	got, err := c.Get(ctx, prefix+k.key)
	if err != nil || len(got.Kvs) == 0 {
		return errors.Join(errNoLease, err)
	}
	grant, err := c.Grant(ctx, 2+int64(f.pick%4))
	if err != nil {
		return err
	}
	resp, err := c.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(prefix+k.key), "=", got.Kvs[0].ModRevision)).
		Then(put(k.key, string(got.Kvs[0].Value), int64(grant.ID)), clientv3.OpPut(markKey, string(f.kind))).Commit()
	if err == nil && !resp.Succeeded {
		err = errNoLease
	}
	return err
}

// spoilt is a value that is nobody's claim.
func spoilt(pick uint64) string {
	all := []string{"", "null", "{}", "\x00\xff", `{"PublicIP":"0.0.0.0","BackendType":"vxlan"}`,
		`{"BackendType":"udp","PublicIP":""}`, `{"PublicIP":17}`, `[[[[`}
	return all[pick%uint64(len(all))]
}

// addJunk writes something below subnets/ that is no lease, or a stranger's.
func (r *run) addJunk(ctx context.Context, f fault) error {
	free := r.free(f.pick)
	whole := valueOf(stranger(f.pick), f.pick)
	all := []struct{ key, value string }{
		{keyOf(free), whole},
		{keyOf(netip.PrefixFrom(free.Addr(), 26)), whole},
		{keyOf(free), spoilt(f.pick)},
		{keyOf(free), valueOf(netip.MustParseAddr("172.30.1.1"), f.pick)}, // inside the overlay
		{"subnets/10.9.9.0-24", whole},                                    // outside the network
		{"subnets/garbage", "garbage"},
		{"subnets/" + free.Addr().String() + "-024", whole},
		{"subnets/x" + free.Addr().String() + "-24", whole},
		{"subnets/" + free.Addr().String() + "-24/more", whole},
		{"subnets-old/" + free.Addr().String() + "-24", whole},
		{"subnets/", ""},
	}
	a := all[(f.pick>>8)%uint64(len(all))]
	key := prefix + a.key
	resp, err := r.recorder.client().Txn(ctx).If(clientv3.Compare(clientv3.Version(key), "=", 0)).
		Then(put(a.key, a.value, 0), clientv3.OpPut(markKey, string(f.kind))).Commit()
	if err == nil && !resp.Succeeded {
		err = errors.New("the key is taken")
	}
	return err
}

// free returns a subnet that nobody holds right now; a daemon may be faster.
func (r *run) free(pick uint64) (p netip.Prefix) {
	r.locked(func() {
		for i := range uint64(subnets) {
			p = netip.PrefixFrom(netip.AddrFrom4([4]byte{172, 30, byte((pick + i) % subnets), 0}), 24)
			if _, taken := r.judge.history.now().keys[keyOf(p)]; !taken {
				return
			}
		}
	})
	return p
}

// clear deletes whatever is no host's: the last fault of a round.
func (r *run) clear(ctx context.Context) error {
	var ops []clientv3.Op
	r.locked(func() {
		for key, k := range r.judge.history.now().keys {
			if !r.judge.isHost(k.owner) {
				ops = append(ops, del(key))
			}
		}
	})
	if len(ops) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	r.say("%d keys of strangers are deleted", len(ops))
	return r.mark(ctx, "strangers' keys deleted", ops...)
}
