// SPDX-License-Identifier: Apache-2.0

package main

import (
	"slices"

	"vxtap/lease"
)

// hearConfig takes what etcd says of the network config, and follows what can be
// followed under traffic. All else is said, once for each change, and shown in
// status for as long as it is so.
func (s *segment) hearConfig(n lease.ConfigNews) {
	s.hearing.Lock()
	defer s.hearing.Unlock()
	s.postponed = nil
	if s.known != nil && !s.confirmed.Load() && n.Err == nil && !n.Missing && !s.fits(n.Config) {
		s.postponed = &n // confirm is about to start afresh by it
		return
	}
	s.takeConfig(n)
}

// confirms notes that what the segment was opened by holds. A config that confirm
// was left to start afresh by may have come after the one that it read.
func (s *segment) confirms() {
	s.hearing.Lock()
	defer s.hearing.Unlock()
	s.confirmed.Store(true)
	if n := s.postponed; n != nil {
		s.postponed = nil
		s.takeConfig(*n)
	}
}

// takeConfig is hearConfig; the lock is held.
func (s *segment) takeConfig(n lease.ConfigNews) {
	before := s.notice.Load()
	if before == nil {
		before = &configNotice{}
	}
	notice := &configNotice{state: configInUse, refused: before.refused}
	switch {
	case n.Missing:
		notice.state = configMissing
		s.log.Warn("the network config was deleted: this host goes on by the one before")
	case n.Err != nil:
		notice.state, notice.reason = configBroken, printable(n.Err.Error())
		notice.refused++
		s.log.Error("the network config is none that a host starts with: this host goes on by the one before", "error", n.Err)
	default:
		s.followConfig(n, notice, before)
	}
	s.notice.Store(notice)
}

func (s *segment) followConfig(n lease.ConfigNews, notice, before *configNotice) {
	own := *s.own.Load()
	was := s.current()
	next := was.Follow(n.Config, own)
	for _, x := range was.Changes(next) {
		s.log.Info("network config changed", "setting", x.Name, "from", orNone(x.From), "to", orNone(x.To))
	}
	if notice.waits = next.Waits(n.Config, own); len(notice.waits) > 0 {
		notice.state = configWaiting
	}
	for _, x := range notice.waits {
		if !slices.Contains(before.waits, x) {
			s.log.Warn("network config changed in what a host that runs does not follow: restart vxtap to follow",
				"setting", x.Name, "from", orNone(x.From), "to", orNone(x.To))
		}
	}
	if len(notice.waits) == 0 {
		if before.state != "" && before.state != configInUse {
			s.log.Info("the network config is as this host goes by it again")
		}
		s.d.registry.Adopt(n)
		poke(s.fresh)
	}
	s.now.Store(&next)
	s.resize()
	s.lookAgain()
}

// ConfigStatus says what there is in etcd beside what this host goes by.
type ConfigStatus struct {
	State   string          `json:"state"`   // configInUse, configWaiting, configBroken or configMissing; "" while etcd has not told
	Reason  string          `json:"reason"`  // why it is broken
	Waiting []WaitingStatus `json:"waiting"` // settings that a restart takes up
	Refused uint64          `json:"refused"` // values since the segment was opened that no host starts with
}

// WaitingStatus is one setting of the config that the host does not go by yet.
type WaitingStatus struct {
	Setting string `json:"setting"`
	InUse   string `json:"in_use"`
	Stored  string `json:"stored"` // in etcd
}

func configStatus(n *configNotice) ConfigStatus {
	s := ConfigStatus{Waiting: []WaitingStatus{}}
	if n == nil {
		return s
	}
	s.State, s.Reason, s.Refused = n.state, n.reason, n.refused
	for _, w := range n.waits {
		s.Waiting = append(s.Waiting, WaitingStatus{w.Name, w.From, w.To})
	}
	return s
}
