// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// kind is a kind of fault.
type kind string

const (
	memberKilled   kind = "member killed"
	memberSilenced kind = "member silenced" // its cable is out: nobody is told
	memberParted   kind = "member parted"   // clients reach it, the others do not
	majorityLost   kind = "majority killed"
	compacted      kind = "compacted"
	revoked        kind = "lease revoked"
	keyDeleted     kind = "key deleted"
	keyHijacked    kind = "key hijacked"
	valueSpoilt    kind = "junk over a lease"
	junkAdded      kind = "junk key"
	shortened      kind = "lease shortened"
	killed         kind = "daemon killed"
	otherClock     kind = "daemon killed, back with other clocks"
	terminated     kind = "daemon terminated"
	paused         kind = "daemon paused"
	cutOff         kind = "host cut off"
	wished         kind = "subnet wished twice"

	// Where there are both families.
	addressGone  kind = "IPv6 address gone"
	halfHijacked kind = "IPv6 half of a key hijacked" // another key names the same IPv6 subnet
	halfSpoilt   kind = "junk over the IPv6 half of a lease"
)

// pastTTL is longer than a lease of leaseTTL lives, and than etcd takes to see
// that it has ended.
const (
	leaseTTL = 10 * time.Second
	pastTTL  = 13 * time.Second
)

// kinds are all kinds, with how long each lasts: from least, up to most. dual adds
// those that take both families.
func kinds(dual bool) []kindOf {
	all := []kindOf{
		{memberKilled, time.Second, 6 * time.Second},
		{memberSilenced, 17 * time.Second, 19 * time.Second}, // until every client has given it up
		{memberParted, 3 * time.Second, 8 * time.Second},
		{majorityLost, 2 * time.Second, 4 * time.Second},
		{compacted, 0, 0},
		{revoked, 0, 0}, {keyDeleted, 0, 0}, {keyHijacked, 0, 0},
		{valueSpoilt, 0, 0}, {junkAdded, 0, 0}, {shortened, 0, 0},
		{killed, 0, 5 * time.Second},
		{otherClock, 0, 5 * time.Second},
		{terminated, 0, 5 * time.Second},
		{paused, pastTTL, 17 * time.Second},
		{cutOff, 2 * time.Second, 17 * time.Second},
		{wished, time.Second, 17 * time.Second},
	}
	if dual {
		// Too short for a daemon to see it, up to long enough for one to start without.
		all = append(all, kindOf{addressGone, 200 * time.Millisecond, 9 * time.Second}, kindOf{halfHijacked, 0, 0}, kindOf{halfSpoilt, 0, 0})
	}
	return all
}

type kindOf struct {
	kind
	least, most time.Duration
}

// ofMember reports whether the kind takes a member away.
func (k kind) ofMember() bool {
	return slices.Contains([]kind{memberKilled, memberSilenced, memberParted, majorityLost}, k)
}

// needsProcess reports whether the kind takes a host's daemon, or its way to
// etcd, for its time.
func (k kind) needsProcess() bool {
	return slices.Contains([]kind{killed, otherClock, terminated, paused, cutOff, wished}, k)
}

// fault is one thing that is done, and undone after its time.
type fault struct {
	number int
	kind   kind
	at     time.Duration // after the begin of its round
	lasts  time.Duration
	hosts  []int // that it hits, from 0
	member int   // that it hits, or spares where a majority is hit
	pick   uint64
}

// String returns it in one line, as the log has it.
func (f fault) String() string {
	var of []string
	for _, h := range f.hosts {
		of = append(of, fmt.Sprintf("h%d", h+1))
	}
	if f.kind.ofMember() {
		of = append(of, fmt.Sprintf("e%d", f.member+1))
	}
	if f.kind == majorityLost {
		of = append(of, "stays")
	}
	text := fmt.Sprintf("fault %d: %s %s", f.number, f.kind, strings.Join(of, " "))
	if f.lasts > 0 {
		text += fmt.Sprintf(", for %v", f.lasts)
	}
	return text
}

// A round is roundFaults of faults, all of which are over by then, and as much
// quiet as it takes to see that all is well again.
const (
	roundFaults = 38 * time.Second
	roundTime   = 60 * time.Second // at most, with the quiet
)

// plan returns the faults of a round, by when they begin. It depends on nothing
// but its arguments: the same seed makes the same faults.
func plan(seed uint64, round, hosts, members int, dual bool) []fault {
	r := rand.New(rand.NewPCG(seed, uint64(round)))
	p := &planner{rand: r, hosts: make([][]span, hosts), members: members}
	// One of each kind, and as many again of the cheap ones.
	deck := kinds(dual)
	for _, k := range kinds(dual) {
		if !k.ofMember() {
			deck = append(deck, k)
		}
	}
	r.Shuffle(len(deck), func(i, j int) { deck[i], deck[j] = deck[j], deck[i] })
	for _, k := range deck {
		p.add(k)
	}
	slices.SortStableFunc(p.faults, func(a, b fault) int { return cmp.Compare(a.at, b.at) })
	for i := range p.faults {
		p.faults[i].number = i + 1
	}
	return p.faults
}

// planner makes the faults of one round.
type planner struct {
	rand    *rand.Rand
	faults  []fault
	hosts   [][]span // when the process of a host is taken
	members int
	taken   []span // when a member is
}

type span struct{ from, to time.Duration }

// fits reports whether s leaves some air between itself and others.
func (s span) fits(others []span) bool {
	const air = 1500 * time.Millisecond
	for _, o := range others {
		if s.from < o.to+air && o.from < s.to+air {
			return false
		}
	}
	return true
}

// add adds one fault of a kind, or none if there is no room for it.
func (p *planner) add(k kindOf) {
	for range 50 {
		f := fault{kind: k.kind, lasts: k.least, pick: p.rand.Uint64()}
		if k.most > k.least {
			f.lasts += time.Duration(p.rand.Int64N(int64(k.most - k.least)))
		}
		f.lasts = f.lasts.Truncate(100 * time.Millisecond)
		f.at = time.Duration(p.rand.Int64N(int64(min(roundFaults-f.lasts, roundFaults-time.Second)))).Truncate(10 * time.Millisecond)
		when := span{f.at, f.at + f.lasts}
		f.member = p.rand.IntN(p.members)
		if k.ofMember() {
			if when.fits(p.taken) {
				p.taken = append(p.taken, when)
				p.faults = append(p.faults, f)
				return
			}
			continue
		}
		if p.chooseHosts(&f, when) {
			p.faults = append(p.faults, f)
			return
		}
	}
}

// chooseHosts gives f as many hosts as its kind takes.
func (p *planner) chooseHosts(f *fault, when span) bool {
	n := 1
	switch f.kind {
	case wished:
		n = 2
	case compacted, junkAdded:
		n = 0
	default:
	}
	for _, h := range p.rand.Perm(len(p.hosts)) {
		if len(f.hosts) == n {
			break
		}
		if !f.kind.needsProcess() || when.fits(p.hosts[h]) {
			f.hosts = append(f.hosts, h)
		}
	}
	if len(f.hosts) < n {
		return false
	}
	if f.kind.needsProcess() {
		for _, h := range f.hosts {
			p.hosts[h] = append(p.hosts[h], when)
		}
	}
	return true
}
