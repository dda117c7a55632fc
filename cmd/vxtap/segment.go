// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"vxtap/encap/ether"
	"vxtap/lease"
	"vxtap/tunnel"
	"vxtap/tunnel/host"
)

// segment is one VNI on this host for as long as its subnet and the network
// config stay what they are: what its sides have in common. All but own, lost, view
// and what is live is set before run; but of the rules, which watchRules has from
// then on.
type segment struct {
	d      *daemon
	log    *slog.Logger
	config lease.Config // that it was opened by; see current
	device string       // of IPv4, which there always is: the name of the segment
	admin  *adminServer

	ipv4   *side
	ipv6   *side   // nil: this host or the network has none
	noIPv6 string  // why this host has none although the network has
	sides  []*side // ipv4 first

	own   atomic.Pointer[lease.Lease]     // our lease; after run began it changes only in its times
	lost  atomic.Bool                     // own is not ours at present; hold is about to get it back
	made  lease.Lease                     // that was created for this segment; the zero Lease: none
	view  atomic.Pointer[lease.Selection] // of its Peers only the number is good
	news  chan struct{}                   // tells report that view has changed
	first sync.Once                       // forwards
	unset atomic.Int32                    // sides whose peers the kernel has not been told of
	publisher
	memory
	live

	rulesNews chan struct{} // tells watchRules that something has changed

	closers []func() error // undo what was opened, last first
}

// openSegment does everything up to the subnet file, in this order:
//
//   - what can be refused without asking anybody comes before the lease, so
//     that a host that cannot take part takes no subnet;
//   - a kernel device that is to be replaced forwards until all is known that has
//     to be asked for, so that it is missed for a moment only;
//   - the subnet file comes last, since whoever waits for it starts containers
//     as soon as it is there.
//
// When a step fails, the ones before it are undone, a lease that was created
// for this segment included: at.made is the one that the segment before it got
// when it lost its own. Where at.known is there, nobody is asked.
func openSegment(ctx context.Context, d *daemon, at place) (*segment, error) {
	s := &segment{
		d:      d,
		log:    d.log.With("device", deviceName(at.config.Backend.VNI)),
		config: at.config,
		made:   at.made,
		memory: memory{known: at.known, fresh: make(chan struct{}, 1)},
		device: deviceName(at.config.Backend.VNI),
		news:   make(chan struct{}, 1),

		rulesNews: make(chan struct{}, 1),
		live:      newLive(),
	}
	s.ipv4 = s.addSide(ipv4, s.device)
	s.view.Store(&lease.Selection{})
	for _, step := range []func(context.Context) error{
		s.check,
		s.each((*side).check),
		s.checkAdmin,
		s.chooseMAC,
		s.each((*side).takeOver),
		s.each((*side).openUnderlay),
		s.each((*side).openTAP),
		s.each((*side).openUplink),
		s.openAdmin,
		s.acquire,
		s.each((*side).openSwitch),
		s.setRules,
		s.each((*side).setUpHost),
		s.writeSubnetFile,
	} {
		if err := step(ctx); err != nil {
			return nil, errors.Join(s.afterTakeover(err), s.abandon(ctx))
		}
	}
	return s, nil
}

// check says what in the config is not going to be as the operator may expect.
func (s *segment) check(context.Context) error {
	for _, note := range s.config.Notes {
		s.log.Warn("network config", "reason", note)
	}
	s.warnOfMTU()
	s.addIPv6()
	s.unset.Store(int32(len(s.sides)))
	return nil
}

// checkAdmin looks whether another daemon has the segment.
func (s *segment) checkAdmin(ctx context.Context) error {
	return s.d.onceFree(ctx, func() error { return checkAdmin(ctx, s.d.runDir, s.device) })
}

// check chooses the MTU and looks whether the way is free.
func (s *side) check(ctx context.Context) error {
	host.AwaitAddress(ctx, s.local().Addr())
	s.mtu.Store(int32(s.wantedMTU()))
	if err := s.d.outside(s.config); err != nil {
		return err
	}
	return s.checkFree(ctx)
}

// chooseMAC takes the MAC that our lease names already: peers keep sending to
// it, and a restart changes nothing for them. The one of the last time
// otherwise, and a random one the first time.
func (s *segment) chooseMAC(ctx context.Context) error {
	if s.known != nil {
		own := s.known.Own
		s.own.Store(&own)
		s.setMACs(own.Attrs)
		return nil
	}
	own, held, err := s.d.registry.Own(ctx, s.d.at().vtep)
	if err == nil && s.d.before.Key != "" && s.d.before.Attrs.PublicIP != s.d.at().vtep {
		own, held, err = s.d.registry.Former(ctx, s.d.before, own, held)
	}
	if err != nil {
		return err
	}
	s.own.Store(&own)
	from := s.d.before.Attrs
	if held {
		from = own.Attrs
		s.warnOfTheft(own)
	}
	s.setMACs(from)
	for _, one := range s.sides {
		if one.kernel != nil && !held {
			one.mac = one.kernel.MAC
		}
	}
	return nil
}

// setMACs gives each side the MAC that from has for it, the one of the last time, or
// a random one.
func (s *segment) setMACs(from lease.Attrs) {
	s.ipv4.mac = macOr(from.MAC, s.d.before.Attrs.MAC)
	if s.ipv6 != nil {
		s.ipv6.mac = macOr(from.IPv6MAC, s.d.mac6)
	}
}

// macOr returns the first of all that a device can have, and a random MAC if there
// is none.
func macOr(all ...ether.MAC) ether.MAC {
	for _, m := range all {
		if !m.IsZero() && !m.IsMulticast() {
			return m
		}
	}
	return ether.RandomMAC()
}

// openAdmin comes after the TAP: only one process can have the device, so only
// one can be putting its socket there. It is served at once: getting the lease
// may take as long as etcd is away, and that is when somebody asks.
func (s *segment) openAdmin(ctx context.Context) error {
	socket, err := listenAdmin(s.d.runDir, s.device)
	if err != nil {
		return err
	}
	s.admin = startAdmin(ctx, socket, adminHandler(s.status), s.log)
	s.closers = append(s.closers, s.admin.Close)
	return nil
}

// status is the daemon's, with what is known of a segment that does not stand
// yet, or no more.
func (s *segment) status(now time.Time) Status {
	st := s.d.status(now)
	if st.Device == "" {
		st.addPlan(s)
	}
	return st
}

func (s *segment) acquire(ctx context.Context) error {
	if s.known != nil {
		return nil // hold asks, as soon as there is somebody to ask
	}
	if s.tookOver() {
		return nil // takeOver did
	}
	previous, err := lease.ReadSubnetEnv(s.d.subnetFile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.log.Warn("the subnet file cannot be read", "path", s.d.subnetFile, "error", err)
	}
	if !previous.Subnet.IsValid() { // it is on a disk that forgets, in most places
		previous.Subnet = s.d.before.Subnet
	}
	if !previous.IPv6Subnet.IsValid() {
		previous.IPv6Subnet = s.d.before.IPv6Subnet
	}
	own, err := s.d.registry.Acquire(ctx, s.config, s.request(previous, s.d.before))
	if err != nil {
		return err
	}
	if held := s.own.Swap(&own); created(*held, own) {
		s.made = own
	}
	return nil
}

// created reports whether Acquire made own, where Own had returned held. A
// lease of ours that Own left out, because its value made no sense, was there
// before as well: taking it up changed it. So was one that was moved to another
// key, as it gained or lost its IPv6 half.
func created(held, own lease.Lease) bool {
	return own.Created != held.Created && own.Created == own.Revision && own.Subnet != held.Subnet
}

func (s *side) openSwitch(context.Context) error {
	lanes, err := s.lanes()
	if err != nil {
		return err
	}
	c := tunnel.Config{
		VNI:        s.config.Backend.VNI,
		MAC:        s.mac,
		RouterMAC:  routerMAC(s.mac),
		Subnet:     s.subnet(),
		MTU:        int(s.mtu.Load()),
		BridgeLess: int(s.mtu.Load()) - s.bridgeMTU(),
		PeerMACs:   s.perPeer(),
		GBP:        s.config.Backend.GBP,
		Lanes:      lanes,
		Coalesce:   s.d.offload.coalesce,
		Checks:     s.d.checks,
		Log:        s.log,
	}
	if s.whole != nil { // a nil *uplink.Device would be a tunnel.Uplink
		c.Uplink = s.whole
	}
	s.sw, err = tunnel.New(c)
	return err
}

// routerMAC returns the MAC of the gateway, which only this host's kernel and
// switch ever see. It must differ from the device's own, or the kernel would
// keep the frames.
func routerMAC(device ether.MAC) ether.MAC {
	device[0] |= 0x02 // locally administered
	device[5] ^= 0x01
	return device
}

func (s *side) setUpHost(context.Context) error {
	if _, err := host.Apply(s.plan(s.log)); err != nil {
		return err
	}
	// The subnet may have been a peer's when the daemon ran last. A route to that
	// peer would go before the bridge's own.
	_, err := host.RemoveDirectRoutes(s.subnet())
	return err
}

// plan is what the host's kernel is to know of the side.
func (s *side) plan(log *slog.Logger) host.Plan {
	subnet := s.subnet()
	return host.Plan{
		Device:    s.device,
		Index:     s.index,
		MAC:       s.mac,
		MTU:       int(s.mtu.Load()),
		Addr:      netip.PrefixFrom(subnet.Addr(), subnet.Addr().BitLen()),
		Network:   s.network(),
		RouterMAC: routerMAC(s.mac),
		PerPeer:   s.perPeer(),
		Blackhole: s.blackhole(),
		Log:       log,
	}
}

// blackhole is where what has no other way is to be dropped.
func (s *side) blackhole() netip.Prefix {
	if !s.d.rules.blackhole {
		return netip.Prefix{}
	}
	return s.subnet()
}

func (s *segment) writeSubnetFile(context.Context) error {
	return s.subnetEnv().WriteFile(s.d.subnetFile)
}

func (s *segment) subnetEnv() lease.SubnetEnv {
	env := lease.SubnetEnv{
		Network: s.config.Network,
		Subnet:  s.own.Load().Subnet,
		MTU:     s.bridgeMTU(),
		IPMasq:  s.d.rules.ipMasq,
	}
	if s.ipv6 != nil {
		env.IPv6Network, env.IPv6Subnet = s.ipv6.network(), s.ipv6.subnet()
	}
	return env
}

// run forwards frames, follows the leases and keeps our own until ctx ends or
// one of these fails for good.
func (s *segment) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, one := range s.sides {
		one.run(ctx, g)
	}
	g.Go(func() error {
		s.publishKnown()
		return s.d.registry.Watch(ctx, s.hear)
	})
	g.Go(func() error { return s.d.registry.WatchConfig(ctx, s.hearConfig) })
	g.Go(func() error { s.remember(ctx); return nil })
	g.Go(func() error { return s.hold(ctx) })
	g.Go(func() error { report(ctx, s.log, s.news, s.view.Load); return nil })
	g.Go(func() error {
		reportWarnings(ctx, s.log, s.warnings)
		return nil
	})
	g.Go(func() error { return s.admin.wait(ctx) })
	g.Go(func() error { s.followHome(ctx); return nil })
	g.Go(func() error { s.watchRules(ctx); return nil })
	return g.Wait()
}

// run has g forward frames, and keep what the host must know of the side.
func (s *side) run(ctx context.Context, g *errgroup.Group) {
	g.Go(func() error {
		if err := s.sw.Run(ctx); err != nil {
			return fmt.Errorf("forward frames between %s and UDP port %d: %w", s.device, s.config.Backend.Port, err)
		}
		return nil
	})
	g.Go(func() error { s.watchHost(ctx); return nil })
	g.Go(func() error { s.watchRoutes(ctx); return nil })
	if s.whole != nil {
		g.Go(func() error { return s.whole.Run(ctx) })
	}
}

// close undoes what openSegment did, but for the lease and the subnet file.
func (s *segment) close() error {
	var errs []error
	for _, c := range slices.Backward(s.closers) {
		errs = append(errs, c())
	}
	s.closers = nil
	return errors.Join(errs...)
}

// abandon undoes a start that failed, the lease included if it was created for
// it: a host that does not come up must not use up subnets. ctx may have
// ended.
func (s *segment) abandon(ctx context.Context) error {
	err := s.close()
	if s.made.Key == "" {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	return errors.Join(err, s.d.registry.Release(ctx, s.made))
}
