// SPDX-License-Identifier: Apache-2.0

package lease

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Keys, relative to the network's prefix.
const (
	configKey = "config"
	// subnetsDir is where leases are. flanneld lists and watches
	// <prefix>/subnets without the slash, so that it also sees, and stumbles
	// over, a key such as <prefix>/subnets-old/x. This package lists the same,
	// to be able to name such a key, but takes leases from below the directory
	// only.
	subnetsDir  = "subnets/"
	subnetsList = "subnets"
)

// SubnetKey is what the last part of a lease's key names: one host's subnet,
// in IPv4 and, in a dual-stack network, in IPv6 too.
//
//	10.5.52.0-24
//	10.12.13.0-24&fd00:12:13::-56
type SubnetKey struct {
	IPv4 netip.Prefix // masked
	IPv6 netip.Prefix // masked; the zero Prefix where there is none
}

// String returns the key as flannel writes it (MakeSubnetKey in
// pkg/subnet/subnet.go).
func (k SubnetKey) String() string {
	s := k.IPv4.Addr().String() + "-" + strconv.Itoa(k.IPv4.Bits())
	if k.IPv6.IsValid() {
		s += "&" + k.IPv6.Addr().String() + "-" + strconv.Itoa(k.IPv6.Bits())
	}
	return s
}

// ParseKey reads the part of a key after "subnets/".
//
// The IPv4 half must be spelled as flannel writes it: flannel's own pattern is
// open at the front and takes "x10.5.52.0-24" for a lease too, but two
// spellings of one subnet are two leases to the store, which is what a key is
// there to prevent. Such a key is no lease here; that flanneld believes in it
// is seen to when a subnet is chosen (see heldBy). The IPv6 half may be spelled
// in any lower-case way, as flannel has it, and with host bits: nothing is
// routed by it.
func ParseKey(s string) (SubnetKey, error) {
	var k SubnetKey
	v4, v6, dual := strings.Cut(s, "&")
	p, err := parseHalf(v4, 31)
	if err != nil || !p.Addr().Is4() || p != p.Masked() || (SubnetKey{IPv4: p}).String() != v4 {
		return SubnetKey{}, fmt.Errorf("key %q is no subnet such as 10.5.52.0-24", clip(s))
	}
	k.IPv4 = p
	if !dual {
		return k, nil
	}
	p, err = parseHalf(v6, 127)
	if err != nil || !p.Addr().Is6() || p.Addr().Is4In6() || strings.ToLower(v6) != v6 {
		return SubnetKey{}, fmt.Errorf("key %q is no pair of subnets such as 10.12.13.0-24&fd00:12:13::-56", clip(s))
	}
	k.IPv6 = p.Masked()
	return k, nil
}

// parseHalf reads "address-length". flannel reads the length in 5 bits for
// IPv4 and in 7 for IPv6, so that a host route does not fit.
func parseHalf(s string, longest uint64) (netip.Prefix, error) {
	addr, length, ok := strings.Cut(s, "-")
	if !ok {
		return netip.Prefix{}, strconv.ErrSyntax
	}
	a, err := netip.ParseAddr(addr)
	if err != nil {
		return netip.Prefix{}, err
	}
	n, err := strconv.ParseUint(length, 10, 8)
	// Zeros in front are flannel's to allow, but not a megabyte of them.
	if err != nil || n > longest || len(length) > 3 || a.Zone() != "" {
		return netip.Prefix{}, strconv.ErrSyntax
	}
	return netip.PrefixFrom(a, int(n)), nil
}

// cutHalves splits a key where flannel's pattern would.
func cutHalves(key string) (v4, v6 string) {
	if i := strings.LastIndexByte(key, '&'); i >= 0 {
		return key[:i], key[i+1:]
	}
	return key, ""
}

// heldIPv6By is heldBy for the IPv6 half; the zero Prefix where there is none.
func heldIPv6By(key string) netip.Prefix {
	_, v6 := cutHalves(key)
	p, err := parseHalf(v6, 127)
	if err != nil || !p.Addr().Is6() || p.Addr().Is4In6() {
		return netip.Prefix{}
	}
	return p.Masked()
}

// heldBy returns the subnet that somebody may believe the key to hold: what
// ParseKey makes of it, and else what flannel's pattern might, which takes the
// last thing in the whole key that looks like a subnet. It guesses rather too
// much than too little, for a subnet that is passed over costs nothing and one
// that is taken twice costs two hosts.
func heldBy(key string) (netip.Prefix, bool) {
	v4, _ := cutHalves(key)
	dash := strings.LastIndexByte(v4, '-')
	if dash < 0 {
		return netip.Prefix{}, false
	}
	bits, err := strconv.ParseUint(v4[dash+1:], 10, 8)
	if err != nil || bits > 31 {
		return netip.Prefix{}, false
	}
	start := dash
	for dots := 0; start > 0; start-- {
		c := v4[start-1]
		if c == '.' {
			dots++
		}
		if dots > 3 || (c != '.' && (c < '0' || c > '9')) {
			break
		}
	}
	a, err := netip.ParseAddr(v4[start:dash])
	if err != nil || !a.Is4() {
		return netip.Prefix{}, false
	}
	return netip.PrefixFrom(a, int(bits)).Masked(), true
}
