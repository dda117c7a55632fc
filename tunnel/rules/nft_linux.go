// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/google/nftables"
)

// nftTable is flannel's own table of the plan's family.
func (p Plan) nftTable() *nftables.Table {
	if p.isIPv6() {
		return &nftables.Table{Name: "flannel-ipv6", Family: nftables.TableFamilyIPv6}
	}
	return &nftables.Table{Name: "flannel-ipv4", Family: nftables.TableFamilyIPv4}
}

// nftFamily is nft's word for the family.
func (p Plan) nftFamily() string {
	if p.isIPv6() {
		return "ip6"
	}
	return "ip"
}

// families are a plan of each family, to look for what there is of any network.
func families() []Plan {
	return []Plan{{Network: netip.PrefixFrom(netip.IPv4Unspecified(), 0)}, {Network: netip.PrefixFrom(netip.IPv6Unspecified(), 0)}}
}

// nftChain is c as nftables is to have it: a base chain of flannel's own table.
func (p Plan) nftChain(c chain) *nftables.Chain {
	policy := nftables.ChainPolicyAccept
	n := &nftables.Chain{Name: c.nft, Table: p.nftTable(), Policy: &policy}
	if c.table == "nat" {
		n.Type, n.Hooknum, n.Priority = nftables.ChainTypeNAT, nftables.ChainHookPostrouting, nftables.ChainPriorityNATSource
	} else {
		n.Type, n.Hooknum, n.Priority = nftables.ChainTypeFilter, nftables.ChainHookForward, nftables.ChainPriorityFilter
	}
	return n
}

// applyNFT makes the table be as p says, in one transaction, and returns what
// was not.
func applyNFT(p Plan) (changed []string, err error) {
	conn, err := nftables.New()
	if err != nil {
		return nil, fmt.Errorf("open netlink socket: %w", err)
	}
	table := p.nftTable()
	present, err := conn.ListChainsOfTableFamily(table.Family)
	if err != nil {
		return nil, fmt.Errorf("list chains of nftables: %w", err)
	}
	present = slices.DeleteFunc(present, func(c *nftables.Chain) bool { return c.Table.Name != table.Name })
	left := len(present)
	for _, c := range p.chains() {
		i := slices.IndexFunc(present, func(n *nftables.Chain) bool { return n.Name == c.nft })
		var have *nftables.Chain
		if i >= 0 {
			have = present[i]
		}
		differs, gone, err := arrangeNFT(conn, p, c, have)
		if err != nil {
			return nil, err
		}
		if differs {
			changed = append(changed, c.what)
		}
		if gone {
			left--
		}
	}
	if len(present) > 0 && left == 0 && !p.Wanted() {
		conn.DelTable(table)
	}
	if err := conn.Flush(); err != nil {
		return nil, fmt.Errorf("set rules of nftables: %w", err)
	}
	return changed, nil
}

// arrangeNFT queues what makes the chain be as c says. have is the one that is
// there, or nil.
func arrangeNFT(conn *nftables.Conn, p Plan, c chain, have *nftables.Chain) (differs, gone bool, err error) {
	want := p.nftChain(c)
	if have == nil && len(c.rules) == 0 {
		return false, false, nil
	}
	var rules []*nftables.Rule
	if have != nil {
		if rules, err = conn.GetRules(want.Table, want); err != nil {
			return false, false, fmt.Errorf("list rules of nftables: %w", err)
		}
	}
	a := arrange(textsOf(rules), wantedNFT(c), nftText(rule{marked: true, target: giveBack}.nft()), p.concernsNFT)
	moved := have != nil && len(c.rules) > 0 && !sameHook(have, want)
	policy := have != nil && have.Policy != nil && *have.Policy == *want.Policy
	if a.holds && !moved && (policy || len(c.rules) == 0) {
		return false, false, nil
	}
	if have != nil && (len(a.next) == 0 || moved) {
		// A chain at another hook cannot be moved back.
		conn.FlushChain(want)
		conn.DelChain(want)
		if len(a.next) == 0 {
			return true, true, nil
		}
		rules, a.ours = nil, nil
	}
	if len(c.rules) > 0 {
		conn.AddTable(want.Table)
		conn.AddChain(want)
	}
	for i, r := range rules {
		if a.ours[i] {
			r.Table, r.Chain = want.Table, want
			if err := conn.DelRule(r); err != nil {
				return false, false, err
			}
		}
	}
	for i, r := range c.rules {
		add := conn.AddRule
		if i == 0 && r.marked {
			add = conn.InsertRule
		}
		add(&nftables.Rule{Table: want.Table, Chain: want, Exprs: r.nft()})
	}
	return true, false, nil
}

// wantedNFT returns the rules of c as the kernel tells them.
func wantedNFT(c chain) []string {
	var all []string
	for _, r := range c.rules {
		all = append(all, nftText(r.nft()))
	}
	return all
}

func sameHook(a, b *nftables.Chain) bool {
	return a.Type == b.Type && a.Hooknum != nil && *a.Hooknum == *b.Hooknum &&
		a.Priority != nil && *a.Priority == *b.Priority
}

func textsOf(rules []*nftables.Rule) []string {
	var all []string
	for _, r := range rules {
		all = append(all, nftText(r.Exprs))
	}
	return all
}

// removeNFT deletes flannel's tables, whoever made them.
func removeNFT() (removed []string, err error) {
	conn, err := nftables.New()
	if err != nil {
		return nil, fmt.Errorf("open netlink socket: %w", err)
	}
	tables, err := conn.ListTables()
	if err != nil {
		return nil, fmt.Errorf("list tables of nftables: %w", err)
	}
	for _, t := range tables {
		for _, p := range families() {
			if own := p.nftTable(); t.Family == own.Family && t.Name == own.Name {
				conn.DelTable(t)
				removed = append(removed, "nftables table "+p.nftFamily()+" "+t.Name)
			}
		}
	}
	if err := conn.Flush(); err != nil {
		return nil, fmt.Errorf("remove tables of nftables: %w", err)
	}
	return removed, nil
}

// dropping returns the chains of nftables, iptables' newer kind included, that
// drop what is forwarded unless they accept it themselves. A packet must pass
// all chains of a hook: what ours accept they can still drop. Those are left out
// that have a rule for the network somewhere in their table, flannel's or their
// operator's: for these it has been thought of.
func dropping(p Plan) ([]string, error) {
	conn, err := nftables.New()
	if err != nil {
		return nil, fmt.Errorf("open netlink socket: %w", err)
	}
	chains, err := conn.ListChains()
	if err != nil {
		return nil, fmt.Errorf("list chains of nftables: %w", err)
	}
	var all []string
	for _, c := range chains {
		family, ok := map[nftables.TableFamily]string{p.nftTable().Family: p.nftFamily(), nftables.TableFamilyINet: "inet"}[c.Table.Family]
		if !ok || c.Type != nftables.ChainTypeFilter || c.Hooknum == nil || *c.Hooknum != *nftables.ChainHookForward ||
			c.Policy == nil || *c.Policy != nftables.ChainPolicyDrop {
			continue
		}
		known := slices.ContainsFunc(chains, func(o *nftables.Chain) bool {
			if o.Table.Family != c.Table.Family || o.Table.Name != c.Table.Name {
				return false
			}
			rules, err := conn.GetRules(o.Table, o)
			return err == nil && slices.ContainsFunc(textsOf(rules), func(r string) bool { return mentions(r, p.Network) })
		})
		if !known {
			all = append(all, fmt.Sprintf("%s %s %s", family, c.Table.Name, c.Name))
		}
	}
	return all, nil
}
