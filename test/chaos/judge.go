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

// side is what one of a daemon's devices has.
type side struct {
	subnet netip.Prefix
	peers  []field.Peer
}

// sides returns what the daemon's devices have, IPv4 first. One that has no subnet
// is left out.
func (s sample) sides() (all []side) {
	four := side{s.status.Subnet, s.status.Peers}
	if four.subnet.IsValid() {
		all = append(all, four)
	}
	if v6 := s.status.IPv6; v6 != nil && v6.Subnet.IsValid() {
		all = append(all, side{v6.Subnet, v6.Peers})
	}
	return all
}

// claims returns the subnets that the daemon says it holds. A lease that has
// ended by the daemon's own clock is no claim: it says when, and does not say
// that it has the subnet still.
func (s sample) claims() (all []netip.Prefix) {
	l := s.status.Lease
	if l.State != "held" && l.State != "reserved" || l.Expires != nil && !l.Expires.After(s.end) {
		return nil
	}
	for _, one := range s.sides() {
		all = append(all, one.subnet)
	}
	return all
}

// forwards reports whether some of the daemon's devices has peers, and all whether
// each has.
func (s sample) forwards() (some, all bool) {
	sides := s.sides()
	all = len(sides) > 0
	for _, one := range sides {
		some, all = some || len(one.peers) > 0, all && len(one.peers) > 0
	}
	return some, all
}

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
	reach   []reach                // of each host
	address []reach                // of each host: whether it has its IPv6 address
	last    []sample               // of each host, judged
	opens   []time.Time            // of each host: since when it has no table, for it opens one; the zero Time: it has one
	ended   map[netip.Prefix]ended // by subnet: leases of hosts that ran out
	short   map[string]bool        // keys whose time a fault has shortened
	meets   []meeting              // keys that name what an earlier one names

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
	rev  int64
}

// meeting is a key that a host has created although an earlier one of somebody
// else's names one of its subnets. A key of two halves is a lock on neither, so
// that this happens; who was later has to give way.
type meeting struct {
	host        int
	late, early holding
	at          time.Time
}

// reach is whether a host can do what it should: etcd can tell it anything, or it
// has its IPv6 address.
type reach struct {
	blocked int       // reasons why not, at present
	from    time.Time // since when, and that it had the time to notice
}

func (r *reach) trouble(t time.Time, allowance time.Duration) {
	if r.from.Before(t.Add(allowance)) {
		r.from = t.Add(allowance)
	}
}

// since reports whether it has been so since t.
func (r *reach) since(t time.Time) bool { return r.blocked == 0 && !r.from.After(t) }

// newJudge returns a judge of a network of hosts. networks are of IPv4 and of IPv6;
// the zero Prefix: there is no IPv6.
func newJudge(networks [2]netip.Prefix, hosts []netip.Addr) *judge {
	n := len(hosts)
	return &judge{
		hosts: hosts, history: newHistory(networks), reach: make([]reach, n), address: make([]reach, n), last: make([]sample, n),
		right: make([]time.Time, n), opens: make([]time.Time, n),
		ended: map[netip.Prefix]ended{}, short: map[string]bool{}, checks: map[invariant]int{}, tell: func(violation) {},
	}
}

// dual reports whether the network has both families.
func (j *judge) dual() bool { return j.history.networks[1].IsValid() }

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
	j.reach[host].trouble(t, allowance)
}

// homeless says that from now on host has no IPv6 address.
func (j *judge) homeless(host int) { j.address[host].blocked++ }

// housed says that since t it has it again, and needs allowance to take it up.
func (j *judge) housed(host int, t time.Time, allowance time.Duration) {
	j.address[host].blocked--
	j.address[host].trouble(t, allowance)
}

// quiet says that the last fault is over at t: from now on nothing is allowed
// but grace.
func (j *judge) quiet(t time.Time) {
	j.over = t
	clear(j.right)
	for _, all := range [][]reach{j.reach, j.address} {
		for i := range all {
			if all[i].from.After(t) {
				all[i].from = t
			}
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
	return j.reach[host].since(t)
}

// able6 reports whether, besides, it could have IPv6 peers since t.
func (j *judge) able6(host int, t time.Time) bool {
	return j.able(host, t) && j.address[host].since(t)
}

// isAt reports whether a is an address of host.
func (j *judge) isAt(host int, a netip.Addr) bool {
	return a == j.hosts[host] || j.dual() && a == field.IPv6Of(j.hosts[host])
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
