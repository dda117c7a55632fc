// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"vxtap/cmd/vxlab/netns"
	"vxtap/encap/ether"
	"vxtap/lease"
)

// EtcdCommand is the subcommand with which the lab starts its etcd server from
// Options.Vxlab.
const EtcdCommand = "etcd-server"

// The flags of EtcdCommand, each with one value: see etcd.Config.
const (
	EtcdDirFlag    = "dir"
	EtcdClientFlag = "client"
	EtcdPeerFlag   = "peer"
	EtcdKeyFlag    = "key"
	EtcdValueFlag  = "value"
)

// How long the parts may take to come up. A machine under load is slow; a
// daemon that cannot come up says so and ends, which is noticed at once.
const (
	etcdWait   = 30 * time.Second
	daemonWait = 30 * time.Second
	askWait    = 2 * time.Second // for one answer
)

// startEtcd starts the etcd server and puts it on record.
func (l *Lab) startEtcd() error {
	net, err := l.open(Underlay)
	if err != nil {
		return err
	}
	defer net.Close()
	p := &process{name: "etcd", log: l.etcdLog()}
	if err := launch(net, p, l.deaths, l.options.Vxlab, EtcdCommand,
		"-"+EtcdDirFlag+"="+filepath.Join(StateDir(l.options.Name), "etcd"),
		"-"+EtcdClientFlag+"="+netip.AddrPortFrom(l.options.gateway(), etcdPort).String(),
		"-"+EtcdPeerFlag+"="+netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), peerPort).String(),
		"-"+EtcdKeyFlag+"="+EtcdPrefix+"/config",
		"-"+EtcdValueFlag+"="+l.options.networkConfig(),
	); err != nil {
		return err
	}
	l.etcd, l.state.Etcd = p, p.id
	return l.state.write()
}

// awaitEtcd returns when etcd says that it is healthy.
func (l *Lab) awaitEtcd(ctx context.Context) error {
	net, err := l.open(Underlay)
	if err != nil {
		return err
	}
	defer net.Close()
	return l.etcd.await(ctx, etcdWait, net, func() []string { return []string{l.options.etcdURL() + "/health"} })
}

// await returns when a GET of one of urls from inside ns gets status 200, or an
// error when the process ends or limit has passed.
func (p *process) await(ctx context.Context, limit time.Duration, ns *netns.Namespace, urls func() []string) error {
	late := errors.New("late")
	ctx, cancel := context.WithTimeoutCause(ctx, limit, late)
	defer cancel()
	err := wait(ctx, func() (bool, error) {
		if err := p.died(); err != nil {
			return false, err
		}
		return slices.ContainsFunc(urls(), func(url string) bool { return answers(ctx, ns, url) }), nil
	})
	if errors.Is(err, late) {
		e := p.fault(fmt.Sprintf("is not ready after %v", limit))
		e.runs = true
		return e
	}
	return err
}

// answers reports whether a GET from inside a namespace gets status 200.
func answers(ctx context.Context, ns *netns.Namespace, url string) bool {
	ctx, cancel := context.WithTimeout(ctx, askWait)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return false
	}
	conn, err := ns.DialContext(ctx, "tcp", req.URL.Host)
	if err != nil {
		return false
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	// Not an http.Client: its transport goes on dialling after it was told to
	// stop, in a namespace that may be gone by then.
	req.Close = true
	if err := req.Write(conn); err != nil {
		return false
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), req)
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// startDaemon starts the daemon of host n and puts it on record.
func (l *Lab) startDaemon(n int) error {
	host, err := l.open(HostNode(n))
	if err != nil {
		return err
	}
	defer host.Close()
	h := &l.state.Hosts[n-1]
	args := []string{
		l.options.Vxtap,
		"-etcd-endpoints=" + l.options.etcdURL(),
		"-etcd-prefix=" + EtcdPrefix,
		"-iface=" + uplink,
		"-subnet-file=" + l.subnetFile(n),
		"-run-dir=" + l.runDir(n),
		"-state-dir=" + l.runDir(n),
		"-healthz-port=" + strconv.Itoa(healthPort),
	}
	args = append(append(args, l.options.Args...), h.Args...)
	p := &process{name: "vxtap on " + HostNode(n), log: l.daemonLog(n)}
	if err := launch(host, p, l.deaths, args...); err != nil {
		return err
	}
	l.daemons[n-1], h.Daemon = p, p.id
	return l.state.write()
}

// settle returns when the daemon of host n is ready and the container has the
// addresses that follow from its lease. It may run for several hosts at once.
func (l *Lab) settle(ctx context.Context, n int) error {
	host, err := l.open(HostNode(n))
	if err != nil {
		return err
	}
	defer host.Close()
	urls := func() []string { return readyURLs(host) }
	if err := l.daemons[n-1].await(ctx, daemonWait, host, urls); err != nil {
		return err
	}
	return l.follow(host, n)
}

// follow reads what the daemon of host n leased, and addresses the container by
// it if it is not what it was.
func (l *Lab) follow(host *netns.Namespace, n int) error {
	env, err := lease.ReadSubnetEnv(l.subnetFile(n))
	if err != nil {
		return fmt.Errorf("read the lease of %s: %w", HostNode(n), err)
	}
	dev, err := host.Interface(l.options.device())
	if err != nil {
		return err
	}
	if len(dev.HardwareAddr) != len(ether.MAC{}) {
		return fmt.Errorf("%s of %s has no MAC address", l.options.device(), HostNode(n))
	}
	h := &l.state.Hosts[n-1]
	h.MAC = ether.MAC(dev.HardwareAddr)
	if h.Subnet != env.Subnet || h.IPv6Subnet != env.IPv6Subnet || h.MTU != env.MTU {
		if err := l.address(n, env.Subnet, env.IPv6Subnet, env.MTU); err != nil {
			return err
		}
		h.Subnet, h.IPv6Subnet, h.MTU = env.Subnet, env.IPv6Subnet, env.MTU
	}
	l.say("%s leased %s, container %s, MTU %d", HostNode(n), h.Subnet, containerAddr(h.Subnet), h.MTU)
	return nil
}
