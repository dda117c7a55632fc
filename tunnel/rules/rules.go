// SPDX-License-Identifier: Apache-2.0

// Package rules is what the host's packet filter must do for the overlay: let
// its packets be forwarded, and masquerade those of containers that leave it.
// The rules and their order are flannel's (pkg/trafficmngr), under flannel's
// names, so that flanneld and vxtap can take each other's place on a host; what
// differs is said at masquerade and forward.
//
// There are two kinds of rules. Those of nftables are set by netlink, without
// another program; those of iptables by the host's own iptables, which knows
// which of its two back ends this host uses. Each table is changed in one
// transaction: no packet sees half of it.
//
// Rules outlive the daemon, as flanneld's do: containers go on while it is
// started again. Remove takes them away.
//
// Functions work in the network namespace of the calling thread. On platforms
// other than Linux each returns an error that matches errors.ErrUnsupported.
package rules

import (
	"fmt"
	"net/netip"
	"slices"
)

// Kind is how rules are set.
type Kind string

// The kinds of rules.
const (
	NFTables Kind = "nftables"
	IPTables Kind = "iptables"
)

// Plan is what rules there are to be, for one family: that of Network. Rules that concern none of its networks
// are somebody else's, and stay where they are, in flannel's own chains too.
type Plan struct {
	Kind       Kind
	Network    netip.Prefix // the whole overlay; it makes the plan one of IPv4 or of IPv6
	Subnet     netip.Prefix // of this host
	Previous   netip.Prefix // the overlay that the rules were for before; zero or of the other family: not known. Its rules go
	Masquerade bool
	Random     bool           // masquerade to random ports, where flannel does
	Exclude    []netip.Prefix // where containers' packets go unmasqueraded; those of the other family are left out
	Forward    bool
	Uplink     string // device whose rule is ours as well; "": none
	Uplinks    string // what the names of all such devices begin with, before their VNI; the rule of one that is gone goes; "": none
	Whole      bool   // forward what comes by Uplink; only where Forward is
}

// Wanted reports whether p asks for any rules.
func (p Plan) Wanted() bool { return p.Masquerade || p.Forward }

// kubeMark is the bit by which kube-proxy marks what it masquerades itself.
const kubeMark = 0x4000

func (p Plan) isIPv6() bool { return p.Network.Addr().Is6() }

// multicast is never masqueraded.
func (p Plan) multicast() netip.Prefix {
	if p.isIPv6() {
		return netip.PrefixFrom(netip.AddrFrom16([16]byte{0xff}), 8)
	}
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{224}), 4)
}

// excluded are the networks of Exclude that are of the plan's family.
func (p Plan) excluded() []netip.Prefix {
	return slices.DeleteFunc(slices.Clone(p.Exclude), func(x netip.Prefix) bool { return x.Addr().Is6() != p.isIPv6() })
}

// target is what becomes of a packet.
type target int

const (
	accept target = iota
	giveBack
	masquerade
	masqueradeRandom
)

// side is a condition on an address; the zero side is none.
type side struct {
	prefix netip.Prefix
	not    bool
}

func in(p netip.Prefix) side  { return side{prefix: p} }
func out(p netip.Prefix) side { return side{prefix: p, not: true} }

// rule is one rule, in no kind's words.
type rule struct {
	marked   bool // by kube-proxy
	src, dst side
	device   string // that the packet came by
	target   target
}

// chain is one of flannel's chains, in both kinds' words.
type chain struct {
	what    string // in messages
	nft     string // its name in flannel's own table
	table   string // of iptables
	parent  string // built-in chain that jumps to it
	name    string
	comment string // on every rule of iptables
	rules   []rule // none: the chain is not wanted
}

func (p Plan) chains() []chain {
	return []chain{
		{"the masquerading rules", "postrtg", "nat", "POSTROUTING", "FLANNEL-POSTRTG", "flanneld masq", p.masquerade()},
		{"the forward rules", "forward", "filter", "FORWARD", "FLANNEL-FWD", "flanneld forward", p.forward()},
	}
}

// masquerade returns the rules for what leaves the host. They never match the
// tunnel's own datagrams: no host has an address inside the overlay.
//
// flannel's nftables compare the whole mark where its iptables look at
// kube-proxy's bit alone, and have the host's own Subnet where its iptables have
// the Network in the fourth rule; so no packet reaches their last one, and what
// a host sends to containers elsewhere is not masqueraded. Both kinds have the
// rules of flannel's iptables here.
func (p Plan) masquerade() []rule {
	if !p.Masquerade {
		return nil
	}
	masquerade := masquerade
	if p.Random {
		masquerade = masqueradeRandom
	}
	all := []rule{
		{marked: true, target: giveBack},
		{src: in(p.Subnet), dst: in(p.Network), target: giveBack},
		{src: in(p.Network), dst: in(p.Subnet), target: giveBack},
		{src: out(p.Network), dst: in(p.Subnet), target: giveBack},
	}
	for _, x := range p.excluded() {
		all = append(all, rule{src: in(p.Network), dst: in(x), target: giveBack})
	}
	return append(all,
		rule{src: in(p.Network), dst: out(p.multicast()), target: masquerade},
		rule{src: out(p.Network), dst: in(p.Network), target: masquerade},
	)
}

// forward returns the rules for what passes the host. flannel has no uplink.
func (p Plan) forward() []rule {
	if !p.Forward {
		return nil
	}
	all := []rule{{src: in(p.Network)}, {dst: in(p.Network)}}
	if p.Whole && p.Uplink != "" {
		all = append(all, rule{device: p.Uplink})
	}
	return all
}

// networks are those whose rules are ours.
func (p Plan) networks() []netip.Prefix {
	if p.Previous.IsValid() && p.Previous.Bits() > 0 && p.Previous != p.Network {
		return []netip.Prefix{p.Network, p.Previous}
	}
	return []netip.Prefix{p.Network}
}

// arrangement is what to do with one chain. Rules are in one kind's words.
type arrangement struct {
	holds bool
	next  []string // all rules of the chain, in order; none: it can go
	ours  []bool   // of the rules that are there: it goes, and comes again if it is in next
}

// arrange compares the rules of a chain with those that we want in it. concerns
// tells which are ours besides those that we want. mark is the rule that all
// networks share: it is the first, and stays for as long as there are others.
func arrange(have, want []string, mark string, concerns func(string) bool) arrangement {
	a := arrangement{ours: make([]bool, len(have))}
	var ours, others []string
	for i, r := range have {
		a.ours[i] = slices.Contains(want, r) || concerns(r)
		if a.ours[i] {
			ours = append(ours, r)
		} else {
			others = append(others, r)
		}
	}
	a.holds = slices.Equal(ours, want)
	if len(want) > 0 && want[0] == mark {
		a.next, want = append(a.next, mark), want[1:]
	}
	a.next = slices.Concat(a.next, others, want)
	if len(want) == 0 && !slices.ContainsFunc(others, func(r string) bool { return r != mark }) {
		a.next = nil
	}
	return a
}

// check refuses what would make rules for something else than an overlay.
func (p Plan) check() error {
	for _, x := range append([]netip.Prefix{p.Network, p.Subnet}, p.Exclude...) {
		if !x.IsValid() || x.Addr().Is4In6() || x.Masked() != x || x.Bits() == 0 {
			return fmt.Errorf("rules for %v: it is no network", x)
		}
	}
	if p.Subnet.Addr().Is6() != p.isIPv6() {
		return fmt.Errorf("rules for %s and %s: they are of two families", p.Network, p.Subnet)
	}
	return nil
}
