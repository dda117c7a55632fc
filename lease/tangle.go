// SPDX-License-Identifier: Apache-2.0

package lease

import (
	"cmp"
	"slices"
	"strings"
)

// knot is one range of addresses in a tangle, with all spans that are just that.
type knot struct {
	peer   int // that was leased first of those with this range
	parent int // the knot next around it; -1: none
	inside int // the first knot inside it that stays; -1: none
	winner int // the knot that it lost to; itself if it stays; -1: not known yet
}

// settle lets the earliest of spans stay, then the earliest that does not
// overlap what stays, and so on, and notes in lost what each of the others lost to.
//
// Prefixes overlap only where one is inside the other, so that the spans are a
// tree. Its depth is that of an address at the most, whatever somebody writes to
// the store: to compare each span with each that stays would let one wide key
// cost every host seconds with each change of any lease.
func settle(peers []Lease, spans []span, lost map[int]int) {
	older := func(a, b int) int {
		x, y := &peers[a], &peers[b]
		return cmp.Or(cmp.Compare(x.Created, y.Created), strings.Compare(x.Key, y.Key))
	}
	knots, of := tie(spans, older)
	order := make([]int, len(knots))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return older(knots[a].peer, knots[b].peer) })
	for _, i := range order {
		place(knots, i)
	}
	for i, v := range spans {
		if winner := knots[knots[of[i]].winner].peer; winner != v.peer {
			lost[v.peer] = winner
		}
	}
}

// tie sorts spans and makes the tree of them: of[i] is the knot of spans[i]. A knot
// comes after all that are around it.
func tie(spans []span, older func(a, b int) int) (knots []knot, of []int) {
	slices.SortFunc(spans, func(a, b span) int {
		// The wider one first: b and a change places for where they end.
		return cmp.Or(compareSpans(a, b), comparePoints(b.last, a.last), older(a.peer, b.peer))
	})
	of = make([]int, len(spans))
	var around []int // spans that begin at or before this one, each inside the one before
	for i, v := range spans {
		for len(around) > 0 && spans[around[len(around)-1]].last.less(v.first) {
			around = around[:len(around)-1]
		}
		parent := -1
		if n := len(around); n > 0 {
			outer := around[n-1]
			if parent = of[outer]; spans[outer].first == v.first && spans[outer].last == v.last {
				of[i] = parent
				continue
			}
		}
		of[i] = len(knots)
		knots = append(knots, knot{peer: v.peer, parent: parent, inside: -1, winner: -1})
		around = append(around, i)
	}
	return knots, of
}

// place decides on knot i, where all older ones are decided.
func place(knots []knot, i int) {
	if inside := knots[i].inside; inside >= 0 {
		knots[i].winner = inside
		return
	}
	for p := knots[i].parent; p >= 0; p = knots[p].parent {
		if knots[p].winner == p {
			knots[i].winner = p
			return
		}
	}
	knots[i].winner = i
	// Where something inside stays already, all around it know.
	for p := knots[i].parent; p >= 0 && knots[p].inside < 0; p = knots[p].parent {
		knots[p].inside = i
	}
}
