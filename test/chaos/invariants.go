// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"vxtap/test/field"
)

// event judges one change in etcd: that it takes nothing from anybody (d), and
// that no host gets what overlaps another's (a).
func (j *judge) event(e event) {
	state := j.history.now()
	before, after := j.history.add(e)
	for _, p := range after.subnets() {
		delete(j.ended, p)
	}
	if e.fault != "" {
		for _, p := range before.subnets() {
			delete(j.ended, p)
		}
		j.short[e.key] = e.fault == string(shortened)
		return
	}
	j.checks[noOverwrite]++
	short := j.short[e.key]
	delete(j.short, e.key)
	switch {
	case e.deleted && before.key != "" && before.grant == 0 && !j.isHost(before.owner):
		j.violate(e.at, noOverwrite, "%s was deleted at revision %d, and it is no host's", e.key, e.rev)
	case e.deleted:
		if j.isHost(before.owner) && before.grant != 0 && !short {
			j.ends(e, before, state)
		}
		return
	case before.key != "" && before.owner != after.host:
		j.violate(e.at, noOverwrite, "%s of %v was overwritten by %v at revision %d", e.key, before.owner, after.host, e.rev)
	}
	if before.key == "" && j.isHost(after.host) {
		j.creates(e, after, state)
	}
}

// ends notes that the time of a lease is over, unless its host moved it to another
// key in the same step.
func (j *judge) ends(e event, before holding, state state) {
	for _, k := range state.keys {
		if k.owner == before.owner && k.created == e.rev {
			return
		}
	}
	for _, p := range before.subnets() {
		j.ended[p] = ended{before.owner, e.at, e.rev}
	}
}

// creates judges a key that a host has created: (a).
func (j *judge) creates(e event, after holding, state state) {
	maps.DeleteFunc(j.ended, func(_ netip.Prefix, x ended) bool { return x.host == after.owner && x.rev == e.rev })
	j.checks[oneOwner]++
	for _, k := range state.keys {
		switch {
		case k.key == e.key || k.owner == after.host || !meet(k, after):
		case j.dual():
			j.meets = append(j.meets, meeting{slices.Index(j.hosts, after.host), after, k, e.at})
		default:
			j.violate(e.at, oneOwner, "%v created %s at revision %d over %s of %v", after.host, e.key, e.rev, k.key, k.owner)
		}
	}
}

// meet reports whether two keys name an address together.
func meet(a, b holding) bool {
	return slices.ContainsFunc(a.subnets(), func(p netip.Prefix) bool {
		return slices.ContainsFunc(b.subnets(), p.Overlaps)
	})
}

// meetings judges whether the later of two keys with a half in common is gone: (a).
func (j *judge) meetings(now time.Time) {
	keys := j.history.now().keys
	j.meets = slices.DeleteFunc(j.meets, func(m meeting) bool {
		late, early := keys[m.late.key], keys[m.early.key]
		switch {
		case late.created != m.late.created || early.created != m.early.created || late.owner != m.late.owner || early.owner == late.owner:
			return true
		case now.Sub(m.at) < grace || !j.able(m.host, now.Add(-grace)):
			return false
		}
		j.violate(now, oneOwner, "%v created %s over %s of %v, and has it still", late.owner, late.key, early.key, early.owner)
		return true
	})
}

// sample judges what a daemon said.
func (j *judge) sample(s sample) {
	states := j.history.between(s.start.Add(-grace), s.end.Add(skew))
	able := j.able(s.host, s.start.Add(-grace))
	j.claims(s, states, able)
	j.meetings(s.end)
	if able {
		j.loss(s, states)
		j.table(s, states)
	}
	j.settle(s)
	j.last[s.host] = s
}

// claims judges which subnets the daemon says it holds: (a).
func (j *judge) claims(s sample, states []state, able bool) {
	for _, subnet := range s.claims() {
		j.claim(s, subnet, states, able)
	}
}

func (j *judge) claim(s sample, subnet netip.Prefix, states []state, able bool) {
	j.checks[oneOwner]++
	own := j.hosts[s.host]
	if e, out := j.ended[subnet]; out && e.host == own && e.at.Before(s.start) {
		j.violate(s.end, oneOwner, "%v claims %v until %v, but its time was over in etcd at %s", own, subnet,
			s.status.Lease.Expires, e.at.Format(clock))
	}
	if able && !held(states, subnet, own) {
		j.violate(s.end, oneOwner, "%v claims %v, which in etcd has not been its own since %s", own, subnet, s.start.Add(-grace).Format(clock))
	}
	for i, other := range j.last {
		theirs := other.claims()
		both := slices.IndexFunc(theirs, subnet.Overlaps)
		if i == s.host || both < 0 || s.start.Sub(other.end) > time.Second {
			continue
		}
		if !able || !j.able(i, other.start.Add(-grace)) {
			j.excused++
			continue
		}
		j.violate(s.end, oneOwner, "%v claims %v and %v claims %v", own, subnet, j.hosts[i], theirs[both])
	}
}

// held reports whether host owned a key of subnet in any of states.
func held(states []state, subnet netip.Prefix, host netip.Addr) bool {
	for _, s := range states {
		for _, k := range s.keys {
			if k.owner == host && k.has(subnet) {
				return true
			}
		}
	}
	return false
}

// loss judges whether the daemon forwards for a subnet that is somebody else's:
// (b).
func (j *judge) loss(s sample, states []state) {
	for _, one := range s.sides() {
		if len(one.peers) > 0 {
			j.checks[noForwarding]++
			j.lossOf(s, one.subnet, states)
		}
	}
}

func (j *judge) lossOf(s sample, subnet netip.Prefix, states []state) {
	own := j.hosts[s.host]
	if held(states, subnet, own) {
		return
	}
	for _, state := range states {
		k, taken := overlapping(state.table, subnet)
		if !taken || k.owner == own {
			return
		}
	}
	j.violate(s.end, noForwarding, "%v forwards for %v, which has been somebody else's since %s", own, subnet, s.start.Add(-grace).Format(clock))
}

// table judges whether the daemon's peers are etcd's leases: (c), and the other
// half of (b), that nobody sends to who lost a subnet.
func (j *judge) table(s sample, states []state) {
	if len(states) == 0 || j.opening(s) || s.lost(states, j.hosts[s.host]) {
		return
	}
	j.checks[routable]++
	for _, what := range j.wrong(s, states, j.able6(s.host, s.start.Add(-grace))) {
		j.violate(s.end, routable, "%v %s since %s", j.hosts[s.host], what, s.start.Add(-grace).Format(clock))
	}
}

// settle notes when, after the last fault, the daemon's table is right for the
// first time: as etcd has it now, without grace.
func (j *judge) settle(s sample) {
	if j.over.IsZero() || s.start.Before(j.over) || !j.right[s.host].IsZero() {
		return
	}
	if _, all := s.forwards(); !all {
		return
	}
	if states := j.history.between(s.start, s.end); len(j.wrong(s, states, true)) == 0 {
		j.right[s.host] = s.end
	}
}

// wrong returns in what the daemon's table is like none of states. six is whether it
// should have IPv6 peers.
func (j *judge) wrong(s sample, states []state, six bool) (all []string) {
	seen := map[netip.Prefix]bool{}
	sides := s.sides()
	for _, one := range sides {
		for _, p := range one.peers {
			seen[p.Subnet] = true
			if j.isAt(s.host, p.VTEP) || !known(states, p.Subnet, p.VTEP, p.MAC) {
				all = append(all, fmt.Sprintf("sends for %v to %v (%s), which has been no lease", p.Subnet, p.VTEP, p.MAC))
			}
		}
	}
	for p, k := range states[0].table {
		ours := slices.ContainsFunc(sides, func(one side) bool { return one.subnet.Overlaps(p) })
		if !seen[p] && !ours && !j.isAt(s.host, k.host) && (six || p.Addr().Is4()) && always(states, k) {
			all = append(all, fmt.Sprintf("does not know that %v is at %v, which has been so", p, k.host))
		}
	}
	return all
}

// opening reports whether the daemon has no table yet, for its subnet is another
// one than a moment ago. It is not ready then; and it has grace.
func (j *judge) opening(s sample) bool {
	since := &j.opens[s.host]
	_, all := s.forwards()
	switch {
	case all || s.status.State == field.StateReady:
		*since = time.Time{}
	case since.IsZero():
		*since = s.start
	}
	return !since.IsZero() && s.start.Sub(*since) < grace
}

// lost reports whether the daemon has no peers since one of its subnets is somebody
// else's, or since it is about to open another one.
func (s sample) lost(states []state, own netip.Addr) bool {
	if some, _ := s.forwards(); some {
		return false
	}
	last, sides := states[len(states)-1:], s.sides()
	return len(sides) == 0 || slices.ContainsFunc(sides, func(one side) bool { return !held(last, one.subnet, own) })
}

// known reports whether the entry was right in any of states.
func known(states []state, p netip.Prefix, vtep netip.Addr, mac string) bool {
	for _, s := range states {
		if k, ok := s.table[p]; ok && k.host == vtep && k.mac == mac {
			return true
		}
	}
	return false
}

// always reports whether k stood in the table in all of states.
func always(states []state, k place) bool {
	for _, s := range states {
		if now, ok := s.table[k.subnet]; !ok || now.host != k.host || now.mac != k.mac {
			return false
		}
	}
	return true
}
