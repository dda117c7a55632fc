// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
)

// Watch returns nil when ctx ends, or before that an error about the first
// daemon or etcd server that this program started and nobody asked to end: a
// *ProcessError. A death before the call counts. Only one Watch may run.
func (l *Lab) Watch(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case p := <-l.deaths:
		return p.died()
	}
}

// Join adds one more host, with more flags for its daemon than the others have,
// and returns when it is ready. If that fails the host is taken away again.
func (l *Lab) Join(ctx context.Context, args ...string) (Host, error) {
	return l.join(ctx, hostState{Args: args})
}

// JoinBare adds a host that is on the underlay and has neither a daemon nor a
// container: for peers of another kind, as kernel VXLAN.
func (l *Lab) JoinBare(ctx context.Context) (Host, error) {
	return l.join(ctx, hostState{Bare: true})
}

func (l *Lab) join(ctx context.Context, h hostState) (Host, error) {
	var host Host
	err := l.change(ctx, func() error {
		n := len(l.state.Hosts) + 1
		err := l.addHost(n, h)
		if err == nil && !h.Bare {
			err = l.startDaemons(ctx, n)
		}
		if err != nil {
			return errors.Join(err, l.dropHost(context.WithoutCancel(ctx), n))
		}
		host = l.host(n)
		return nil
	})
	return host, err
}

// dropHost takes away host n, the last or one that never came to be.
func (l *Lab) dropHost(ctx context.Context, n int) error {
	if len(l.state.Hosts) == n {
		if p := l.daemons[n-1]; p != nil {
			p.expected.Store(true)
		}
		l.state.Hosts, l.daemons = l.state.Hosts[:n-1], l.daemons[:n-1]
	}
	// The kernel deletes the devices of a namespace in its own time; the next
	// host of this number needs the name of this one's underlay port now.
	net, err := l.open(Underlay)
	if err == nil {
		_ = net.DeleteLink(HostNode(n)) // there is none if the host never got so far
		net.Close()
	}
	err = errors.Join(err, removeNodes(ctx, l.options.Name, []string{HostNode(n), ContainerNode(n)}))
	return errors.Join(err, os.RemoveAll(l.runDir(n)), l.state.write())
}

// KillHost ends the daemon of host n as a crash would (SIGKILL), and returns
// when it is gone. Host and container stay.
func (l *Lab) KillHost(ctx context.Context, n int) error { return l.endDaemon(ctx, n, syscall.SIGKILL) }

// StopHost ends the daemon of host n as systemd would (SIGTERM; SIGKILL if it
// does not obey within three seconds), and returns when it is gone.
func (l *Lab) StopHost(ctx context.Context, n int) error { return l.endDaemon(ctx, n, syscall.SIGTERM) }

func (l *Lab) endDaemon(ctx context.Context, n int, sig os.Signal) error {
	return l.change(ctx, func() error {
		p, err := l.daemon(n)
		if err != nil || p == nil {
			return err
		}
		if err := p.end(ctx, sig); err != nil {
			return err
		}
		l.state.Hosts[n-1].Daemon = identity{}
		return l.state.write()
	})
}

// daemon returns the daemon of host n, nil if it was never started.
func (l *Lab) daemon(n int) (*process, error) {
	if n < 1 || n > len(l.state.Hosts) || l.state.Hosts[n-1].Bare {
		return nil, fmt.Errorf("lab %s has no daemon on h%d", l.options.Name, n)
	}
	return l.daemons[n-1], nil
}

// StartHost starts the daemon of host n again and returns when it is ready. It
// is an error if it runs. If the daemon does not come up it is left as it is.
func (l *Lab) StartHost(ctx context.Context, n int) error {
	return l.change(ctx, func() error {
		p, err := l.daemon(n)
		if err != nil {
			return err
		}
		if p != nil && p.id.alive() {
			return fmt.Errorf("%s runs already", p.name)
		}
		return l.startDaemons(ctx, n)
	})
}

// errForeignEtcd is why a lab with Options.EtcdURLs neither stops nor starts
// etcd.
var errForeignEtcd = errors.New("the etcd is not the lab's own")

// StopEtcd ends the etcd server (SIGTERM) and returns when it is gone. Its data
// stay.
func (l *Lab) StopEtcd(ctx context.Context) error {
	return l.change(ctx, func() error {
		if l.etcd == nil {
			return errForeignEtcd
		}
		if err := l.etcd.end(ctx, syscall.SIGTERM); err != nil {
			return err
		}
		l.state.Etcd = identity{}
		return l.state.write()
	})
}

// StartEtcd starts the etcd server again with the data that it had, and
// returns when it answers. It is an error if it runs.
func (l *Lab) StartEtcd(ctx context.Context) error {
	return l.change(ctx, func() error {
		if l.etcd == nil {
			return errForeignEtcd
		}
		if l.etcd.id.alive() {
			return errors.New("etcd runs already")
		}
		if err := l.startEtcd(); err != nil {
			return err
		}
		return l.awaitEtcd(ctx)
	})
}
