// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"

	"golang.org/x/time/rate"

	"vxtap/tunnel/rules"
)

// kindChange changes the kind of a side's rules when the network config does, or
// when a program of iptables comes or goes. Only watchRules uses it, and what it
// sets of the side.
type kindChange struct {
	*side
	say    *rate.Limiter
	retire bool   // rules of the other kind are to go
	failed string // why they could not be changed, as it was said
}

// kind sets rules of the kind that the network config asks for by now, and then
// takes those of the other kind away: some stand at any time. It reports whether
// the kind changed.
func (c *kindChange) kind(ctx context.Context) (changed bool) {
	kind, why := rules.Choose(c.current().EnableNFTables, c.network())
	random := c.randomPorts
	if kind != c.rulesKind {
		random = c.masqueradesRandomly(ctx, kind)
		if _, err := rules.Apply(ctx, c.of(kind, random)); err != nil {
			c.cannot(ctx, kind, err)
			return false
		}
		c.rulesKind, c.randomPorts, c.retire, changed = kind, random, true, true
		c.log.Info("rules are of another kind now", "kind", string(kind), "reason", why)
	}
	if !c.retire {
		return changed
	}
	if _, err := rules.Retire(ctx, c.of(kind, random)); err != nil {
		c.cannot(ctx, kind, err)
		return changed
	}
	c.retire, c.failed = false, ""
	return changed
}

// of is what rules the side wants, as if they were of a kind.
func (c *kindChange) of(kind rules.Kind, random bool) rules.Plan {
	p := c.rulesPlan()
	p.Kind, p.Random = kind, random
	return p
}

func (c *kindChange) cannot(ctx context.Context, kind rules.Kind, err error) {
	if ctx.Err() == nil && err.Error() != c.failed && c.say.Allow() {
		c.log.Error("rules cannot be changed to another kind, trying on", "kind", string(kind), "error", err)
		c.failed = err.Error()
	}
}
