// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"net/netip"
	"time"

	"vxtap/test/field"
)

// event judges one change in etcd: that it takes nothing from anybody (d), and
// that no host gets what overlaps another's (a).
func (j *judge) event(e event) {
	state := j.history.now()
	before, after := j.history.add(e)
	if e.fault != "" {
		delete(j.ended, e.key)
		j.short[e.key] = e.fault == string(shortened)
		return
	}
	j.checks[noOverwrite]++
	switch {
	case e.deleted && before.key != "" && before.grant == 0 && !j.isHost(before.owner):
		j.violate(e.at, noOverwrite, "%s was deleted at revision %d, and it is no host's", e.key, e.rev)
	case e.deleted:
		if j.isHost(before.owner) && before.grant != 0 && !j.short[e.key] {
			j.ended[e.key] = ended{before.owner, e.at}
		}
		delete(j.short, e.key)
		return
	case before.key != "" && before.owner != after.host:
		j.violate(e.at, noOverwrite, "%s of %v was overwritten by %v at revision %d", e.key, before.owner, after.host, e.rev)
	}
	delete(j.ended, e.key)
	delete(j.short, e.key)
	if before.key != "" || !j.isHost(after.host) {
		return
	}
	j.checks[oneOwner]++
	for _, k := range state.keys {
		if k.subnet.IsValid() && k.key != e.key && k.subnet.Overlaps(after.subnet) && k.owner != after.host {
			j.violate(e.at, oneOwner, "%v created %s at revision %d over %s of %v", after.host, e.key, e.rev, k.key, k.owner)
		}
	}
}

// sample judges what a daemon said.
func (j *judge) sample(s sample) {
	states := j.history.between(s.start.Add(-grace), s.end.Add(skew))
	able := j.able(s.host, s.start.Add(-grace))
	j.claim(s, states, able)
	if able {
		j.loss(s, states)
		j.table(s, states)
	}
	j.settle(s)
	j.last[s.host] = s
}

// claim judges which subnet the daemon says it holds: (a).
func (j *judge) claim(s sample, states []state, able bool) {
	subnet, ok := s.claims()
	if !ok {
		return
	}
	j.checks[oneOwner]++
	key, own := keyOf(subnet), j.hosts[s.host]
	if e, out := j.ended[key]; out && e.host == own && e.at.Before(s.start) {
		j.violate(s.end, oneOwner, "%v claims %v until %v, but its time was over in etcd at %s", own, subnet,
			s.status.Lease.Expires, e.at.Format(clock))
	}
	if able && !held(states, key, own) {
		j.violate(s.end, oneOwner, "%v claims %v, which in etcd has not been its own since %s", own, subnet, s.start.Add(-grace).Format(clock))
	}
	for i, other := range j.last {
		theirs, ok := other.claims()
		if i == s.host || !ok || !theirs.Overlaps(subnet) || s.start.Sub(other.end) > time.Second {
			continue
		}
		if !able || !j.able(i, other.start.Add(-grace)) {
			j.excused++
			continue
		}
		j.violate(s.end, oneOwner, "%v claims %v and %v claims %v", own, subnet, j.hosts[i], theirs)
	}
}

// held reports whether host owned key in any of states.
func held(states []state, key string, host netip.Addr) bool {
	for _, s := range states {
		if k, ok := s.keys[key]; ok && k.owner == host {
			return true
		}
	}
	return false
}

// loss judges whether the daemon forwards for a subnet that is somebody else's:
// (b).
func (j *judge) loss(s sample, states []state) {
	if !s.forwards() {
		return
	}
	j.checks[noForwarding]++
	subnet, own := s.status.Subnet, j.hosts[s.host]
	if held(states, keyOf(subnet), own) {
		return
	}
	for _, state := range states {
		k, taken := overlapping(state.table, subnet)
		if !taken || k.host == own {
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
	for _, what := range j.wrong(s, states) {
		j.violate(s.end, routable, "%v %s since %s", j.hosts[s.host], what, s.start.Add(-grace).Format(clock))
	}
}

// settle notes when, after the last fault, the daemon's table is right for the
// first time: as etcd has it now, without grace.
func (j *judge) settle(s sample) {
	if j.over.IsZero() || s.start.Before(j.over) || !j.right[s.host].IsZero() {
		return
	}
	if states := j.history.between(s.start, s.end); len(j.wrong(s, states)) == 0 && len(s.status.Peers) > 0 {
		j.right[s.host] = s.end
	}
}

// wrong returns in what the daemon's table is like none of states.
func (j *judge) wrong(s sample, states []state) (all []string) {
	own := j.hosts[s.host]
	seen := make(map[netip.Prefix]bool, len(s.status.Peers))
	for _, p := range s.status.Peers {
		seen[p.Subnet] = true
		if p.VTEP == own || !known(states, p.Subnet, p.VTEP, p.MAC) {
			all = append(all, fmt.Sprintf("sends for %v to %v (%s), which has been no lease", p.Subnet, p.VTEP, p.MAC))
		}
	}
	for p, k := range states[0].table {
		if !seen[p] && k.host != own && !p.Overlaps(s.status.Subnet) && always(states, k) {
			all = append(all, fmt.Sprintf("does not know that %v is at %v, which has been so", p, k.host))
		}
	}
	return all
}

// opening reports whether the daemon has no table yet, for its subnet is another
// one than a moment ago. It is not ready then; and it has grace.
func (j *judge) opening(s sample) bool {
	since := &j.opens[s.host]
	switch {
	case len(s.status.Peers) > 0 || s.status.State == field.StateReady:
		*since = time.Time{}
	case since.IsZero():
		*since = s.start
	}
	return !since.IsZero() && s.start.Sub(*since) < grace
}

// lost reports whether the daemon has no peers since its subnet is somebody
// else's, or since it is about to open another one.
func (s sample) lost(states []state, own netip.Addr) bool {
	return len(s.status.Peers) == 0 && !held(states[len(states)-1:], keyOf(s.status.Subnet), own)
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
func always(states []state, k holding) bool {
	for _, s := range states {
		if now, ok := s.table[k.subnet]; !ok || now.host != k.host || now.mac != k.mac {
			return false
		}
	}
	return true
}
