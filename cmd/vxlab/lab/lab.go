// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"vxtap/cmd/vxlab/netns"
	"vxtap/encap/ether"
)

// ErrExists is the error of Up when a lab of that name stands, or the rests of
// one that was not taken down.
var ErrExists = errors.New("lab exists")

// Lab is a lab that stands. Its methods may be called concurrently; those that
// change the lab run one after the other, also with those of other programs.
type Lab struct {
	options Options
	begun   time.Time
	deaths  chan *process // children that ended unasked; room for one, the first

	progressMu sync.Mutex // one line at a time
	progress   io.Writer

	mu      sync.Mutex // guards the rest
	state   state
	etcd    *process
	daemons []*process // of host i+1; nil for a bare one
}

// Up builds a lab and returns when every host has its lease, its container has
// its addresses, and the daemons say that they are ready. If anything fails, or
// ctx ends, all that was built is taken down again first.
//
// The daemons and etcd are children of this program but outlive it.
func Up(ctx context.Context, o Options) (*Lab, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	o, err := o.withDefaults().resolve()
	if err == nil {
		err = checkProgram(o.Vxtap)
	}
	if err != nil {
		return nil, err
	}
	held, err := makeRoom(ctx, o.Name)
	if err != nil {
		return nil, err
	}
	defer held.Close()
	l := newLab(state{Options: o, Boot: bootID()})
	if err := l.build(ctx); err != nil {
		l.say("something is wrong, taking down again")
		return nil, errors.Join(err, l.undo(ctx))
	}
	return l, nil
}

// newLab returns the lab that s is about, without its processes.
func newLab(s state) *Lab {
	return &Lab{
		options: s.Options, progress: s.Options.Progress, begun: time.Now(),
		deaths: make(chan *process, 1), state: s,
	}
}

// makeRoom locks a name of which nothing is there, and first removes a lab
// whose owner is gone.
func makeRoom(ctx context.Context, name string) (*os.File, error) {
	for {
		held, err := lock(ctx, name, true)
		if err != nil {
			return nil, err
		}
		old, err := readState(name)
		if err == nil && old.abandoned() {
			_, err = remove(ctx, name)
			held.Close() // the lock is on a directory that is gone
			if err != nil {
				return nil, err
			}
			continue
		}
		if err := occupied(name, err); err != nil {
			held.Close()
			return nil, err
		}
		return held, nil
	}
}

// occupied says what is in the way of a new lab, given how reading its records
// went.
func occupied(name string, recordsErr error) error {
	if recordsErr == nil {
		return fmt.Errorf("%w: %s (take it down with vxlab down -name %s, or choose another name)", ErrExists, name, name)
	}
	if !errors.Is(recordsErr, fs.ErrNotExist) {
		return fmt.Errorf("%w: %s, in pieces (%w): vxlab down -name %s clears it", ErrExists, name, recordsErr, name)
	}
	namespaces, err := labNamespaces()
	if err == nil && len(namespaces[name]) > 0 {
		err = fmt.Errorf("%w: rests of %s (%s): vxlab down -name %s clears them", ErrExists, name, NamespaceName(name, namespaces[name][0]), name)
	}
	return err
}

// build is Up without the undoing.
func (l *Lab) build(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.options.Owned {
		var err error
		if l.state.Owner, err = ownIdentity(); err != nil {
			return err
		}
	}
	// Written before anything is made, for whoever clears up after a crash.
	if err := l.state.write(); err != nil {
		return err
	}
	if err := l.buildUnderlay(); err != nil {
		return err
	}
	l.say("underlay %s in namespace %s, MTU %d", l.options.Underlay, NamespaceName(l.options.Name, Underlay), l.options.MTU)
	if limit, need := neighbourLimit(), neighboursOf(l.options.Hosts); limit > 0 && need > limit {
		l.say("note: hosts that all talk to each other need %d neighbours, the kernel keeps %d: sysctl -w net.ipv4.neigh.default.gc_thresh3=%d", need, limit, 2*need)
	}
	if l.options.EtcdURLs != "" {
		return nil
	}
	if err := l.startEtcd(); err != nil {
		return err
	}
	// etcd comes up while the hosts are built.
	for n := 1; n <= l.options.Hosts; n++ {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		if err := l.addHost(n, hostState{}); err != nil {
			return err
		}
	}
	if err := l.awaitEtcd(ctx); err != nil {
		return err
	}
	l.say("etcd answers on %s", l.options.etcdURL())
	all := make([]int, l.options.Hosts)
	for i := range all {
		all[i] = i + 1
	}
	return l.startDaemons(ctx, all...)
}

// startDaemons starts the daemons of some hosts and returns when all are
// ready, or the first that is not with its error.
func (l *Lab) startDaemons(ctx context.Context, hosts ...int) error {
	for _, n := range hosts {
		if err := l.startDaemon(n); err != nil {
			return err
		}
	}
	group, ctx := errgroup.WithContext(ctx)
	for _, n := range hosts {
		group.Go(func() error { return l.settle(ctx, n) })
	}
	err := group.Wait()
	return errors.Join(err, l.state.write())
}

// undo takes everything down after Up went wrong, even if ctx has ended.
func (l *Lab) undo(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.expectDeaths()
	_, err := remove(context.WithoutCancel(ctx), l.options.Name)
	l.reap(err)
	return err
}

// reap waits until the children of this program that remove has ended are
// reaped; if it went wrong they may run still.
func (l *Lab) reap(removed error) {
	for _, p := range append(slices.Clone(l.daemons), l.etcd) {
		if p != nil && p.ended != nil && removed == nil {
			<-p.ended
		}
	}
}

// expectDeaths says that nobody need be told of a process that ends now.
func (l *Lab) expectDeaths() {
	for _, p := range append(slices.Clone(l.daemons), l.etcd) {
		if p != nil {
			p.expected.Store(true)
		}
	}
}

// Load opens a lab that stands. A name of which nothing is left is an error
// that matches fs.ErrNotExist.
func Load(name string) (*Lab, error) {
	if err := CheckName(name); err != nil {
		return nil, err
	}
	s, err := readState(name)
	if err != nil {
		return nil, err
	}
	if s.Boot != bootID() {
		return nil, fmt.Errorf("lab %s is from before the last start of the machine: vxlab down -name %s clears what is left of it", name, name)
	}
	l := newLab(s)
	if s.Options.EtcdURLs == "" {
		l.etcd = &process{name: "etcd", log: l.etcdLog(), id: s.Etcd}
	}
	for i, h := range s.Hosts {
		p := &process{name: "vxtap on " + HostNode(i+1), log: l.daemonLog(i + 1), id: h.Daemon}
		if h.Bare {
			p = nil
		}
		l.daemons = append(l.daemons, p)
	}
	return l, nil
}

// Name returns the name of the lab.
func (l *Lab) Name() string { return l.options.Name }

// Options returns the options of the lab with all defaults filled in.
func (l *Lab) Options() Options { return l.options }

// Keep makes a lab that was built with Options.Owned one that stays.
func (l *Lab) Keep(ctx context.Context) error {
	return l.change(ctx, func() error {
		l.state.Owner = identity{}
		return l.state.write()
	})
}

// change runs f with the lab locked against all others.
func (l *Lab) change(ctx context.Context, f func() error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	held, err := lock(ctx, l.options.Name, false)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("lab %s has been taken down: %w", l.options.Name, err)
	}
	if err != nil {
		return err
	}
	defer held.Close()
	return f()
}

// say writes one line of progress.
func (l *Lab) say(format string, args ...any) {
	l.progressMu.Lock()
	defer l.progressMu.Unlock()
	if l.progress != nil {
		fmt.Fprintf(l.progress, "[%5.1fs] %s\n", time.Since(l.begun).Seconds(), fmt.Sprintf(format, args...))
	}
}

// Namespace opens the namespace of a node, as in "h1", "c1" or Underlay; the
// caller closes it.
func (l *Lab) Namespace(node string) (*netns.Namespace, error) {
	n, err := nodeNumber(node)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	hosts := len(l.state.Hosts)
	l.mu.Unlock()
	if n > hosts {
		return nil, fmt.Errorf("lab %s has no %s: its %d hosts are h1 to h%d", l.options.Name, node, hosts, hosts)
	}
	return l.open(node)
}

func (l *Lab) open(node string) (*netns.Namespace, error) {
	return netns.Open(NamespaceName(l.options.Name, node))
}

// Host is what is known of one host of a lab.
type Host struct {
	Node      string       `json:"node"`      // "h1"
	Namespace string       `json:"namespace"` // as for ip netns exec
	VTEP      netip.Addr   `json:"vtep"`      // its underlay address, as the lab gave it; see Look
	Subnet    netip.Prefix `json:"subnet"`    // leased; zero for a bare host
	MAC       ether.MAC    `json:"mac"`       // of its VXLAN device, as in its lease
	MTU       int          `json:"mtu"`       // of the overlay, in bytes
	Container netip.Addr   `json:"container"` // the overlay address of its container
	PID       int          `json:"pid"`       // of its daemon; 0 if it does not run
	ByHand    bool         `json:"by_hand"`   // PID is 0, and yet a daemon answers: somebody else has started it
	RunDir    string       `json:"run_dir"`   // -run-dir of its daemon
	Log       string       `json:"log"`       // of its daemon
	Bare      bool         `json:"bare"`      // see Lab.JoinBare

	// Of a lab with IPv6: the same as VTEP, Subnet and Container.
	IPv6VTEP      netip.Addr   `json:"ipv6_vtep,omitzero"`
	IPv6Subnet    netip.Prefix `json:"ipv6_subnet,omitzero"`
	IPv6Container netip.Addr   `json:"ipv6_container,omitzero"`
}

// Hosts returns the hosts by number. Subnet, MAC and MTU are what they were
// when the daemon was ready last.
func (l *Lab) Hosts() []Host {
	l.mu.Lock()
	defer l.mu.Unlock()
	hosts := make([]Host, 0, len(l.state.Hosts))
	for i := range l.state.Hosts {
		hosts = append(hosts, l.host(i+1))
	}
	return hosts
}

// host is Hosts for one, under mu.
func (l *Lab) host(n int) Host {
	s := l.state.Hosts[n-1]
	h := Host{
		Node: HostNode(n), Namespace: NamespaceName(l.options.Name, HostNode(n)), VTEP: l.options.vtep(n),
		Subnet: s.Subnet, MAC: s.MAC, MTU: s.MTU, RunDir: l.runDir(n), Log: l.daemonLog(n), Bare: s.Bare,
	}
	if s.Subnet.IsValid() {
		h.Container = containerAddr(s.Subnet)
	}
	h.IPv6VTEP, h.IPv6Subnet = l.options.vtep6(n), s.IPv6Subnet
	if s.IPv6Subnet.IsValid() {
		h.IPv6Container = containerAddr(s.IPv6Subnet)
	}
	if s.Daemon.alive() {
		h.PID = s.Daemon.PID
	}
	h.ByHand = h.PID == 0 && !h.Bare && answersInRunDir(h.RunDir)
	return h
}

// EtcdRunning reports whether the lab's etcd server runs.
func (l *Lab) EtcdRunning() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state.Etcd.alive()
}

// EtcdURL returns where etcd is, from inside the lab, or Options.EtcdURLs.
func (l *Lab) EtcdURL() string { return l.options.etcdURL() }

// Where the files of a lab are.

func (l *Lab) etcdLog() string { return filepath.Join(StateDir(l.options.Name), "etcd.log") }

func (l *Lab) runDir(n int) string     { return filepath.Join(StateDir(l.options.Name), HostNode(n)) }
func (l *Lab) daemonLog(n int) string  { return filepath.Join(l.runDir(n), "vxtap.log") }
func (l *Lab) subnetFile(n int) string { return filepath.Join(l.runDir(n), "subnet.env") }
