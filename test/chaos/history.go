// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"encoding/json"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// event is one change of one key below the prefix, as a watch told it.
type event struct {
	rev     int64
	at      time.Time // when it was heard of: it happened before
	key     string    // below the prefix
	deleted bool
	value   string
	grant   int64
	fault   string // the fault that wrote it; "" if somebody else did
}

// holding is one key at some revision. What a daemon makes of keys and values
// is read here once more, by other code: a fault in the one is not to hide in
// the other.
type holding struct {
	key     string
	half         // IPv4
	six     half // the zero half: the key has no IPv6 half
	grant   int64
	created int64
	// owner is who may write to it: the host that it names or, while junk
	// stands there, the one that it named last. The zero Addr is nobody's: a
	// fault made it.
	owner netip.Addr
}

// half is what a key and its value say of one address family.
type half struct {
	subnet netip.Prefix // the zero Prefix: the key names none
	host   netip.Addr   // its address in the value; the zero Addr: it names no host
	mac    string
	whole  bool // it is one that peers can use
}

// place is where a subnet of either family is: an entry of the table that every
// daemon should have.
type place struct {
	half
	owner   netip.Addr // of the key; the zero Addr is nobody
	created int64
	key     string
}

// subnets returns the subnets that a key names.
func (k holding) subnets() (all []netip.Prefix) {
	for _, p := range []netip.Prefix{k.subnet, k.six.subnet} {
		if p.IsValid() {
			all = append(all, p)
		}
	}
	return all
}

// halves returns what the key says of both families.
func (k holding) halves() [2]half { return [2]half{k.half, k.six} }

// has reports whether the key names a subnet.
func (k holding) has(p netip.Prefix) bool {
	return p.IsValid() && (k.subnet == p || k.six.subnet == p)
}

// state is everything below subnets from one revision to the next.
type state struct {
	rev  int64
	from time.Time // when its event was heard of
	keys map[string]holding
	// table is what every daemon should make of it: who is where, in both families.
	table map[netip.Prefix]place
}

// history is the states of the last minutes, in order.
type history struct {
	networks [2]netip.Prefix // IPv4, and IPv6; the zero Prefix: the network has no IPv6
	states   []state
}

func newHistory(networks [2]netip.Prefix) *history {
	return &history{networks: networks, states: []state{{keys: map[string]holding{}, table: map[netip.Prefix]place{}}}}
}

// keepFor is how long states are kept: samples are judged a few seconds late,
// and later while etcd has no majority.
const keepFor = 3 * time.Minute

// now returns the last state.
func (h *history) now() state { return h.states[len(h.states)-1] }

// add takes in an event and returns what its key was before and is now; the
// zero holding is a key that is not there.
func (h *history) add(e event) (before, after holding) {
	last := h.now()
	before = last.keys[e.key]
	keys := maps.Clone(last.keys)
	delete(keys, e.key)
	if !e.deleted {
		after = readHolding(e, before)
		keys[e.key] = after
	}
	s := state{rev: e.rev, from: e.at, keys: keys, table: tableOf(keys, h.networks)}
	if e.rev == last.rev { // another change of one transaction
		h.states = h.states[:len(h.states)-1]
		s.from = last.from
	}
	h.states = append(h.states, s)
	if old := e.at.Add(-keepFor); len(h.states) > 1000 && h.states[500].from.Before(old) {
		h.states = slices.Delete(h.states, 0, 500)
	}
	return before, after
}

// between returns the states that there were in some moment from a to b.
func (h *history) between(a, b time.Time) []state {
	first, _ := slices.BinarySearchFunc(h.states, a, func(s state, t time.Time) int { return s.from.Compare(t) })
	last := first
	for last < len(h.states) && !h.states[last].from.After(b) {
		last++
	}
	return h.states[max(0, first-1):last]
}

// readHolding reads a key that was put.
func readHolding(e event, before holding) holding {
	k := holding{key: e.key, grant: e.grant, created: e.rev}
	k.subnet, k.six.subnet = readKey(e.key)
	if before.key != "" {
		k.created = before.created
	}
	type data struct {
		VNI     int64
		VtepMAC string
	}
	var v struct {
		PublicIP, PublicIPv6, BackendType string
		BackendData, BackendV6Data        data
	}
	broken := json.Unmarshal([]byte(e.value), &v) != nil
	if ip, err := netip.ParseAddr(v.PublicIP); err == nil && ip.Is4() && ip.IsGlobalUnicast() {
		k.host = ip
	}
	if ip, err := netip.ParseAddr(v.PublicIPv6); err == nil && ip.Is6() && ip.IsGlobalUnicast() {
		k.six.host = ip
	}
	k.mac, k.six.mac = readMAC(v.BackendData.VtepMAC), readMAC(v.BackendV6Data.VtepMAC)
	k.whole = !broken && k.subnet.IsValid() && k.host.IsValid() && k.mac != "" && v.BackendType == "vxlan"
	k.six.whole = k.whole && k.six.subnet.IsValid() && k.six.host.IsValid() && k.six.mac != ""
	switch {
	case e.fault != "" && !k.host.IsValid() && before.key != "":
		k.owner = before.owner // junk takes nothing away
	case e.fault != "" && before.owner == k.host:
		k.owner = k.host
	case e.fault == "":
		k.owner = k.host
	}
	return k
}

// readMAC returns a host's MAC address as it is spelled here; "": it is none.
func readMAC(text string) string {
	mac, err := net.ParseMAC(text)
	if err != nil || len(mac) != 6 || mac[0]&1 != 0 || slices.Equal(mac, make([]byte, 6)) {
		return ""
	}
	return mac.String()
}

// subnetsDir is where leases are, below the prefix.
const subnetsDir = "subnets/"

// readKey returns the subnets that a key names, spelled as flannel spells them; a key
// of which one half makes no sense names none.
func readKey(key string) (four, six netip.Prefix) {
	name, ok := strings.CutPrefix(key, subnetsDir)
	v4, v6, dual := strings.Cut(name, "&")
	four = readSubnet(v4, 31)
	if dual {
		six = readSubnet(v6, 127)
	}
	if !ok || !four.IsValid() || !four.Addr().Is4() || dual && (!six.IsValid() || !six.Addr().Is6()) {
		return netip.Prefix{}, netip.Prefix{}
	}
	return four, six
}

func readSubnet(text string, longest int) netip.Prefix {
	addr, bits, dashed := strings.Cut(text, "-")
	a, err := netip.ParseAddr(addr)
	n, failed := strconv.Atoi(bits)
	if !dashed || err != nil || failed != nil || n > longest || strconv.Itoa(n) != bits {
		return netip.Prefix{}
	}
	if p := netip.PrefixFrom(a, n); p == p.Masked() {
		return p
	}
	return netip.Prefix{}
}

// keyOf is the key of a subnet, and of an IPv6 subnet if that is valid.
func keyOf(four, six netip.Prefix) string {
	key := subnetsDir + four.Addr().String() + "-" + strconv.Itoa(four.Bits())
	if six.IsValid() {
		key += "&" + six.Addr().String() + "-" + strconv.Itoa(six.Bits())
	}
	return key
}

// tableOf returns the halves of leases that peers can use: those that are whole,
// inside the network, and overlap none that was created before. No prefix of one
// family overlaps one of the other, so that both fit one table.
func tableOf(keys map[string]holding, networks [2]netip.Prefix) map[netip.Prefix]place {
	var all []place
	for _, k := range keys {
		for i, h := range k.halves() {
			network := networks[i]
			if h.whole && network.IsValid() && network.Bits() <= h.subnet.Bits() && network.Contains(h.subnet.Addr()) && !network.Contains(h.host) {
				all = append(all, place{half: h, owner: k.owner, created: k.created, key: k.key})
			}
		}
	}
	slices.SortFunc(all, func(a, b place) int {
		return cmp.Or(cmp.Compare(a.created, b.created), strings.Compare(a.key, b.key))
	})
	table := make(map[netip.Prefix]place, len(all))
	for _, k := range all {
		if _, taken := overlapping(table, k.subnet); !taken {
			table[k.subnet] = k
		}
	}
	return table
}

// overlapping returns an entry of table that overlaps p.
func overlapping(table map[netip.Prefix]place, p netip.Prefix) (place, bool) {
	if k, ok := table[p]; ok {
		return k, true
	}
	for q, k := range table {
		if q.Overlaps(p) {
			return k, true
		}
	}
	return place{}, false
}
