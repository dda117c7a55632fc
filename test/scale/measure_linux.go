// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"vxtap/test/field"
)

// Where everything is in etcd.
const (
	prefix        = "/scale/network/"
	network       = "100.64.0.0/10"
	networkIPv6   = "fd64::/48"
	networkConfig = `{"Network": "` + network + `", "SubnetLen": 24, "EnableNFTables": true, "Backend": {"Type": "vxlan"}`
	dualConfig    = `, "EnableIPv6": true, "IPv6Network": "` + networkIPv6 + `", "IPv6SubnetLen": 64`
)

// bench is one field with one member of etcd, which has the config.
type bench struct {
	settings
	progress io.Writer
	field    *field.Field
	client   *clientv3.Client
}

func measure(ctx context.Context, s settings, progress io.Writer) (f figures, err error) {
	if err := os.RemoveAll(s.dir); err != nil {
		return f, err
	}
	b, err := newBench(ctx, s, progress)
	if err != nil {
		return f, err
	}
	defer b.client.Close()
	f.settings = s
	if s.leases > 0 {
		err = b.measureLeases(ctx, &f)
	}
	if err == nil && s.nodes > 0 {
		err = b.measureNodes(ctx, &f)
	}
	return f, errors.Join(err, b.stop())
}

func newBench(ctx context.Context, s settings, progress io.Writer) (*bench, error) {
	f, err := field.New(s.dir, s.dual)
	if err != nil {
		return nil, err
	}
	if s.vxtap, err = filepath.Abs(s.vxtap); err != nil {
		return nil, err
	}
	if err := f.AddMembers(1); err != nil {
		return nil, err
	}
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{f.Members[0].URL()}, Logger: zap.NewNop()})
	if err != nil {
		return nil, err
	}
	b := &bench{settings: s, progress: progress, field: f, client: c}
	if _, err := b.answers(ctx); err != nil {
		return nil, err
	}
	config := networkConfig
	if s.dual {
		config += dualConfig
	}
	_, err = c.Put(ctx, prefix+"config", config+"}")
	return b, err
}

// answers returns when etcd answers, and when that was.
func (b *bench) answers(ctx context.Context) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		one, cancel := context.WithTimeout(ctx, time.Second)
		_, err := b.client.Get(one, prefix+"config")
		cancel()
		if err == nil {
			return time.Now(), nil
		}
		if field.Pause(ctx, 5*time.Millisecond) != nil {
			return time.Time{}, fmt.Errorf("etcd does not answer: %w", err)
		}
	}
}

// stop ends every daemon.
func (b *bench) stop() error {
	var errs []error
	for _, h := range b.field.Hosts {
		errs = append(errs, h.End(syscall.SIGKILL))
	}
	return errors.Join(errs...)
}

func (b *bench) say(format string, args ...any) {
	fmt.Fprintf(b.progress, format+"\n", args...)
}

// subnets are those of the lease number i, IPv4 first; vteps are its host's addresses.
func (b *bench) subnets(i int) []netip.Prefix {
	all := []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{100, byte(64 + i>>8), byte(i), 0}), 24)}
	if b.dual {
		all = append(all, netip.PrefixFrom(netip.AddrFrom16([16]byte{0: 0xfd, 1: 0x64, 6: byte(i >> 8), 7: byte(i)}), 64))
	}
	return all
}

func (b *bench) vteps(i int) []netip.Addr {
	all := []netip.Addr{netip.AddrFrom4([4]byte{11, byte(i >> 16), byte(i >> 8), byte(i)})}
	if b.dual {
		all = append(all, netip.AddrFrom16([16]byte{0: 0xfd, 1: 0x11, 13: byte(i >> 16), 14: byte(i >> 8), 15: byte(i)}))
	}
	return all
}

func (b *bench) key(i int) string {
	subnets := b.subnets(i)
	key := fmt.Sprintf("%ssubnets/%s-24", prefix, subnets[0].Addr())
	if b.dual {
		key += fmt.Sprintf("&%s-64", subnets[1].Addr())
	}
	return key
}

// value is that of the lease number i, whose host is at addrs.
func (b *bench) value(addrs []netip.Addr, i int) string {
	mac := func(n int) string {
		return fmt.Sprintf("02:%02x:00:%02x:%02x:%02x", n, byte(i>>16), byte(i>>8), byte(i))
	}
	if !b.dual {
		return fmt.Sprintf(`{"PublicIP":"%s","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"%s"}}`, addrs[0], mac(1))
	}
	return fmt.Sprintf(`{"PublicIP":"%s","PublicIPv6":"%s","BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"%s"},"BackendV6Data":{"VNI":1,"VtepMAC":"%s"}}`,
		addrs[0], addrs[1], mac(1), mac(2))
}
