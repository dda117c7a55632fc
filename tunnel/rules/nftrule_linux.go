// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
)

const (
	register   = 1  // NFT_REG_1, the one that nft uses
	ifNameSize = 16 // IFNAMSIZ
)

// place is where an address stands in an IP header.
type place int

const (
	source place = iota
	dest
)

// of returns the place of an address like a: offset and length in bytes.
func (p place) of(a netip.Addr) (at, length uint32) {
	at, length = 12, 4
	if a.Is6() {
		at, length = 8, 16
	}
	return at + uint32(p)*length, length
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

// concernsNFT reports whether the rule names one of our networks, our uplink
// or one that is gone, or is the one with which flanneld leaves marked packets to kube-proxy.
func (p Plan) concernsNFT(text string) bool {
	if text == nftText(flannelMark()) {
		return true
	}
	if p.Uplink != "" && strings.Contains(text, nftText(nftDevice(p.Uplink))) {
		return true
	}
	return p.leftNFT(text) || slices.ContainsFunc(p.networks(), func(n netip.Prefix) bool { return mentions(text, n) })
}

// mentions reports whether the rule compares an address with the network.
func mentions(text string, n netip.Prefix) bool {
	for _, at := range []place{source, dest} {
		for _, not := range []bool{false, true} {
			if strings.Contains(text, nftText(nftSide(side{n, not}, at))) {
				return true
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
	all = append(all, nftSide(r.src, source)...)
	all = append(all, nftSide(r.dst, dest)...)
	switch r.target {
	case accept:
		return append(all, &expr.Verdict{Kind: expr.VerdictAccept})
	case giveBack:
		return append(all, &expr.Verdict{Kind: expr.VerdictReturn})
	default:
		return append(all, &expr.Masq{FullyRandom: r.target == masqueradeRandom})
	}
}

// flannelMark is flanneld's form of the first rule, in the place of which we
// have one that looks at the bit alone.
func flannelMark() []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyMARK, Register: register},
		&expr.Cmp{Op: expr.CmpOpEq, Register: register, Data: binary.NativeEndian.AppendUint32(nil, kubeMark)},
		&expr.Verdict{Kind: expr.VerdictReturn},
	}
}

// nftDevice compares the device that a packet came by.
func nftDevice(device string) []expr.Any {
	name := make([]byte, ifNameSize)
	copy(name, device)
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: register}, &expr.Cmp{Op: expr.CmpOpEq, Register: register, Data: name}}
}

// nftSide compares an address. Of a prefix of whole bytes nft loads just these.
func nftSide(s side, p place) []expr.Any {
	if !s.prefix.IsValid() {
		return nil
	}
	op := expr.CmpOpEq
	if s.not {
		op = expr.CmpOpNeq
	}
	addr, bits := s.prefix.Addr().AsSlice(), s.prefix.Bits()
	at, length := p.of(s.prefix.Addr())
	load := &expr.Payload{DestRegister: register, Base: expr.PayloadBaseNetworkHeader, Offset: at, Len: length}
	if bits%8 == 0 {
		load.Len = uint32(bits / 8)
		return []expr.Any{load, &expr.Cmp{Op: op, Register: register, Data: addr[:load.Len]}}
	}
	mask := net.CIDRMask(bits, 8*len(addr))
	return []expr.Any{
		load,
		&expr.Bitwise{SourceRegister: register, DestRegister: register, Len: length, Mask: mask, Xor: make([]byte, length)},
		&expr.Cmp{Op: op, Register: register, Data: addr},
	}
}
