// SPDX-License-Identifier: Apache-2.0

// Package ether has the vocabulary of Ethernet: MAC addresses and EtherTypes.
package ether

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
)

// MAC is a 48-bit Ethernet address. It is comparable, so it can be a map key,
// and its zero value is the all-zero address, which no station may use.
type MAC [6]byte

// ParseMAC reads the colon form that flannel publishes, as in
// "c6:d2:32:6f:8f:44", in either case. Other spellings are refused: a lease
// that needs guessing is a lease that two programs read differently.
func ParseMAC(s string) (MAC, error) {
	var m MAC
	if len(s) != 17 {
		return MAC{}, fmt.Errorf("MAC address %q is not six pairs of hex digits with colons", s)
	}
	for i := range m {
		if _, err := hex.Decode(m[i:i+1], []byte(s[3*i:3*i+2])); err != nil || (i < 5 && s[3*i+2] != ':') {
			return MAC{}, fmt.Errorf("MAC address %q is not six pairs of hex digits with colons", s)
		}
	}
	return m, nil
}

// RandomMAC returns a locally administered unicast address (IEEE 802-2014,
// 8.4): a random one is ours to give out, and can never collide with a
// manufacturer's.
func RandomMAC() MAC {
	var m MAC
	rand.Read(m[:]) // never fails since Go 1.24: it aborts the program instead
	m[0] = m[0]&^0x01 | 0x02
	return m
}

// String returns the lower-case colon form.
func (m MAC) String() string {
	b, _ := m.MarshalText()
	return string(b)
}

// MarshalText writes the lower-case colon form, for JSON and logs.
func (m MAC) MarshalText() ([]byte, error) {
	const digits = "0123456789abcdef"
	b := make([]byte, 0, 17)
	for i, x := range m {
		if i > 0 {
			b = append(b, ':')
		}
		b = append(b, digits[x>>4], digits[x&15])
	}
	return b, nil
}

// UnmarshalText reads what ParseMAC reads.
func (m *MAC) UnmarshalText(b []byte) error {
	v, err := ParseMAC(string(b))
	if err != nil {
		return err
	}
	*m = v
	return nil
}

// IsZero reports whether m is the all-zero address.
func (m MAC) IsZero() bool { return m == MAC{} }

// IsMulticast reports whether m is a group address, broadcast included (the
// I/G bit, IEEE 802-2014, 8.2.2). No group address may be a frame's source.
func (m MAC) IsMulticast() bool { return m[0]&0x01 != 0 }

// IsBroadcast reports whether m is ff:ff:ff:ff:ff:ff.
func (m MAC) IsBroadcast() bool {
	return m == MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
}

// HeaderLen is the length of an Ethernet header without a VLAN tag.
const HeaderLen = 14

// Type is an EtherType (IEEE 802 numbers).
type Type uint16

// The EtherTypes that the switch tells apart.
const (
	TypeIPv4 Type = 0x0800
	TypeARP  Type = 0x0806
	TypeVLAN Type = 0x8100 // 802.1Q tag; 4 bytes more before the payload's own type
	TypeQinQ Type = 0x88a8 // 802.1ad outer tag
	TypeIPv6 Type = 0x86dd
)
