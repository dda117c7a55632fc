// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"net/netip"
	"path/filepath"
	"time"

	"vxtap/cmd/vxlab/lab"
	"vxtap/lease"
	"vxtap/test/bed"
)

// vxtapDevice is the name of the daemon's TAP.
const vxtapDevice = "flannel.1"

// addVxtap makes two hosts that run the daemon program with more flags.
func (b *bench) addVxtap(ctx context.Context, program string, args ...string) (*contestant, error) {
	var daemons []*daemon
	c, err := b.pair(ctx, func(_ int, n node) (netip.Prefix, error) {
		file := filepath.Join(n.RunDir, "subnet.env")
		d, err := start(n.host, "vxtap on "+n.Node, n.Log, append([]string{
			program, "-etcd-endpoints=" + b.lab.EtcdURL(), "-etcd-prefix=" + lab.EtcdPrefix,
			"-iface=eth0", "-subnet-file=" + file, "-run-dir=" + n.RunDir, "-state-dir=none",
		}, args...)...)
		if err != nil {
			return netip.Prefix{}, err
		}
		daemons = append(daemons, d)
		env, err := leased(ctx, d, file)
		if err != nil {
			return netip.Prefix{}, err
		}
		return env.Subnet, bed.AddContainer(n.host, n.container, env.Subnet, env.MTU)
	})
	if err != nil {
		return nil, err
	}
	c.daemons = daemons
	return c, nil
}

// leased waits for what a daemon writes when it has its lease.
func leased(ctx context.Context, d *daemon, file string) (lease.SubnetEnv, error) {
	ctx, cancel := context.WithTimeout(ctx, reachTime)
	defer cancel()
	for {
		env, err := lease.ReadSubnetEnv(file)
		if err == nil {
			return env, nil
		}
		if err := d.died(); err != nil {
			return env, err
		}
		if ctx.Err() != nil {
			return env, fmt.Errorf("%s has no lease: %w", d.name, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}
