// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
)

// Flannel's own tables. Ours is the first; flanneld makes both.
const (
	nftTable4 = "flannel-ipv4"
	nftTable6 = "flannel-ipv6"
)

const (
	register    = 1  // NFT_REG_1, the one that nft uses
	ifNameSize  = 16 // IFNAMSIZ
	sourceAt    = 12 // of the source address in an IPv4 header
	destAt      = 16
	ipv4Address = 4 // bytes
)

func table4() *nftables.Table {
	return &nftables.Table{Name: nftTable4, Family: nftables.TableFamilyIPv4}
}

// nftChain is c as nftables is to have it: a base chain of flannel's own table.
func nftChain(c chain) *nftables.Chain {
	policy := nftables.ChainPolicyAccept
	n := &nftables.Chain{Name: c.nft, Table: table4(), Policy: &policy}
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
	present, err := conn.ListChainsOfTableFamily(nftables.TableFamilyIPv4)
	if err != nil {
		return nil, fmt.Errorf("list chains of nftables: %w", err)
	}
	present = slices.DeleteFunc(present, func(c *nftables.Chain) bool { return c.Table.Name != nftTable4 })
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
		conn.DelTable(table4())
	}
	if err := conn.Flush(); err != nil {
		return nil, fmt.Errorf("set rules of nftables: %w", err)
	}
	return changed, nil
}

// arrangeNFT queues what makes the chain be as c says. have is the one that is
// there, or nil.
func arrangeNFT(conn *nftables.Conn, p Plan, c chain, have *nftables.Chain) (differs, gone bool, err error) {
	want := nftChain(c)
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
	same := have != nil && sameHook(have, want)
	if a.holds && (same || len(c.rules) == 0) {
		return false, false, nil
	}
	if have != nil && (len(a.next) == 0 || !same) {
		// A chain at another hook cannot be moved there.
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
		a.Priority != nil && *a.Priority == *b.Priority && a.Policy != nil && *a.Policy == *b.Policy
}

func textsOf(rules []*nftables.Rule) []string {
	var all []string
	for _, r := range rules {
		all = append(all, nftText(r.Exprs))
	}
	return all
}

// nftText is a rule in the bytes of netlink, which can be compared.
func nftText(exprs []expr.Any) string {
	var b bytes.Buffer
	for _, e := range exprs {
		m, err := expr.Marshal(byte(nftables.TableFamilyIPv4), e)
		if err != nil {
			return "" // a rule that we could not have made
		}
		b.Write(m)
	}
	return b.String()
}

// concernsNFT reports whether the rule names one of our networks, or our uplink.
func (p Plan) concernsNFT(text string) bool {
	if p.Uplink != "" && strings.Contains(text, nftText(nftDevice(p.Uplink))) {
		return true
	}
	for _, n := range p.networks() {
		for _, at := range []uint32{sourceAt, destAt} {
			for _, not := range []bool{false, true} {
				if strings.Contains(text, nftText(nftSide(side{n, not}, at))) {
					return true
				}
			}
		}
	}
	return false
}

// nft is the rule as nft(8) would make it, so that rules of flanneld's compare
// equal.
func (r rule) nft() []expr.Any {
	var all []expr.Any
	if r.marked {
		mark := binary.NativeEndian.AppendUint32(nil, kubeMark)
		all = append(all,
			&expr.Meta{Key: expr.MetaKeyMARK, Register: register},
			&expr.Bitwise{SourceRegister: register, DestRegister: register, Len: uint32(len(mark)), Mask: mark, Xor: make([]byte, len(mark))},
			&expr.Cmp{Op: expr.CmpOpEq, Register: register, Data: mark},
		)
	}
	if r.device != "" {
		all = append(all, nftDevice(r.device)...)
	}
	all = append(all, nftSide(r.src, sourceAt)...)
	all = append(all, nftSide(r.dst, destAt)...)
	switch r.target {
	case accept:
		return append(all, &expr.Verdict{Kind: expr.VerdictAccept})
	case giveBack:
		return append(all, &expr.Verdict{Kind: expr.VerdictReturn})
	default:
		return append(all, &expr.Masq{FullyRandom: r.target == masqueradeRandom})
	}
}

// nftDevice compares the device that a packet came by.
func nftDevice(device string) []expr.Any {
	name := make([]byte, ifNameSize)
	copy(name, device)
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: register}, &expr.Cmp{Op: expr.CmpOpEq, Register: register, Data: name}}
}

// nftSide compares an address. Of a prefix of whole bytes nft loads just these.
func nftSide(s side, at uint32) []expr.Any {
	if !s.prefix.IsValid() {
		return nil
	}
	op := expr.CmpOpEq
	if s.not {
		op = expr.CmpOpNeq
	}
	addr, bits := s.prefix.Addr().AsSlice(), s.prefix.Bits()
	load := &expr.Payload{DestRegister: register, Base: expr.PayloadBaseNetworkHeader, Offset: at, Len: ipv4Address}
	if bits%8 == 0 {
		load.Len = uint32(bits / 8)
		return []expr.Any{load, &expr.Cmp{Op: op, Register: register, Data: addr[:load.Len]}}
	}
	mask := net.CIDRMask(bits, 8*ipv4Address)
	return []expr.Any{
		load,
		&expr.Bitwise{SourceRegister: register, DestRegister: register, Len: ipv4Address, Mask: mask, Xor: make([]byte, ipv4Address)},
		&expr.Cmp{Op: op, Register: register, Data: addr},
	}
}

// removeNFT deletes flannel's tables, whoever made them.
func removeNFT(flanneld bool) (removed []string, err error) {
	conn, err := nftables.New()
	if err != nil {
		return nil, fmt.Errorf("open netlink socket: %w", err)
	}
	tables, err := conn.ListTables()
	if err != nil {
		return nil, fmt.Errorf("list tables of nftables: %w", err)
	}
	for _, t := range tables {
		if t.Family == nftables.TableFamilyIPv4 && t.Name == nftTable4 {
			conn.DelTable(t)
			removed = append(removed, "nftables table ip "+t.Name)
		}
		if flanneld && t.Family == nftables.TableFamilyIPv6 && t.Name == nftTable6 {
			conn.DelTable(t)
			removed = append(removed, "nftables table ip6 "+t.Name)
		}
	}
	if err := conn.Flush(); err != nil {
		return nil, fmt.Errorf("remove tables of nftables: %w", err)
	}
	return removed, nil
}

// dropping returns the chains of nftables, iptables' newer kind included, that
// drop what is forwarded unless they accept it themselves. A packet must pass
// all chains of a hook: what ours accept they can still drop. Those that have
// flannel's chain in their table are left out, for they accept it.
func dropping() ([]string, error) {
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
		family, ok := map[nftables.TableFamily]string{nftables.TableFamilyIPv4: "ip", nftables.TableFamilyINet: "inet"}[c.Table.Family]
		if !ok || c.Type != nftables.ChainTypeFilter || c.Hooknum == nil || *c.Hooknum != *nftables.ChainHookForward ||
			c.Policy == nil || *c.Policy != nftables.ChainPolicyDrop {
			continue
		}
		passes := slices.ContainsFunc(chains, func(o *nftables.Chain) bool {
			return o.Table.Family == c.Table.Family && o.Table.Name == c.Table.Name && o.Name == "FLANNEL-FWD"
		})
		if !passes {
			all = append(all, fmt.Sprintf("%s %s %s", family, c.Table.Name, c.Name))
		}
	}
	return all, nil
}
