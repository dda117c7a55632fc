// SPDX-License-Identifier: Apache-2.0

package lease

import (
	"fmt"
	"math"
	"net/netip"
	"strconv"
	"strings"
)

// Setting is one field of a network config as people read it.
type Setting struct {
	Name    string // as in the config: "SubnetLen", "Backend.VNI"
	Value   string
	Default bool // it is not in the config
}

// Settings returns the fields in the order of flannel's documentation, those of
// a family that is off left out.
func (r Reading) Settings() []Setting {
	all := r.Config.settings()
	for i := range all {
		all[i].Default = !r.given[all[i].Name]
	}
	return all
}

func (c Config) settings() []Setting {
	var all []Setting
	set := func(name, value string) { all = append(all, Setting{Name: name, Value: value}) }
	plan := func(prefix string, network netip.Prefix, length int, first, last netip.Addr) {
		set(prefix+"Network", network.String())
		set(prefix+"SubnetLen", strconv.Itoa(length))
		set(prefix+"SubnetMin", first.String())
		set(prefix+"SubnetMax", last.String())
	}
	set("EnableIPv4", strconv.FormatBool(c.EnableIPv4))
	set("EnableIPv6", strconv.FormatBool(c.EnableIPv6))
	set("EnableNFTables", strconv.FormatBool(c.EnableNFTables))
	plan("", c.Network, c.SubnetLen, c.SubnetMin, c.SubnetMax)
	if c.EnableIPv6 {
		plan("IPv6", c.IPv6Network, c.IPv6SubnetLen, c.IPv6SubnetMin, c.IPv6SubnetMax)
	}
	b := c.Backend
	mtu := strconv.Itoa(b.MTU)
	if b.MTU == 0 {
		mtu = "the outside interface's"
	}
	set("Backend.Type", b.Type)
	set("Backend.VNI", strconv.FormatUint(uint64(b.VNI), 10))
	set("Backend.Port", strconv.Itoa(int(b.Port)))
	set("Backend.MTU", mtu)
	set("Backend.GBP", strconv.FormatBool(b.GBP))
	set("Backend.Learning", strconv.FormatBool(b.Learning))
	set("Backend.DirectRouting", strconv.FormatBool(b.DirectRouting))
	return all
}

// Change is one setting that two configs differ in.
type Change struct {
	Name, From, To string // "" where the config has no such setting
	// Effect says when running hosts follow, and what happens until all have.
	Effect string
}

// Effects of a change. flanneld reads the config when it starts. This program
// watches it, and follows what can change without harm to traffic (Follow); the
// rest it takes up when it starts, and when it acquires a lost lease again.
const (
	effectLive     = "hosts of vxtap follow at once; flanneld when restarted"
	effectAlone    = "each host follows when it is restarted"
	effectTogether = "each host follows when it is restarted; hosts with the old and with the new value do not reach each other"
	effectDual     = "each host follows when it is restarted, and keeps its IPv4 subnet; flanneld takes another one"
	effectNone     = "hosts of vxtap have no use for it; flanneld follows when restarted"
	effectLease    = "counts when a host leases: at once for new hosts, at its restart for one that has a lease"
)

func effectOf(setting string) string {
	switch setting {
	case "Network", "IPv6Network", "Backend.Type", "Backend.VNI", "Backend.Port":
		return effectTogether
	case "SubnetLen", "SubnetMin", "SubnetMax", "IPv6SubnetLen", "IPv6SubnetMin", "IPv6SubnetMax":
		return effectLease
	case "EnableIPv6":
		return effectDual
	case "EnableNFTables", "Backend.MTU", "Backend.DirectRouting":
		return effectLive
	case "Backend.Learning":
		return effectNone
	}
	return effectAlone
}

// Changes returns the settings that c and after differ in.
func (c Config) Changes(after Config) []Change {
	old := make(map[string]string)
	var gone []string
	for _, s := range c.settings() {
		old[s.Name], gone = s.Value, append(gone, s.Name)
	}
	// That a host has IPv6 or not keeps nobody from reaching it by IPv4.
	effect := effectOf
	if c.EnableIPv6 != after.EnableIPv6 {
		effect = func(setting string) string {
			if strings.HasPrefix(setting, "IPv6") {
				return effectDual
			}
			return effectOf(setting)
		}
	}
	var all []Change
	seen := make(map[string]bool)
	for _, s := range after.settings() {
		seen[s.Name] = true
		if from := old[s.Name]; from != s.Value {
			all = append(all, Change{s.Name, from, s.Value, effect(s.Name)})
		}
	}
	for _, name := range gone {
		if !seen[name] {
			all = append(all, Change{name, old[name], "", effect(name)})
		}
	}
	return all
}

// Move is a lease that its host cannot keep under another config.
type Move struct {
	Lease
	Why string // one sentence
	// KeepsIPv4 reports whether only the IPv6 half is given up.
	KeepsIPv4 bool
}

// Moves returns the leases of s that fit c no longer: each host deletes its own
// when it is next started, a reservation too, and takes another subnet, so that
// its containers have to be made anew; or the same IPv4 subnet without the IPv6
// half, or with another one.
func (s Snapshot) Moves(c Config) []Move {
	var all []Move
	for _, l := range s.Leases {
		if why := c.misfit(l); why != "" {
			kept := l
			kept.IPv6Subnet = netip.Prefix{}
			all = append(all, Move{l, why, c.misfit(kept) == ""})
		}
	}
	return all
}

func (c Config) misfit(l Lease) string {
	switch {
	case c.Network.Contains(l.Attrs.PublicIP):
		return fmt.Sprintf("its address %v is inside the Network %v: it cannot take part at all", l.Attrs.PublicIP, c.Network)
	case !within(c.Network, l.Subnet):
		return fmt.Sprintf("it is outside the Network %v", c.Network)
	case l.Subnet.Bits() != c.SubnetLen:
		return fmt.Sprintf("it is a /%d, and SubnetLen is %d", l.Subnet.Bits(), c.SubnetLen)
	case !c.fitsIPv4(l.Subnet):
		return fmt.Sprintf("it is not between SubnetMin %v and SubnetMax %v", c.SubnetMin, c.SubnetMax)
	case l.IPv6Subnet.IsValid() && !c.EnableIPv6:
		return "it has an IPv6 half, and EnableIPv6 is false: the IPv4 half is kept, by flanneld if it is still free"
	case l.IPv6Subnet.IsValid() && !c.fitsIPv6(l.IPv6Subnet):
		return fmt.Sprintf("its IPv6 half %v is no /%d from %v to %v: the IPv4 half is kept, by flanneld if it is still free",
			l.IPv6Subnet, c.IPv6SubnetLen, c.IPv6SubnetMin, c.IPv6SubnetMax)
	}
	return ""
}

// Room returns how many hosts the network has subnets for.
func (c Config) Room() int {
	room := c.ipv4().room()
	if c.EnableIPv6 {
		room = min(room, c.ipv6().room())
	}
	return room
}

// room returns how many subnets there are; math.MaxInt32 for more than that.
func (p plan) room() int {
	first, last := pointOf(p.min), pointOf(p.max)
	high, between := last.high-first.high, last.low-first.low
	switch host := p.bits - p.len; {
	case host >= 64:
		between = high >> (host - 64)
	case high > 0:
		return math.MaxInt32
	default:
		between >>= host
	}
	return int(min(between, math.MaxInt32-1)) + 1
}
