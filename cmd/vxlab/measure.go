// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"vxtap/cmd/vxlab/lab"
	"vxtap/cmd/vxlab/netns"
	"vxtap/cmd/vxlab/traffic"
)

// How the demo pings.
const (
	reachWait = 10 * time.Second // for the first replies of all pairs together
	reachMany = 64               // pairs at once
	echoes    = 10               // for the round trip of a pair, after the first
)

// pair is an ordered pair of containers, counted from 0.
type pair struct{ from, to int }

func (p pair) String() string {
	return lab.ContainerNode(p.from+1) + " -> " + lab.ContainerNode(p.to+1)
}

// measurement is what the demo found out.
type measurement struct {
	hosts     []lab.Host
	nodes     []*netns.Namespace // the containers'
	pairs     []pair
	trips     []time.Duration // of pair i, the median
	faults    []error         // of pair i
	transfers map[pair]traffic.Transfer
}

// newMeasurement opens the containers of a lab; the caller closes it.
func newMeasurement(l *lab.Lab) (*measurement, error) {
	m := &measurement{hosts: l.Hosts(), transfers: map[pair]traffic.Transfer{}}
	for i := range m.hosts {
		ns, err := l.Namespace(lab.ContainerNode(i + 1))
		if err != nil {
			m.close()
			return nil, err
		}
		m.nodes = append(m.nodes, ns)
		for j := range m.hosts {
			if i != j {
				m.pairs = append(m.pairs, pair{i, j})
			}
		}
	}
	m.trips, m.faults = make([]time.Duration, len(m.pairs)), make([]error, len(m.pairs))
	return m, nil
}

func (m *measurement) close() {
	for _, ns := range m.nodes {
		ns.Close()
	}
}

// ping pings every pair: first all at once until each has been answered, since
// a daemon learns its peers one by one, then one after the other for the round
// trips. A pair that fails is on record; the error is for what ends the demo.
func (m *measurement) ping(ctx context.Context) error {
	reach, cancel := context.WithTimeout(ctx, reachWait)
	defer cancel()
	var group errgroup.Group
	group.SetLimit(reachMany)
	for i := range m.pairs {
		group.Go(func() error {
			m.faults[i] = m.withPinger(i, func(p *traffic.Pinger) error { return p.Reach(reach) })
			return nil
		})
	}
	_ = group.Wait() // no function of it fails
	for i := range m.pairs {
		if m.faults[i] == nil && ctx.Err() == nil {
			m.faults[i] = m.withPinger(i, func(p *traffic.Pinger) (err error) {
				m.trips[i], err = p.Measure(ctx, echoes)
				return err
			})
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

// withPinger calls f with a pinger for pair i that has just been opened: one
// that lies idle fills up with the replies to others.
func (m *measurement) withPinger(i int, f func(*traffic.Pinger) error) error {
	p, err := traffic.NewPinger(m.nodes[m.pairs[i].from], m.hosts[m.pairs[i].to].Container, uint16(i+1))
	if err != nil {
		return err
	}
	defer p.Close()
	return f(p)
}

// transfer sends size bytes from one container to another.
func (m *measurement) transfer(ctx context.Context, p pair, size int64) error {
	t, err := traffic.Send(ctx, m.nodes[p.from], m.nodes[p.to], m.hosts[p.to].Container, size)
	if err != nil {
		return fmt.Errorf("%s: %w", p, err)
	}
	m.transfers[p] = t
	return nil
}

// failed returns an error that names the pairs that failed.
func (m *measurement) failed() error {
	const shown = 5
	var pairs []string
	for i, err := range m.faults {
		if err == nil {
			continue
		}
		reason := oneLine(err.Error())
		if errors.Is(err, traffic.ErrLost) {
			reason = traffic.ErrLost.Error()
		}
		pairs = append(pairs, fmt.Sprintf("%s (%s)", m.pairs[i], reason))
	}
	if len(pairs) == 0 {
		return nil
	}
	list := strings.Join(pairs[:min(shown, len(pairs))], ", ")
	if len(pairs) > shown {
		list += fmt.Sprintf(" and %d more", len(pairs)-shown)
	}
	return fmt.Errorf("%d of %d pairs of containers failed: %s", len(pairs), len(m.pairs), list)
}

// rttCell is the median round trip from container i to all others, or how many
// of them do not answer.
func (m *measurement) rttCell(i int, c colours) string {
	var trips []time.Duration
	lost, all := 0, 0
	for k, p := range m.pairs {
		if p.from != i {
			continue
		}
		all++
		if m.faults[k] != nil {
			lost++
		} else if m.trips[k] > 0 {
			trips = append(trips, m.trips[k])
		}
	}
	if lost > 0 {
		return c.bad(fmt.Sprintf("%d of %d lost", lost, all))
	}
	if len(trips) == 0 {
		return none
	}
	return showTrip(traffic.Median(trips))
}

// throughputCell is what container i sent, and to whom.
func (m *measurement) throughputCell(i int) string {
	var cells []string
	for p, t := range m.transfers {
		if p.from == i {
			cells = append(cells, showRate(t.BitsPerSecond())+" to "+m.hosts[p.to].Node)
		}
	}
	if len(cells) == 0 {
		return none
	}
	slices.Sort(cells)
	return strings.Join(cells, ", ")
}
