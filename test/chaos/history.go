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
	subnet  netip.Prefix // the zero Prefix: the key names none
	host    netip.Addr   // its PublicIP; the zero Addr: the value names no host
	mac     string
	whole   bool // it is a lease that peers can use
	grant   int64
	created int64
	// owner is who may write to it: the host that it names or, while junk
	// stands there, the one that it named last. The zero Addr is nobody's: a
	// fault made it.
	owner netip.Addr
}

// state is everything below subnets from one revision to the next.
type state struct {
	rev  int64
	from time.Time // when its event was heard of
	keys map[string]holding
	// table is what every daemon should make of it: who is where.
	table map[netip.Prefix]holding
}

// history is the states of the last minutes, in order.
type history struct {
	network netip.Prefix
	states  []state
}

func newHistory(network netip.Prefix) *history {
	return &history{network: network, states: []state{{keys: map[string]holding{}, table: map[netip.Prefix]holding{}}}}
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
	s := state{rev: e.rev, from: e.at, keys: keys, table: tableOf(keys, h.network)}
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
	k := holding{key: e.key, subnet: readKey(e.key), grant: e.grant, created: e.rev}
	if before.key != "" {
		k.created = before.created
	}
	var v struct {
		PublicIP, BackendType string
		BackendData           struct {
			VNI     int64
			VtepMAC string
		}
	}
	broken := json.Unmarshal([]byte(e.value), &v) != nil
	if ip, err := netip.ParseAddr(v.PublicIP); err == nil && ip.Is4() && ip.IsGlobalUnicast() {
		k.host = ip
	}
	mac, err := net.ParseMAC(v.BackendData.VtepMAC)
	if err == nil && len(mac) == 6 && mac[0]&1 == 0 && !slices.Equal(mac, make([]byte, 6)) {
		k.mac = mac.String()
	}
	k.whole = !broken && k.subnet.IsValid() && k.host.IsValid() && k.mac != "" && v.BackendType == "vxlan"
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

// subnetsDir is where leases are, below the prefix.
const subnetsDir = "subnets/"

// readKey returns the subnet that a key names, spelled as flannel spells it.
func readKey(key string) netip.Prefix {
	name, ok := strings.CutPrefix(key, subnetsDir)
	addr, bits, dashed := strings.Cut(name, "-")
	a, err := netip.ParseAddr(addr)
	n, failed := strconv.Atoi(bits)
	if !ok || !dashed || err != nil || failed != nil || !a.Is4() || n > 31 || strconv.Itoa(n) != bits {
		return netip.Prefix{}
	}
	if p := netip.PrefixFrom(a, n); p == p.Masked() {
		return p
	}
	return netip.Prefix{}
}

// keyOf is the key of a subnet.
func keyOf(p netip.Prefix) string {
	return subnetsDir + p.Addr().String() + "-" + strconv.Itoa(p.Bits())
}

// tableOf returns the leases that peers can use: those that are whole, inside
// the network, and overlap none that was created before.
func tableOf(keys map[string]holding, network netip.Prefix) map[netip.Prefix]holding {
	var all []holding
	for _, k := range keys {
		if k.whole && network.Bits() <= k.subnet.Bits() && network.Contains(k.subnet.Addr()) && !network.Contains(k.host) {
			all = append(all, k)
		}
	}
	slices.SortFunc(all, func(a, b holding) int {
		return cmp.Or(cmp.Compare(a.created, b.created), strings.Compare(a.key, b.key))
	})
	table := make(map[netip.Prefix]holding, len(all))
	for _, k := range all {
		if _, taken := overlapping(table, k.subnet); !taken {
			table[k.subnet] = k
		}
	}
	return table
}

// overlapping returns an entry of table that overlaps p.
func overlapping(table map[netip.Prefix]holding, p netip.Prefix) (holding, bool) {
	if k, ok := table[p]; ok {
		return k, true
	}
	for q, k := range table {
		if q.Overlaps(p) {
			return k, true
		}
	}
	return holding{}, false
}
