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
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	"vxtap/test/field"
)

// run is one run.
type run struct {
	settings
	progress io.Writer
	began    time.Time
	field    *field.Field
	recorder *recorder
	judge    *judge // guarded by recorder.mu, as all that follows

	events  io.Writer // the log of everything that happens
	queue   []sample  // not judged yet
	latest  []sample  // of each host
	figures figures
}

// networkConfig has room for three times as many hosts as there are, so that
// they meet often.
const (
	network       = "172.30.0.0/18"
	networkIPv6   = "fd30::/58"
	networkConfig = `{"Network": "` + network + `", "SubnetLen": 24, "SubnetMin": "172.30.0.0", "EnableNFTables": true, "Backend": {"Type": "vxlan"}`
	dualConfig    = `, "EnableIPv6": true, "IPv6Network": "` + networkIPv6 + `", "IPv6SubnetLen": 64, "IPv6SubnetMin": "fd30::"`
)

// chaos does one run. An error says that the run itself failed.
func chaos(ctx context.Context, s settings, progress io.Writer) (figures, error) {
	dir := filepath.Join(s.dir, "seed-"+strconv.FormatUint(s.seed, 10))
	if err := os.RemoveAll(dir); err != nil {
		return figures{}, err
	}
	f, err := field.New(dir, s.dual)
	if err != nil {
		return figures{}, err
	}
	r := &run{settings: s, progress: progress, began: time.Now(), field: f}
	log, err := os.Create(filepath.Join(f.Dir, "events.log"))
	if err != nil {
		return figures{}, err
	}
	defer log.Close()
	r.events = log
	if err := r.setUp(ctx); err != nil {
		return figures{}, errors.Join(err, fmt.Errorf("logs are in %s", f.Dir))
	}
	err = r.rounds(ctx)
	r.finish()
	if err == nil && len(r.figures.violations) == 0 {
		return r.figures, os.RemoveAll(dir)
	}
	return r.figures, errors.Join(err, r.keep())
}

// setUp starts etcd and all daemons and waits until all are ready.
func (r *run) setUp(ctx context.Context) error {
	vxtap, err := filepath.Abs(r.vxtap)
	if err != nil {
		return err
	}
	if err := r.field.AddMembers(r.members); err != nil {
		return err
	}
	var addrs []netip.Addr
	for range r.hosts {
		h, err := r.field.AddHost(vxtap, prefix, "-lease-ttl="+leaseTTL.String())
		if err != nil {
			return err
		}
		addrs = append(addrs, h.Addr)
	}
	networks := [2]netip.Prefix{netip.MustParsePrefix(network)}
	if r.dual {
		networks[1] = netip.MustParsePrefix(networkIPv6)
	}
	r.judge = newJudge(networks, addrs)
	r.judge.tell = func(v violation) { r.write("%s", v) }
	r.latest = make([]sample, r.hosts)
	r.figures.settings = r.settings
	r.figures.faults = map[kind]int{}
	r.recorder, err = newRecorder(r.field, r.judge, func(e event) {
		what := fmt.Sprintf("put %q", e.value)
		if e.deleted {
			what = "deleted"
		}
		r.write("etcd %d: %s %s (%s)", e.rev, e.key, what, e.fault)
	})
	if err != nil {
		return err
	}
	return r.awaitMembers()
}

// rounds does rounds of faults until the time is over.
func (r *run) rounds(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	background, bctx := errgroup.WithContext(ctx)
	background.Go(func() error { r.recorder.run(bctx); return nil })
	for h := range r.field.Hosts {
		background.Go(func() error { r.sample(bctx, h); return nil })
	}
	background.Go(func() error { r.judgeAll(bctx); return nil })
	err := r.putConfig(ctx)
	for h := 0; h < r.hosts && err == nil; h++ {
		r.locked(func() { r.judge.block(h) })
		err = r.start(h)
	}
	if err == nil {
		err = r.settled(ctx, 30*time.Second)
	}
	for n := 1; err == nil && ctx.Err() == nil && (n == 1 || time.Since(r.began)+roundTime <= r.time); n++ {
		err = r.round(ctx, n)
	}
	if err == nil {
		err = ctx.Err()
	}
	cancel()
	return errors.Join(err, background.Wait())
}

func (r *run) putConfig(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	config := networkConfig
	if r.dual {
		config += dualConfig
	}
	_, err := r.recorder.client().Put(ctx, configKey, config+"}")
	return err
}

// round does the faults of one round, each by the clock, and then looks whether
// all becomes well.
func (r *run) round(ctx context.Context, n int) error {
	r.say("round %d", n)
	begin := time.Now()
	group, gctx := errgroup.WithContext(ctx)
	for _, f := range plan(r.seed, n, r.hosts, r.members, r.dual) {
		group.Go(func() error {
			if field.Pause(gctx, time.Until(begin.Add(f.at))) != nil {
				return nil
			}
			return r.do(gctx, f)
		})
	}
	if err := group.Wait(); err != nil || ctx.Err() != nil {
		return err
	}
	err := r.quiet(ctx)
	r.locked(func() {
		r.figures.rounds = n
		fmt.Fprintf(r.progress, "round %d: %s\n", n, r.figures.line(r.judge))
		if err == nil && len(r.judge.violations) > 0 {
			err = errViolated
		}
	})
	return err
}

// sampleEvery is how often each daemon is asked.
const sampleEvery = 200 * time.Millisecond

// sample asks one daemon again and again.
func (r *run) sample(ctx context.Context, h int) {
	host := r.field.Hosts[h]
	for field.Pause(ctx, sampleEvery) == nil {
		if host.Unasked() {
			r.locked(func() {
				r.judge.violate(time.Now(), goesOn, "%s ended by itself: %s", host.Name, host.Log())
			})
			return
		}
		if !host.Runs() || host.Paused() {
			continue
		}
		timed, cancel := context.WithTimeout(ctx, time.Second)
		s := sample{host: h, start: time.Now()}
		status, err := host.Status(timed)
		cancel()
		if err != nil {
			continue // between two segments, or just killed
		}
		s.status, s.end = status, time.Now()
		r.locked(func() { r.queue, r.latest[h] = append(r.queue, s), s })
	}
}

// judgeAll judges samples when everything is known that they may know.
func (r *run) judgeAll(ctx context.Context) {
	for field.Pause(ctx, 100*time.Millisecond) == nil {
		r.locked(func() {
			r.noMajority()
			n := 0
			for n < len(r.queue) && r.queue[n].end.Add(skew).Before(r.recorder.complete) {
				r.judge.sample(r.queue[n])
				n++
			}
			r.queue = r.queue[n:]
		})
	}
}

// noMajority tells the judge when no member answers for the majority: there is
// none, or it elects a leader, which may also be because a member that comes back
// asks for an election.
func (r *run) noMajority() {
	now := time.Now()
	for _, t := range r.recorder.answers {
		if now.Sub(t) < askedEvery+400*time.Millisecond {
			return
		}
	}
	for h := range r.hosts {
		r.judge.trouble(h, now, afterElection)
	}
}

func (r *run) locked(f func()) {
	r.recorder.mu.Lock()
	defer r.recorder.mu.Unlock()
	f()
}

func (r *run) forAll(f func(host int)) {
	r.locked(func() {
		for h := range r.hosts {
			f(h)
		}
	})
}

func (r *run) count(k kind) {
	r.locked(func() { r.figures.faults[k]++ })
}

// say writes a line of the log.
func (r *run) say(format string, args ...any) {
	r.locked(func() { r.write(format, args...) })
}

// write is say under the lock.
func (r *run) write(format string, args ...any) {
	fmt.Fprintf(r.events, "%s %s\n", time.Now().Format(clock), fmt.Sprintf(format, args...))
}
