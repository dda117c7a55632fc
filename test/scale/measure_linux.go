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

// enter moves the program into a field. The code is -1 inside.
func enter() (int, error) {
	if len(os.Args) > 1 && (os.Args[1] == "-h" || os.Args[1] == "-help") {
		return -1, nil
	}
	code, outside, err := field.Enter()
	switch {
	case !outside:
		code = -1
	case err != nil && code == 0:
		code = 1
	}
	return code, err
}

// Where everything is in etcd.
const (
	prefix        = "/scale/network/"
	network       = "100.64.0.0/10"
	networkConfig = `{"Network": "` + network + `", "SubnetLen": 24, "EnableNFTables": true, "Backend": {"Type": "vxlan"}}`
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
	f, err := field.New(s.dir)
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
	_, err = c.Put(ctx, prefix+"config", networkConfig)
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
		if pause(ctx, 5*time.Millisecond) != nil {
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

// subnet is that of the lease number i, and vtep its host's address.
func subnet(i int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{100, byte(64 + i>>8), byte(i), 0}), 24)
}

func vtep(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{11, byte(i >> 16), byte(i >> 8), byte(i)})
}

func key(i int) string {
	return fmt.Sprintf("%ssubnets/%s-24", prefix, subnet(i).Addr())
}

func value(ip netip.Addr, i int) string {
	return fmt.Sprintf(`{"PublicIP":"%s","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"02:01:00:%02x:%02x:%02x"}}`,
		ip, byte(i>>16), byte(i>>8), byte(i))
}

// pause waits for d, or returns ctx's error.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
