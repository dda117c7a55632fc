// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	sd "github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"vxtap/encap/ether"
	"vxtap/lease"
	"vxtap/lease/etcd"
	"vxtap/tunnel/host"
	"vxtap/tunnel/tap"
)

// phase is how far the daemon has come.
type phase string

const (
	phaseWaiting  phase = "waiting for etcd and the network config"
	phaseStarting phase = "setting up"
	phaseReady    phase = "ready"
	phaseLost     phase = "lease lost, asking again" // never stored, see state
	phaseStopping phase = "stopping"
)

// daemon is one run of vxtap without a subcommand.
type daemon struct {
	settings
	log      *slog.Logger
	started  time.Time
	home     atomic.Pointer[home]
	registry *lease.Registry
	redial   func()      // gives connections to etcd up that cannot be alive
	before   lease.Lease // what this host had when it last ran, or in the last segment, as far as is known; else the zero Lease
	mac6     ether.MAC   // that the host had last for IPv6, whatever network that was in; zero: none
	// formerPath is the file about it, if that was under another address. Who
	// remembers removes it.
	formerPath string
	lived      bool // a segment has run

	find func(host.Choice) (host.Uplink, error) // looks where the host is; nil: it does not move before the first segment
	isUp func(name string) bool

	refused6 atomic.Pointer[refused6] // an IPv6 address that cannot be used; nil: none

	certificateEnds func() time.Time // of the client certificate for etcd, zero for none; may be nil
	// certificateWarning says that the files are others than those in use; may be nil.
	certificateWarning func() string

	phase atomic.Value // phase
	// deletions bounds how often the TAP is made anew for somebody who keeps
	// deleting it.
	deletions *rate.Limiter

	mu      sync.RWMutex // guards segment
	segment *segment     // nil while none stands
}

// withSegment calls f with the segment that stands, or with nil, and keeps it
// standing until f returns: f may ask its switch and its sockets, whose
// descriptors might be somebody else's after they were closed. f must not wait for
// the kernel's network settings, which somebody else may be changing for seconds:
// a segment that is to end waits for f, and all who look meanwhile wait for that
// one, /readyz and what feeds the watchdog among them. See look.
func (d *daemon) withSegment(f func(*segment)) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	f(d.segment)
}

// look is withSegment for where f is not all. then is called after it, unless no
// segment stands, and keeps nobody waiting: it may ask the kernel by the names of
// what the segment has, or had by then.
func (d *daemon) look(f, then func(*segment)) {
	var looked *segment
	d.withSegment(func(s *segment) {
		if looked = s; s != nil {
			f(s)
		}
	})
	if looked != nil {
		then(looked)
	}
}

// setSegment returns when nobody looks at the segment before s any more.
func (d *daemon) setSegment(s *segment) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.segment = s
}

// state is the phase as others are to see it. While the lease is lost frames go
// on, but peers send none any more and somebody else may get the subnet: whoever
// asks whether this host is ready must not hear yes.
func (d *daemon) state() phase {
	p := d.phase.Load().(phase)
	d.withSegment(func(s *segment) {
		if p == phaseReady && s != nil && s.lost.Load() {
			p = phaseLost
		}
	})
	return p
}

// runDaemon runs until ctx ends, and then returns nil, or until something
// fails for good. Whatever it set up is gone when it returns, but for the
// lease and the subnet file, which are this host's the next time as well.
func runDaemon(ctx context.Context, s settings, log *slog.Logger) error {
	makeRoomForLoops(max(2, s.queues)) // where a queue cannot be looked at without waiting, it has two
	if err := host.Preflight(); err != nil {
		return err
	}
	uplink, err := host.FindUplink(s.uplink)
	if err != nil {
		return err
	}
	d := &daemon{settings: s, log: log, started: time.Now(), deletions: rate.NewLimiter(rate.Every(10*time.Second), 5)}
	d.find, d.isUp = host.FindUplink, isUp
	d.phase.Store(phaseWaiting)
	d.home.Store(s.homeAt(uplink))
	d.announce()

	// Before anything waits: a port that is taken should be known at once, and
	// whoever probes the health of a daemon that waits should get an answer.
	health, err := d.listenHealth(ctx)
	if err != nil {
		return err
	}
	access := s.etcd
	access.Relieve = relieve // else a flood is remembered for minutes
	store, err := etcd.Open(ctx, access, log)
	if err != nil {
		if health != nil {
			health.Close()
		}
		return err
	}
	d.certificateEnds, d.certificateWarning = store.CertificateEnds, store.CertificateWarning
	d.registry = lease.New(store, lease.Options{TTL: s.leaseTTL, RenewMargin: s.renewMargin, Log: log})
	d.redial = store.Redial
	return errors.Join(d.serve(ctx, health), store.Close())
}

// makeRoomForLoops gives the Go scheduler one processor more for each of the
// switch's loops. A loop is a thread that sleeps in system calls; when it wakes
// it needs a processor of the scheduler's at once, and with as many as there
// are cores it often has to wait for another goroutine to give one up. Measured
// on 2 cores, with a loop for each direction: a fifth more throughput.
func makeRoomForLoops(loops int) {
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + loops)
	}
}

// announce is the first line of the log, and what else the operator should
// know before anything happens.
func (d *daemon) announce() {
	at := d.at()
	d.log.Info("vxtap starts", "version", version(), "interface", at.uplink.Name, "address", at.uplink.Addr,
		"vtep", at.vtep, "mtu", at.uplink.MTU, "endpoints", d.etcd.Endpoints, "prefix", d.etcd.Prefix)
	if len(d.idle) > 0 {
		d.log.Warn("flags without effect so far", "flags", strings.Join(d.idle, ", "))
	}
	if len(d.strays) > 0 {
		d.log.Warn("variables that stand for no flag, and have no effect", "variables", strings.Join(d.strays, ", "))
	}
	for _, reason := range d.lacks {
		d.log.Warn("flag without its whole effect", "reason", reason)
	}
	if isLoopback(at.uplink) {
		d.log.Warn("the outside interface is the loopback: no other host is reached by it, nor reaches this one", "interface", at.uplink.Name)
	}
}

// isLoopback looks at the address first: it need not be the interface's own.
func isLoopback(u host.Uplink) bool {
	if u.Addr.IsLoopback() {
		return true
	}
	i, err := net.InterfaceByName(u.Name)
	return err == nil && i.Flags&net.FlagLoopback != 0
}

// serve runs the health server, if there is one, and the segments.
//
// Shutdown goes the way back. When ctx ends, /readyz turns to 503 and systemd
// is told; the switch delivers what it has read and its loops end; renewing
// and watching end, with the lease left in etcd; the admin socket's file goes;
// the TAP is closed, and the kernel drops address, route and neighbour with
// it; then the UDP sockets, and last, in runDaemon, the connection to etcd.
// The health server ends on its own, at any point of this.
func (d *daemon) serve(ctx context.Context, health net.Listener) error {
	g, ctx := errgroup.WithContext(ctx)
	if health != nil {
		mux := http.NewServeMux()
		d.handleHealth(mux)
		g.Go(func() error { return serveHTTP(ctx, health, mux, d.log) })
	}
	g.Go(func() error { return d.runSegments(ctx) })
	g.Go(func() error { d.tellSystemd(ctx); return nil })
	g.Go(func() error {
		<-ctx.Done()
		d.log.Info("stopping")
		d.phase.Store(phaseStopping)
		d.notify(sd.SdNotifyStopping + "\nSTATUS=" + string(phaseStopping))
		return nil
	})
	return g.Wait()
}

// runSegments opens a segment and runs it, and another one when the lease
// moved to another subnet or the network config changed under it.
func (d *daemon) runSegments(ctx context.Context) error {
	next, err := d.begin(ctx)
	for err == nil && ctx.Err() == nil {
		d.phase.CompareAndSwap(phaseWaiting, phaseStarting)
		err = d.runSegment(ctx, next)
		if moved, ok := errors.AsType[*movedError](err); ok {
			next, err = moved.place, nil
		}
	}
	if ctx.Err() != nil {
		return nil // whatever failed, failed because of that
	}
	return err
}

// runSegment returns a movedError, alone, when another segment is to follow.
func (d *daemon) runSegment(ctx context.Context, at place) error {
	s, err := openSegment(ctx, d, at)
	if err != nil && d.strayed(ctx) {
		d.log.Warn("the tunnel cannot be set up where the host was", "error", err)
		return d.beginAgain(ctx)
	}
	if err != nil && at.known != nil {
		return d.forget(ctx, err)
	}
	if err != nil && (at.gains || errors.Is(err, lease.ErrNoIPv6)) && ctx.Err() == nil {
		return d.withoutGain(at, err)
	}
	if err != nil {
		return err
	}
	d.setSegment(s)
	d.lived = true
	if s.ipv6 != nil {
		d.mac6 = s.ipv6.mac
	}
	err = s.run(ctx)
	d.phase.CompareAndSwap(phaseReady, phaseStarting) // until the next one stands, if there is one
	d.setSegment(nil)
	d.before = *s.own.Load()
	closed := s.close()
	if errors.Is(err, tap.ErrDeleted) && d.deletions.Wait(ctx) == nil {
		d.log.Warn("somebody deleted the device, starting afresh", "device", s.device)
		err = &movedError{place{config: *s.current(), known: s.knows()}}
	}
	if _, moved := errors.AsType[*movedError](err); moved {
		if closed != nil {
			d.log.Warn("the segment was not closed cleanly", "device", s.device, "error", closed)
		}
		d.relocate(ctx, s)
		return err
	}
	return errors.Join(err, closed)
}

// ready tells everybody that frames are being forwarded. It is only said when
// the subnet file is there, since whoever waits for us reads it next.
func (d *daemon) ready() {
	if d.phase.CompareAndSwap(phaseStarting, phaseReady) {
		d.notify(sd.SdNotifyReady + "\nSTATUS=" + d.line())
	}
}

// notify tells systemd, where it asked to be told.
func (d *daemon) notify(state string) {
	if _, err := sd.SdNotify(false, state); err != nil {
		d.log.Warn("systemd cannot be told", "state", state, "error", err)
	}
}
