// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/time/rate"

	"vxtap/lease"
	"vxtap/tunnel/host"
	"vxtap/tunnel/rules"
)

// rulesAtMost bounds how often a host whose rules change all the time is looked
// at, which takes four runs of iptables. What somebody deletes is to be back
// within a second.
const rulesAtMost = 500 * time.Millisecond

// ruleSettings are the flags that say what rules are set on the host.
type ruleSettings struct {
	ipMasq    bool
	random    bool           // ports of what is masqueraded
	exclude   []netip.Prefix // where containers' packets go unmasqueraded
	forward   bool
	every     time.Duration // between two looks at rules whose changes nobody tells of; 0: as seldom as at all else
	blackhole bool
}

func (r *reader) rules() ruleSettings {
	s := ruleSettings{
		ipMasq:    r.c.Bool("ip-masq"),
		random:    !r.c.Bool("ip-masq-fully-random-disable"),
		forward:   r.c.Bool("iptables-forward-rules"),
		every:     time.Duration(r.number("iptables-resync", 0, math.MaxInt32)) * time.Second,
		blackhole: r.c.Bool("ip-blackhole-route"),
	}
	for _, list := range r.c.StringSlice("masq-exclude") {
		for v := range strings.SplitSeq(list, ",") {
			if v = strings.TrimSpace(v); v == "" {
				continue
			}
			p, err := parseNetwork(v)
			if err != nil {
				r.fault("masq-exclude", "%w", err)
				continue
			}
			if !slices.Contains(s.exclude, p) {
				s.exclude = append(s.exclude, p)
			}
		}
	}
	return s
}

// parseNetwork reads a network of either family, or an address, which is one of
// its own.
func parseNetwork(s string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(s)
	if a, addrErr := netip.ParseAddr(s); addrErr == nil && a.Zone() == "" {
		p, err = netip.PrefixFrom(a, a.BitLen()), nil
	}
	switch {
	case err != nil || p.Addr().Is4In6():
		return netip.Prefix{}, fmt.Errorf("%q is no network, as 192.0.2.0/24 or 2001:db8::/32", s)
	case p.Bits() == 0:
		return netip.Prefix{}, fmt.Errorf("%q is everywhere: leave -ip-masq out", s)
	case p != p.Masked():
		return netip.Prefix{}, fmt.Errorf("%q is an address in a network: write %v, or the address alone", s, p.Masked())
	}
	return p, nil
}

// rulesPlan is what rules the side wants.
func (s *side) rulesPlan() rules.Plan {
	return rules.Plan{
		Kind:       s.rulesKind,
		Network:    s.network(),
		Subnet:     s.subnet(),
		Previous:   s.previous,
		Masquerade: s.d.rules.ipMasq,
		Random:     s.randomPorts,
		Exclude:    s.exclude(),
		Forward:    s.d.rules.forward,
		Uplink:     s.uplinkName(),
		Uplinks:    uplinkNames,
		Whole:      s.whole != nil,
	}
}

// exclude is what of -masq-exclude is of the side's family.
func (s *side) exclude() []netip.Prefix {
	var own []netip.Prefix
	for _, p := range s.d.rules.exclude {
		if p.Addr().BitLen() == s.network().Addr().BitLen() {
			own = append(own, p)
		}
	}
	return own
}

// uplinkName is the device whose packets are to be forwarded, "" for none.
func (s *side) uplinkName() string {
	if s.family == ipv6 {
		return ""
	}
	return uplinkName(s.config.Backend.VNI)
}

// setRules sets the rules before anything leads packets to the overlay and
// before containers learn of it: a flow keeps what its first packet met.
//
// Masquerading was asked for, and with it in the subnet file nobody else does
// it: without its rules the start fails. The forward rules are flanneld's
// default, which most hosts do without: that they cannot be set is said, and
// they are tried on.
func (s *segment) setRules(ctx context.Context) error {
	env, err := lease.ReadSubnetEnv(s.d.subnetFile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.log.Debug("the subnet file does not say what rules there were before", "error", err)
	}
	s.ipv4.previous = env.Network
	if s.ipv6 != nil {
		s.ipv6.previous = env.IPv6Network
	} else {
		s.leaveIPv6(ctx, env)
	}
	for _, one := range s.sides {
		if err := one.setRules(ctx); err != nil {
			return err
		}
	}
	return nil
}

// leaveIPv6 takes away what an earlier run left that had IPv6, as env says.
func (s *segment) leaveIPv6(ctx context.Context, env lease.SubnetEnv) {
	network := env.IPv6Network
	if !network.IsValid() || !env.IPv6Subnet.IsValid() {
		return
	}
	kind, _ := rules.Choose(s.current().EnableNFTables, network)
	p := rules.Plan{Kind: kind, Network: network, Subnet: env.IPv6Subnet, Previous: network}
	_, err := rules.Apply(ctx, p)
	_, retired := rules.Retire(ctx, p)
	if err := errors.Join(err, retired, host.RemoveRoutesInto(network)); err != nil {
		s.log.Info("there may be rules and routes left of IPv6, see vxtap cleanup", "network", network, "error", err)
	}
}

// setRules chooses the kind of the side's and sets them.
func (s *side) setRules(ctx context.Context) error {
	kind, why := rules.Choose(s.current().EnableNFTables, s.network())
	s.rulesKind, s.randomPorts = kind, s.masqueradesRandomly(ctx, kind)
	p := s.rulesPlan()
	changed, err := rules.Apply(ctx, p)
	if err == nil {
		_, err = rules.Retire(ctx, p)
	}
	switch {
	case err != nil && p.Masquerade:
		return fmt.Errorf("set rules for -ip-masq: %w", err)
	case err != nil && !p.Forward:
		s.log.Debug("it cannot be seen whether there are rules of an earlier run", "kind", string(s.rulesKind), "error", err)
	case err != nil:
		s.log.Error("rules cannot be set, trying on: the host's FORWARD policy must let the overlay through",
			"kind", string(s.rulesKind), "reason", why, "error", err, "silence", "-iptables-forward-rules=false")
	case p.Wanted():
		sayRulesAreSet(s.log, p, why, changed)
	}
	return nil
}

// sayRulesAreSet says so, and what of the rules was not there before, if anything.
func sayRulesAreSet(log *slog.Logger, p rules.Plan, why string, changed []string) {
	attrs := []any{"kind", string(p.Kind), "reason", why, "masquerade", p.Masquerade, "forward", p.Forward}
	if len(changed) > 0 {
		attrs = append(attrs, "new", strings.Join(changed, ", "))
	}
	log.Info("rules are set", attrs...)
}

func (s *side) masqueradesRandomly(ctx context.Context, k rules.Kind) bool {
	return s.d.rules.ipMasq && s.d.rules.random && rules.RandomFully(ctx, k, s.network())
}

// watchRules sets again what somebody takes away of the rules, until ctx ends.
// Changes of nftables, iptables' newer kind included, come by s.rulesNews; the
// older kind is looked at all so often. It is also what changes the kind, when the
// network config does.
func (s *segment) watchRules(ctx context.Context) {
	if !slices.ContainsFunc(s.sides, func(one *side) bool { return one.rulesPlan().Wanted() }) {
		return
	}
	tick := time.NewTicker(s.rulesEvery())
	defer tick.Stop()
	watches := make([]*ruleWatch, len(s.sides))
	for i, one := range s.sides {
		say := func() *rate.Limiter { return rate.NewLimiter(rate.Every(10*time.Second), 20) }
		watches[i] = &ruleWatch{side: one, say: say(), change: kindChange{side: one, say: say()}}
	}
	for {
		for _, w := range watches {
			if w.change.kind(ctx) {
				tick.Reset(s.rulesEvery())
			}
			w.look(ctx)
		}
		if pause(ctx, rulesAtMost) != nil {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-s.rulesNews:
		case <-tick.C:
		}
	}
}

// rulesEvery is the time between two looks without a reason.
func (s *segment) rulesEvery() time.Duration {
	if s.d.rules.every > 0 && slices.ContainsFunc(s.sides, func(one *side) bool { return one.rulesKind == rules.IPTables }) {
		return min(lookEvery, s.d.rules.every)
	}
	return lookEvery
}

// ruleWatch looks at the rules and remembers what it has said.
type ruleWatch struct {
	*side
	say    *rate.Limiter
	failed string
	change kindChange
}

func (w *ruleWatch) look(ctx context.Context) {
	p := w.rulesPlan()
	changed, err := rules.Apply(ctx, p)
	if ctx.Err() != nil {
		return
	}
	if len(changed) > 0 && w.say.Allow() {
		w.log.Warn("somebody changed the overlay's rules, they are set again", "what", strings.Join(changed, ", "), "kind", string(p.Kind))
	}
	if failed := fmt.Sprint(err); failed != w.failed && w.say.Allow() {
		if err != nil {
			w.log.Error("rules cannot be set, trying on", "kind", string(p.Kind), "error", err)
		}
		w.failed = failed
	}
	w.lookForDrops(p)
}

// lookForDrops notes who drops what our forward rules let pass.
func (w *ruleWatch) lookForDrops(p rules.Plan) {
	chains, err := rules.Dropping(p)
	if err != nil {
		return // a kernel without nftables has none of its chains
	}
	var warnings []string
	for _, c := range chains {
		warnings = append(warnings, fmt.Sprintf(
			"the chain %q drops what is forwarded, and rules elsewhere cannot overrule it: let %s pass there, see docs/operations.md", c, p.Network))
	}
	w.dropping.Store(&warnings)
}

// warnings are those of the host, of its rules, and of its routes.
func (s *segment) warnings() []string {
	var all []string
	for _, one := range s.sides {
		all = append(all, one.hostWarnings()...)
		if d := one.dropping.Load(); d != nil {
			all = append(all, *d...)
		}
		all = append(all, one.routeWarnings(sysctls)...)
	}
	return append([]string{}, all...) // [] in JSON
}
