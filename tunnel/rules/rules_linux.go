// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"context"
	"errors"
	"net/netip"
)

// Choose returns the kind of rules for the family of network: nftables where the
// network config asks for it, as flanneld does, and where the host has no program
// of iptables for that family, which flanneld goes without rules for. The other
// family's rules are of its own kind: against a policy of iptables, as Docker's,
// only rules of iptables have a say. why is for the log.
func Choose(nftables bool, network netip.Prefix) (k Kind, why string) {
	program := Plan{Network: network}.program()
	switch {
	case nftables:
		return NFTables, "the network config asks for it"
	case hasProgram(program):
		return IPTables, "the network config does not ask for nftables"
	}
	return NFTables, "there is no " + program + " program"
}

// RandomFully reports whether rules of the kind, for the family of network, can
// masquerade to random ports, which iptables can since 1.6.2. flanneld does
// without where it cannot.
func RandomFully(ctx context.Context, k Kind, network netip.Prefix) bool {
	if k == NFTables {
		return true
	}
	printed, err := runProgram(ctx, nil, Plan{Network: network}.program(), "--version")
	return err == nil && isRandomVersion(printed)
}

// Apply makes the host's rules be as p says and returns the names of what was
// not. What holds is not touched, and rules of others never are. It may be
// called again at any time, from one goroutine at a time.
func Apply(ctx context.Context, p Plan) (changed []string, err error) {
	if err := p.check(); err != nil {
		return nil, err
	}
	if p.Kind == IPTables {
		return applyIPTables(ctx, p)
	}
	return applyNFT(p)
}

// Retire takes away what rules of the other kind than p's there are for its
// networks, and returns their names. It comes after Apply, so that some rules
// stand at any time.
func Retire(ctx context.Context, p Plan) (removed []string, err error) {
	p.Masquerade, p.Forward = false, false
	if p.Kind == IPTables {
		return applyNFT(p)
	}
	if !hasProgram(p.program()) {
		return nil, nil
	}
	return applyIPTables(ctx, p)
}

// Remove deletes all of flannel's tables and chains of both families, whichever
// network they were for and whoever made them, and returns their names. It must
// not be called while a daemon runs.
func Remove(ctx context.Context) (removed []string, err error) {
	removed, first := removeNFT()
	more, second := removeIPTables(ctx)
	return append(removed, more...), errors.Join(first, second)
}

// Dropping returns the host's other chains that drop what p's forward rules let
// pass, as "ip filter FORWARD", as far as they can be seen: by their policy, in
// nftables, and without a rule for p's network.
func Dropping(p Plan) ([]string, error) {
	if !p.Forward {
		return nil, nil
	}
	return dropping(p)
}
