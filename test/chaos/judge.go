// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"vxtap/test/field"
)

// invariant is one of the four things that must hold all the time.
type invariant string

const (
	oneOwner     invariant = "a: no two live nodes hold overlapping subnets"
	noForwarding invariant = "b: no node forwards for a subnet that it lost"
	routable     invariant = "c: every live lease is routable everywhere"
	noOverwrite  invariant = "d: nobody else's key was ever overwritten"
	goesOn       invariant = "no daemon ends by itself" // counted by nobody: it is seen
)

// invariants returns all, in order.
func invariants() []invariant { return []invariant{oneOwner, noForwarding, routable, noOverwrite} }

const (
	// grace is how long a host may take to do what etcd can tell it: 2 s.
	grace = 2 * time.Second
	// skew is how much later the judge hears of a change than a daemon may.
	skew = time.Second
)

// sample is what one daemon said of itself at some moment from start to end.
type sample struct {
	host       int
	start, end time.Time
	status     field.Status
}

// claims returns the subnet that the daemon says it holds. A lease that has
// ended by the daemon's own clock is no claim: it says when, and does not say
// that it has the subnet still.
func (s sample) claims() (netip.Prefix, bool) {
	l := s.status.Lease
	held := l.State == "held" || l.State == "reserved"
	return s.status.Subnet, held && s.status.Subnet.IsValid() && (l.Expires == nil || l.Expires.After(s.end))
}

// forwards reports whether the daemon moves frames for its subnet.
func (s sample) forwards() bool { return s.status.Subnet.IsValid() && len(s.status.Peers) > 0 }

// violation is one breach of one invariant.
type violation struct {
	at   time.Time
	what invariant
	text string
}

// String returns it in one line.
func (v violation) String() string {
	return fmt.Sprintf("%s VIOLATION %s: %s", v.at.Format(clock), v.what, v.text)
}

// clock is how moments are written.
const clock = "15:04:05.000"

// subnets is how many subnets the network of a run has.
const subnets = 64

// judge compares what is told to it with the invariants. It is told of events in
// the order of their revisions, and of samples when every event is known that
// may concern them. It is used by one goroutine.
type judge struct {
	hosts   []netip.Addr // PublicIP of host i+1
	history *history
	reach   []reach          // of each host
	last    []sample         // of each host, judged
	opens   []time.Time      // of each host: since when it has no table, for it opens one; the zero Time: it has one
	ended   map[string]ended // by key: leases of hosts that ran out
	short   map[string]bool  // keys whose time a fault has shortened

	// After the last fault of a round: since when there is quiet, and when each
	// host's table was right; the zero Time: not yet.
	over  time.Time
	right []time.Time

	checks map[invariant]int
	// excused counts pairs of claims of which one is a host's that cannot know.
	excused    int
	violations []violation
	tell       func(violation)
}

// ended is a lease of a host that nobody deleted: its time was over.
type ended struct {
	host netip.Addr
	at   time.Time
}

// reach is whether etcd can tell a host anything.
type reach struct {
	blocked int       // reasons why not, at present
	from    time.Time // since when, and that it had the time to notice
}

func newJudge(network netip.Prefix, hosts []netip.Addr) *judge {
	return &judge{
		hosts: hosts, history: newHistory(network), reach: make([]reach, len(hosts)), last: make([]sample, len(hosts)),
		right: make([]time.Time, len(hosts)), opens: make([]time.Time, len(hosts)),
		ended: map[string]ended{}, short: map[string]bool{}, checks: map[invariant]int{}, tell: func(violation) {},
	}
}

// block says that from now on host cannot know what etcd has.
func (j *judge) block(host int) { j.reach[host].blocked++ }

// unblock says that since t it can again, and needs allowance to notice.
func (j *judge) unblock(host int, t time.Time, allowance time.Duration) {
	j.reach[host].blocked--
	j.trouble(host, t, allowance)
}

// trouble says that at t something happened to the way to etcd of host, which
// needs allowance to find another.
func (j *judge) trouble(host int, t time.Time, allowance time.Duration) {
	if r := &j.reach[host]; r.from.Before(t.Add(allowance)) {
		r.from = t.Add(allowance)
	}
}

// quiet says that the last fault is over at t: from now on nothing is allowed
// but grace.
func (j *judge) quiet(t time.Time) {
	j.over = t
	clear(j.right)
	for i := range j.reach {
		if j.reach[i].from.After(t) {
			j.reach[i].from = t
		}
	}
}

// loud says that faults begin again.
func (j *judge) loud() { j.over = time.Time{} }

// longest returns how long after the last fault the last host had a right table.
func (j *judge) longest() (d time.Duration) {
	for _, t := range j.right {
		d = max(d, t.Sub(j.over))
	}
	return d
}

// able reports whether etcd could tell host everything since t.
func (j *judge) able(host int, t time.Time) bool {
	r := j.reach[host]
	return r.blocked == 0 && !r.from.After(t)
}

// isHost reports whether a is the PublicIP of a daemon.
func (j *judge) isHost(a netip.Addr) bool {
	return slices.Contains(j.hosts, a)
}

func (j *judge) violate(at time.Time, what invariant, format string, args ...any) {
	v := violation{at, what, fmt.Sprintf(format, args...)}
	j.violations = append(j.violations, v)
	j.tell(v)
}
