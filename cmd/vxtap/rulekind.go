// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"

	"golang.org/x/time/rate"

	"vxtap/tunnel/rules"
)

// kindChange changes the kind of rules when the network config does. Only
// watchRules uses it, and what it sets of the segment.
type kindChange struct {
	*segment
	say    *rate.Limiter
	retire bool   // rules of the other kind are to go
	failed string // why they could not be changed, as it was said
}

// kind sets rules of the kind that the network config asks for by now, and then
// takes those of the other kind away: some stand at any time. It reports whether
// the kind changed.
func (c *kindChange) kind(ctx context.Context) (changed bool) {
	kind, why := rules.Choose(c.current().EnableNFTables)
	random := c.randomPorts
	if kind != c.rulesKind {
		random = c.masqueradesRandomly(ctx, kind)
		if err := c.all(ctx, kind, random, rules.Apply); err != nil {
			c.cannot(ctx, kind, err)
			return false
		}
		c.rulesKind, c.randomPorts, c.retire, changed = kind, random, true, true
		c.log.Info("rules are of another kind now", "kind", string(kind), "reason", why)
	}
	if !c.retire {
		return changed
	}
	if err := c.all(ctx, kind, random, rules.Retire); err != nil {
		c.cannot(ctx, kind, err)
		return changed
	}
	c.retire, c.failed = false, ""
	return changed
}

// all does something for the rules of every side, as if they were of a kind.
func (c *kindChange) all(ctx context.Context, kind rules.Kind, random bool, do func(context.Context, rules.Plan) ([]string, error)) error {
	var errs []error
	for _, one := range c.sides {
		p := one.rulesPlan()
		p.Kind, p.Random = kind, random
		_, err := do(ctx, p)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (c *kindChange) cannot(ctx context.Context, kind rules.Kind, err error) {
	if ctx.Err() == nil && err.Error() != c.failed && c.say.Allow() {
		c.log.Error("rules cannot be changed to another kind, trying on", "kind", string(kind), "error", err)
		c.failed = err.Error()
	}
}
