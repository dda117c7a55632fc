// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"

	"vxtap/lease"
	"vxtap/tunnel/host"
)

// live is what of a segment changes under traffic.
type live struct {
	now    atomic.Pointer[lease.Config] // what the segment goes by; nil: what it was opened by
	notice atomic.Pointer[configNotice] // what etcd has instead
	away   atomic.Pointer[string]       // why the tunnel has no address at present
	away6  atomic.Pointer[string]       // the same of IPv6

	gains atomic.Pointer[netip.Addr] // an IPv6 address for hold to take up; nil: there is none

	hearing   sync.Mutex        // held while the config is being heard
	postponed *lease.ConfigNews // that hearConfig has left to confirm; guarded by hearing

	// setting is held while the host is being set up, system calls included: who
	// takes it sets up the host as well, and must not do so by an older plan than
	// the one before. That is watchHost, and who follows the MTU; status, health and
	// the leases never wait for it.
	setting    sync.Mutex
	tight      string          // what warnOfMTU has said; guarded by setting once the segment runs
	staleFile  bool            // the subnet file has another MTU than the device; guarded by setting
	publishing sync.Mutex      // held while the switch is being told of its peers
	leases     *lease.Snapshot // that it was told of last; guarded by publishing
	had        []netip.Addr    // addresses of this host that its lease had before; guarded by publishing

	homeNews chan struct{} // tells followHome to look where the host is
	moved    chan struct{} // tells hold that the lease is to have another address
}

func newLive() live {
	news := func() chan struct{} { return make(chan struct{}, 1) }
	return live{homeNews: news(), moved: news()}
}

// poke puts an event on a channel that has room for one.
func poke(news chan<- struct{}) {
	select {
	case news <- struct{}{}:
	default: // there is one
	}
}

// current is the config that the segment goes by. Network, VNI, port and what
// else Config.Fixed names are those that it was opened by. Whoever depends on the
// rest asks each time, and is told by lookAgain.
func (s *segment) current() *lease.Config {
	if c := s.now.Load(); c != nil {
		return c
	}
	return &s.config
}

// lookAgain has the host, its rules and its routes looked at. Those to peers are
// not set before there are any.
func (s *segment) lookAgain() {
	for _, one := range s.sides {
		poke(one.hostNews)
	}
	poke(s.rulesNews)
	s.publishing.Lock()
	known := s.leases != nil
	s.publishing.Unlock()
	if known {
		s.tellRoutes()
	}
}

// wantedMTU is what the device's MTU is to be.
func (s *side) wantedMTU() int {
	return outerMTU(s.current().Backend, s.d.at().uplink.MTU) - s.overhead()
}

// resize sets the MTU that there is to be by now, without interrupting traffic:
// the switch takes larger frames before the kernel makes them, and smaller ones
// only after it does. Containers learn of it by the subnet file, when they are
// made; for those that are there the host's kernel tells their senders (RFC 1191).
func (s *segment) resize() {
	s.setting.Lock()
	defer s.setting.Unlock()
	changed := false
	for _, one := range s.sides {
		changed = one.resize() || changed
	}
	s.warnOfMTU()
	if !changed && !s.staleFile {
		return
	}
	err := s.subnetEnv().WriteFile(s.d.subnetFile)
	if err != nil && (changed || !s.staleFile) {
		s.log.Error("the subnet file has the MTU of before, trying on", "error", err)
	}
	s.staleFile = err != nil
}

// resize reports whether there was anything to do. The lock is held.
func (s *side) resize() bool {
	mtu, before := s.wantedMTU(), int(s.mtu.Load())
	if mtu == before {
		return false
	}
	if mtu < s.minMTU() {
		if mtu != s.tooSmall {
			s.log.Error("the outside interface's MTU is too small for the overlay, the one of before stays", "mtu", mtu, "before", before)
		}
		s.tooSmall = mtu
		return false
	}
	s.mtu.Store(int32(mtu))
	if mtu < before {
		s.applyMTU(mtu)
	}
	if err := s.sw.SetMTU(mtu); err != nil { // not reached: it is neither too small nor too large for a device
		s.log.Error("the MTU cannot be changed", "mtu", mtu, "error", err)
	}
	if mtu > before {
		s.applyMTU(mtu)
	}
	if s.whole != nil {
		s.whole.SetMTU(mtu)
	}
	s.log.Info("the MTU is another one now", "mtu", mtu, "before", before)
	return true
}

// minMTU is the least that IPv4 lets a device have (RFC 791).
const minMTU = 68

func (s *side) applyMTU(mtu int) {
	if _, err := host.Apply(s.plan(slog.New(slog.DiscardHandler))); err != nil {
		s.log.Error("the MTU of the device is not set yet, trying on", "mtu", mtu, "error", err)
	}
}

// notices are what the operator should know of the config and of where the host
// is: unlike warnings, the log has them already.
func (s *segment) notices() []string {
	var all []string
	for _, away := range []*atomic.Pointer[string]{&s.away, &s.away6} {
		if why := away.Load(); why != nil {
			all = append(all, *why)
		}
	}
	if why := s.linkLocal(); why != "" && s.away6.Load() == nil {
		all = append(all, why)
	}
	if s.noIPv6 != "" && s.d.said6() != "" {
		all = append(all, s.noIPv6)
	}
	for _, one := range s.sides {
		if why := one.unmended.Load(); why != nil {
			all = append(all, *why)
		}
	}
	if why := s.tightLink(); why != "" {
		all = append(all, why)
	}
	if n := s.notice.Load(); n != nil {
		all = append(all, n.warnings()...)
	}
	return all
}

// configNotice is what there is to say of the config in etcd.
type configNotice struct {
	state   string // configInUse, configWaiting, configBroken or configMissing
	reason  string
	waits   []lease.Change
	refused uint64 // values, since the segment was opened, that no host starts with
}

// What ConfigStatus.State says.
const (
	configInUse   = "in use"
	configWaiting = "waiting for a restart"
	configBroken  = "broken"
	configMissing = "missing"
)

func (n *configNotice) warnings() []string {
	var all []string
	for _, w := range n.waits {
		all = append(all, fmt.Sprintf("network config: %s is %s in etcd, and this host still goes by %s: restart vxtap to follow",
			w.Name, orNone(w.To), orNone(w.From)))
	}
	switch n.state {
	case configBroken:
		all = append(all, "network config in etcd is none that a host starts with, this one goes on by the one before: "+n.reason)
	case configMissing:
		all = append(all, "network config is gone from etcd, this host goes on by the one before, and no other can start: put it there again")
	}
	return all
}
