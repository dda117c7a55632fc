// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"vxtap/test/field"
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
		return r.mark(ctx, f.kind, put(k.key, r.stranger(f.pick, k.six.subnet), 0))
	case valueSpoilt:
		return r.mark(ctx, f.kind, put(k.key, spoilt(f.pick), k.grant))
	case shortened:
		return r.shorten(ctx, f, k)
	case halfHijacked, halfSpoilt:
		return r.hitHalf(ctx, f, k)
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

// hitHalf does what concerns the IPv6 half of a lease alone.
func (r *run) hitHalf(ctx context.Context, f fault, k holding) error {
	switch {
	case !k.six.subnet.IsValid() || !k.whole:
		return errNoLease
	case f.kind == halfSpoilt:
		half := []string{"null", `"VtepMAC"`, `{"VNI":1,"VtepMAC":"01:00:5e:00:00:01"}`, `{"VNI":1}`}
		value := fmt.Sprintf(`{"PublicIP":"%s","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"%s"},"BackendV6Data":%s}`,
			k.host, k.mac, half[f.pick%4])
		return r.mark(ctx, f.kind, put(k.key, value, k.grant))
	}
	four, _ := r.free(f.pick)
	ops := []clientv3.Op{put(keyOf(four, k.six.subnet), r.stranger(f.pick, k.six.subnet), 0)}
	if f.pick>>8%2 == 1 { // the host comes back to an IPv6 subnet that is taken
		ops = append(ops, del(k.key))
	}
	return r.mark(ctx, f.kind, ops...)
}

// spoilt is a value that is nobody's claim.
func spoilt(pick uint64) string {
	all := []string{"", "null", "{}", "\x00\xff", `{"PublicIP":"0.0.0.0","BackendType":"vxlan"}`,
		`{"BackendType":"udp","PublicIP":""}`, `{"PublicIP":17}`, `[[[[`}
	return all[pick%uint64(len(all))]
}

// pair is what is written to etcd: a key below the prefix, and its value.
type pair struct{ key, value string }

// junk6 is what is junk for IPv6.
func (r *run) junk6(free, free6 netip.Prefix, pick uint64) []pair {
	whole := r.stranger(pick, free6)
	outside := netip.MustParsePrefix("fd99:1::/64")
	return []pair{
		{keyOf(free, netip.Prefix{}), whole},                              // IPv4 alone
		{keyOf(free, netip.PrefixFrom(free6.Addr(), 62).Masked()), whole}, // over its neighbours, some of them hosts'
		{keyOf(free, netip.PrefixFrom(free6.Addr(), 96)), whole},
		{keyOf(free, outside), r.stranger(pick, outside)},
		{keyOf(free, free6), valueOf(stranger(pick), netip.MustParseAddr("fd30::1:0:0:0:1"), pick)}, // inside the overlay
		{keyOf(free, free6), valueOf(stranger(pick), netip.MustParseAddr("fe80::1"), pick)},
		{keyOf(free, netip.Prefix{}) + "&garbage", whole},
		{keyOf(free, netip.Prefix{}) + "&" + free6.Addr().String() + "-200", whole},
	}
}

// addJunk writes something below subnets/ that is no lease, or a stranger's.
func (r *run) addJunk(ctx context.Context, f fault) error {
	free, free6 := r.free(f.pick)
	whole := r.stranger(f.pick, free6)
	inside := netip.MustParseAddr("172.30.1.1")
	all := []pair{
		{keyOf(free, free6), whole},
		{keyOf(netip.PrefixFrom(free.Addr(), 26), free6), whole},
		{keyOf(free, free6), spoilt(f.pick)},
		{keyOf(free, free6), valueOf(inside, netip.Addr{}, f.pick)}, // inside the overlay
		{"subnets/10.9.9.0-24", whole},                              // outside the network
		{"subnets/garbage", "garbage"},
		{"subnets/" + free.Addr().String() + "-024", whole},
		{"subnets/x" + free.Addr().String() + "-24", whole},
		{"subnets/" + free.Addr().String() + "-24/more", whole},
		{"subnets-old/" + free.Addr().String() + "-24", whole},
		{"subnets/", ""},
	}
	if r.dual {
		all = append(all, r.junk6(free, free6, f.pick)...)
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

// free returns subnets of both families that nobody holds right now; a daemon may be
// faster. Where there is no IPv6, six is the zero Prefix.
func (r *run) free(pick uint64) (four, six netip.Prefix) {
	r.locked(func() {
		keys := r.judge.history.now().keys
		isFree := func(p netip.Prefix) bool {
			for _, k := range keys {
				if k.has(p) {
					return false
				}
			}
			return true
		}
		for i := range uint64(subnets) {
			if four = subnet(pick + i); isFree(four) {
				break
			}
		}
		for i := uint64(0); i < subnets && r.dual; i++ {
			if six = subnet6(pick + i); isFree(six) {
				break
			}
		}
	})
	return four, six
}

// subnet and subnet6 return one of the network's subnets.
func subnet(n uint64) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{172, 30, byte(n % subnets), 0}), 24)
}

func subnet6(n uint64) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom16([16]byte{0: 0xfd, 1: 0x30, 7: byte(n % subnets)}), 64)
}

// stranger is the value of a host that is not there, and has an IPv6 address if its
// key has an IPv6 half.
func (r *run) stranger(pick uint64, six netip.Prefix) string {
	ip := stranger(pick)
	if !six.IsValid() {
		return valueOf(ip, netip.Addr{}, pick)
	}
	return valueOf(ip, field.IPv6Of(ip), pick)
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
