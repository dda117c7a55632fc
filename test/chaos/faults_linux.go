// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"regexp"
	"syscall"
	"time"

	"vxtap/test/field"
)

// How long a client needs to notice, after a fault, what etcd has told: beside
// what docs/reliability.md says of it.
const (
	afterElection = 3 * time.Second // a leader is gone, and another one is not yet there
	// etcd ends the watches of a member that has lost its leader when it has
	// missed it for three times the time of an election, which is a second.
	afterParting = 6 * time.Second
	afterSilence = 16 * time.Second // a connection that says nothing is found to be dead
	afterStart   = 3 * time.Second
	afterPause   = 1 * time.Second
	afterCut     = 4 * time.Second
	// A daemon believes in an address that comes back when it has been there for a
	// second, and opens its IPv6 side then if it has started without.
	afterAddress = 2 * time.Second
)

// do does a fault, waits, and undoes it. A fault that cannot be done since
// another one stands in its way is none; an error is one of the test itself.
func (r *run) do(ctx context.Context, f fault) error {
	undo, err := r.begin(ctx, f)
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		r.say("%s: not done: %v", f, err)
		return nil
	}
	r.say("%s", f)
	r.count(f.kind)
	if undo == nil {
		return nil
	}
	if field.Pause(ctx, f.lasts) != nil {
		return nil
	}
	r.say("fault %d: over", f.number)
	return undo()
}

// begin does a fault and returns what undoes it, nil if nothing does.
func (r *run) begin(ctx context.Context, f fault) (undo func() error, err error) {
	switch {
	case f.kind.ofMember():
		return r.hitMember(f)
	case f.kind.needsProcess():
		return r.hitDaemon(ctx, f)
	case f.kind == addressGone:
		return r.takeAddress(f.hosts[0])
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	return nil, r.hitStore(ctx, f)
}

// hitMember takes a member of etcd away.
func (r *run) hitMember(f fault) (func() error, error) {
	m := r.field.Members[f.member]
	r.troubleMember(m, f.kind)
	switch f.kind {
	case memberSilenced:
		return m.Heal, m.Silence()
	case memberParted:
		return m.Heal, m.Part()
	case memberKilled:
		return m.Start, m.End(syscall.SIGKILL)
	default:
		return r.killMajority(m)
	}
}

// killMajority kills all members but one.
func (r *run) killMajority(m *field.Member) (func() error, error) {
	r.forAll(r.judge.block)
	var errs []error
	for _, other := range r.field.Members {
		if other != m {
			errs = append(errs, other.End(syscall.SIGKILL))
		}
	}
	return func() error {
		for _, other := range r.field.Members {
			if other != m {
				errs = append(errs, other.Start())
			}
		}
		if err := r.awaitMembers(); err != nil {
			errs = append(errs, err)
		}
		r.forAll(func(h int) { r.judge.unblock(h, time.Now(), afterElection) })
		return errors.Join(errs...)
	}, errors.Join(errs...)
}

// troubleMember tells the judge who needs time now that m goes.
func (r *run) troubleMember(m *field.Member, k kind) {
	now := time.Now()
	talks := make([]bool, len(r.field.Hosts))
	for i, h := range r.field.Hosts {
		talks[i] = h.TalksTo(m)
	}
	r.forAll(func(h int) {
		allowance := afterElection
		switch {
		case k == memberSilenced && talks[h]:
			allowance = afterSilence
		case k == memberParted && talks[h]:
			allowance = afterParting
		}
		r.judge.trouble(h, now, allowance)
	})
}

// hitDaemon takes a daemon away, or its way to etcd.
func (r *run) hitDaemon(ctx context.Context, f fault) (func() error, error) {
	h := f.hosts[0]
	host := r.field.Hosts[h]
	switch f.kind {
	case killed:
		return func() error { return r.start(h) }, r.stop(h, syscall.SIGKILL)
	case otherClock:
		return func() error { return r.startWith(h, clocks(f.pick)) }, r.stop(h, syscall.SIGKILL)
	case terminated:
		return func() error { return r.start(h) }, r.stop(h, syscall.SIGTERM)
	case paused:
		return func() error { return r.goOn(h) }, r.stand(h)
	case cutOff:
		r.locked(func() { r.judge.block(h) })
		return func() error {
			err := host.Rejoin()
			r.locked(func() { r.judge.unblock(h, time.Now(), afterCut) })
			return err
		}, host.CutOff()
	default:
		return r.wish(ctx, f)
	}
}

// takeAddress takes the IPv6 address from a host's interface.
func (r *run) takeAddress(h int) (func() error, error) {
	host := r.field.Hosts[h]
	r.locked(func() { r.judge.homeless(h) })
	if err := host.TakeIPv6(); err != nil { // it is gone already
		r.locked(func() { r.judge.housed(h, time.Now(), 0) })
		return nil, err
	}
	return func() error {
		err := host.GiveIPv6()
		r.locked(func() { r.judge.housed(h, time.Now(), afterAddress) })
		return err
	}, nil
}

func (r *run) stop(h int, s syscall.Signal) error {
	r.locked(func() { r.judge.block(h) })
	return r.field.Hosts[h].End(s)
}

// clocks are those of a daemon in another time namespace: ahead of the machine's, or
// the two apart from each other. None is behind: the machine may just have started.
func clocks(pick uint64) field.Clock {
	return []field.Clock{{Boot: 90000, Monotonic: 90000}, {Boot: 90000}, {Monotonic: 90000}}[pick%3]
}

func (r *run) start(h int) error { return r.startWith(h, field.Clock{}) }

func (r *run) startWith(h int, c field.Clock) error {
	r.field.Hosts[h].SetClock(c)
	err := r.field.Hosts[h].Start()
	r.locked(func() { r.judge.unblock(h, time.Now(), afterStart) })
	return err
}

func (r *run) stand(h int) error {
	r.locked(func() { r.judge.block(h) })
	return r.field.Hosts[h].Pause()
}

func (r *run) goOn(h int) error {
	err := r.field.Hosts[h].Continue()
	r.locked(func() { r.judge.unblock(h, time.Now(), afterPause) })
	return err
}

// wish makes two daemons ask for the same subnet: the second has the subnet file
// of the first, and no lease. The first lives; or stands still until its lease
// has ended; or starts in the same moment. Where there are both families the second
// wishes for the IPv6 subnet alone, every other time: then their keys are two.
func (r *run) wish(ctx context.Context, f fault) (func() error, error) {
	a, b := f.hosts[0], f.hosts[1]
	way := f.pick % 3
	text, err := os.ReadFile(r.field.Hosts[a].SubnetFile())
	if err == nil && r.dual && f.pick>>8%2 == 1 {
		text, err = r.halfOf(text, b)
	}
	if err != nil {
		return nil, err
	}
	steps := []func() error{func() error { return r.stop(b, syscall.SIGTERM) }}
	undo := func() error { return r.start(b) }
	switch way {
	case 1:
		steps = append(steps, func() error { return r.stand(a) })
		undo = func() error {
			if err := r.start(b); err != nil {
				return err
			}
			if err := field.Pause(ctx, time.Second); err != nil {
				return nil //nolint:nilerr // the run ends
			}
			return r.goOn(a)
		}
	case 2:
		steps = append(steps, func() error { return r.stop(a, syscall.SIGTERM) }, func() error { return r.takeLease(ctx, f, a) })
		undo = func() error { return errors.Join(r.start(a), r.start(b)) }
	}
	steps = append(steps,
		func() error { return r.takeLease(ctx, f, b) },
		func() error { return os.WriteFile(r.field.Hosts[b].SubnetFile(), text, 0o644) })
	for _, step := range steps {
		if err := step(); err != nil {
			r.say("%s: only in part: %v", f, err)
		}
	}
	return undo, nil
}

// halfOf returns the subnet file of a host with the IPv6 subnet of another one's, text.
func (r *run) halfOf(text []byte, h int) ([]byte, error) {
	own, err := os.ReadFile(r.field.Hosts[h].SubnetFile())
	line := regexp.MustCompile(`(?m)^FLANNEL_IPV6_SUBNET=.*$`)
	theirs := line.Find(text)
	if err != nil || theirs == nil || !line.Match(own) {
		return nil, errors.Join(errors.New("one of them has no IPv6 subnet right now"), err)
	}
	return line.ReplaceAll(own, theirs), nil
}

// takeLease deletes what a host holds.
func (r *run) takeLease(ctx context.Context, f fault, h int) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	k, ok := r.lease(h)
	if !ok {
		return nil
	}
	return r.mark(ctx, f.kind, del(k.key))
}

// lease returns the key that a host holds.
func (r *run) lease(h int) (found holding, ok bool) {
	r.locked(func() {
		for _, k := range r.judge.history.now().keys {
			if k.owner == r.judge.hosts[h] && k.subnet.IsValid() {
				found, ok = k, true
			}
		}
	})
	return found, ok
}

// stranger is the PublicIP of a host that is not there.
func stranger(pick uint64) netip.Addr {
	return netip.AddrFrom4([4]byte{10, 77, 9, byte(1 + pick%250)})
}

// valueOf is the lease of a stranger, as flannel writes it. six is its IPv6 address;
// the zero Addr: it has none.
func valueOf(ip, six netip.Addr, pick uint64) string {
	mac := func(n int) string {
		return fmt.Sprintf("02:%02x:%02x:%02x:%02x:%02x", n, byte(pick>>24), byte(pick>>16), byte(pick>>8), byte(pick))
	}
	if !six.IsValid() {
		return fmt.Sprintf(`{"PublicIP":"%s","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"%s"}}`, ip, mac(0x99))
	}
	return fmt.Sprintf(`{"PublicIP":"%s","PublicIPv6":"%s","BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"%s"},"BackendV6Data":{"VNI":1,"VtepMAC":"%s"}}`,
		ip, six, mac(0x99), mac(0x9a))
}
