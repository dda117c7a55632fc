// SPDX-License-Identifier: Apache-2.0

package lease

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"vxtap/encap/ether"
)

// Memory is what a host last heard of its network: enough to forward by while
// the store cannot be asked. On disk it outlives the host's daemon.
//
// Of the leases it has those that make sense, with their values as this package
// writes them.
type Memory struct {
	Prefix      string    // of the network in the store, with a slash behind
	At          time.Time // when all of it was true
	Config      Config
	ConfigValue []byte // JSON that Config was read from; belongs to the Memory
	Own         Lease  // of this host; Expires as known at At, zero for a reservation
	Uptime      Uptime // at At
	// Host is what the writer calls the machine that it runs on, whatever its
	// address; "": it cannot tell. FormerMemory compares it.
	Host string
	// IPv6MAC is the one that the host had last in a network with IPv6, also while
	// its lease has no IPv6 half; zero: none.
	IPv6MAC ether.MAC
	All     Snapshot // Rejected is empty when it was written, and not when the file was tampered with
}

// Uptime is how long a machine has run, time asleep included, and since which boot:
// the clock on the wall may be set in between, and this one is not. The zero Uptime
// is that of a machine that cannot tell.
type Uptime struct {
	Boot string // that names the boot, and whatever else the clock is counted in
	For  time.Duration
}

// At returns what u, which is of now, was at t. Of what has passed since, as the
// monotonic clock says, which stands still while the host sleeps, and as the wall
// clock says, which is set, it takes the larger, so that what was true at t counts as
// too old rather than too young.
func (u Uptime) At(t time.Time) Uptime {
	now := time.Now()
	u.For -= max(0, now.Sub(t), now.Round(0).Sub(t.Round(0)))
	if u.For < 0 {
		return Uptime{}
	}
	return u
}

// ErrStale is matched by what Registry.CheckMemory returns for a Memory that is
// this host's and too old to forward by.
var ErrStale = errors.New("too old to go by")

// clockSlack is how far a clock may have been set back since a Memory was
// written, in an earlier boot. If it was more, nobody knows how old the Memory is.
const clockSlack = time.Minute

// Memory returns what is known now, for somebody who holds own and was told all
// by Watch.
func (r *Registry) Memory(own Lease, all Snapshot) Memory {
	status := r.Status()
	if !status.LeaseExpires.IsZero() {
		own.Expires = status.LeaseExpires
	}
	// An operator may have made it a reservation since it was acquired.
	for _, l := range all.Leases {
		if l.Key == own.Key && l.Revision >= own.Revision && l.Reserved() {
			own.Grant, own.Expires = 0, time.Time{}
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return Memory{Prefix: r.path(""), At: status.LastContact, Config: r.lastConfig, ConfigValue: r.lastConfigValue, Own: own, All: all}
}

// CheckMemory returns nil if this host, at publicIP, may forward by m now, when it
// has run for as long as now says, and else why not. Within one boot it goes by that,
// and after another by the clock on the wall. Once its own lease has ended somebody else may have the subnet;
// and no lease of others that m knows lasts for longer than a time to live after
// m was true, unless it was renewed.
func (r *Registry) CheckMemory(m Memory, publicIP netip.Addr, now Uptime) error {
	if here := r.path(""); m.Prefix != here || m.Own.Attrs.PublicIP != publicIP {
		return fmt.Errorf("it is about the host %v in the network %q, and this is %v in %q", m.Own.Attrs.PublicIP, clip(m.Prefix), publicIP, here)
	}
	lasts := r.o.TTL
	if !m.Own.Expires.IsZero() {
		lasts = min(lasts, m.Own.Expires.Sub(m.At))
	}
	age, slack := time.Since(m.At), clockSlack
	if now.Boot != "" && now.Boot == m.Uptime.Boot {
		age, slack = now.For-m.Uptime.For, 0
	}
	switch {
	case age < -slack:
		return fmt.Errorf("%w: it is from %s, which is yet to come: is the clock right?", ErrStale, m.At.Format(time.RFC3339))
	case age >= lasts:
		return fmt.Errorf("%w: it was good until %s", ErrStale, m.At.Add(lasts).Format(time.RFC3339))
	}
	return nil
}

// memoryFormat changes whenever an older program would misread the file.
const memoryFormat = 1

// maxMemory bounds the file. A lease takes less than 400 bytes, and 2^16 hosts
// are as many as a /8 has subnets of flannel's usual length.
const maxMemory = 32 << 20

type (
	wireMemory struct {
		Format   int             `json:"format"`
		Prefix   string          `json:"prefix"`
		Host     string          `json:"host,omitempty"`
		IPv6MAC  string          `json:"ipv6_mac,omitempty"`
		At       time.Time       `json:"at"`
		Boot     string          `json:"boot,omitempty"`
		Uptime   time.Duration   `json:"uptime,omitempty"` // nanoseconds, at At
		Expires  *time.Time      `json:"expires"`          // of own; null: never
		Config   json.RawMessage `json:"config"`
		Own      wirePair        `json:"own"`
		Revision int64           `json:"revision"`
		Leases   []wirePair      `json:"leases"`
	}
	wirePair struct {
		Key      string          `json:"key"`
		Value    json.RawMessage `json:"value"`
		Created  int64           `json:"created"`
		Revision int64           `json:"revision"`
		Grant    GrantID         `json:"grant"`
	}
)

// encode returns the contents of the file.
func (m Memory) encode() ([]byte, error) {
	w := wireMemory{
		Format: memoryFormat, Prefix: m.Prefix, Host: m.Host, At: m.At.UTC(), Boot: m.Uptime.Boot, Uptime: m.Uptime.For,
		Config: m.ConfigValue, Revision: m.All.Revision,
	}
	if !m.IPv6MAC.IsZero() {
		w.IPv6MAC = m.IPv6MAC.String()
	}
	if !m.Own.Expires.IsZero() {
		// Counted from At, as the monotonic clock has it: the one on the wall may
		// have been set between the two.
		end := m.At.UTC().Add(m.Own.Expires.Sub(m.At))
		w.Expires = &end
	}
	var err error
	if w.Own, err = wireLease(m.Own); err != nil {
		return nil, err
	}
	b, err := json.Marshal(w)
	if err == nil {
		b, err = m.appendLeases(b)
	}
	if err == nil && len(b) > maxMemory {
		err = fmt.Errorf("%d bytes are more than the %d that would be read", len(b), maxMemory)
	}
	return b, err
}

func wireLease(l Lease) (wirePair, error) {
	value, err := json.Marshal(l.Attrs)
	return wirePair{Key: l.Key, Value: value, Created: l.Created, Revision: l.Revision, Grant: l.Grant}, err
}

func (p wirePair) pair() Pair {
	return Pair{Key: p.Key, Value: p.Value, Created: p.Created, Revision: p.Revision, Grant: p.Grant}
}

// ParseMemory reads the contents of the file. Nothing in it is believed that
// would not be believed of the store: the config and each lease go through the
// same parsers. A lease of another host that makes no sense is left out, and
// shown in All.Rejected; whatever else makes none is an error.
func ParseMemory(b []byte) (Memory, error) {
	if len(b) > maxMemory {
		return Memory{}, fmt.Errorf("it is larger than %d bytes", maxMemory)
	}
	var w wireMemory
	// The format first: the rest may be anything in another one.
	var head struct{ Format int }
	if err := json.Unmarshal(b, &head); err != nil {
		return Memory{}, errors.New("it is not JSON, or not whole")
	}
	if head.Format != memoryFormat {
		return Memory{}, fmt.Errorf("it is of format %d, and this program knows %d", head.Format, memoryFormat)
	}
	if err := json.Unmarshal(b, &w); err != nil {
		return Memory{}, errors.New("it is JSON of something else")
	}
	return w.memory()
}

func (w wireMemory) memory() (Memory, error) {
	m := Memory{Prefix: w.Prefix, Host: w.Host, At: w.At, Uptime: Uptime{w.Boot, w.Uptime}, ConfigValue: w.Config}
	if w.Uptime < 0 || w.Boot == "" {
		m.Uptime = Uptime{}
	}
	if w.At.IsZero() || w.At.Year() > 9000 {
		return Memory{}, errors.New("it does not say when it was true")
	}
	var err error
	if w.IPv6MAC != "" {
		m.IPv6MAC, err = ether.ParseMAC(w.IPv6MAC)
		if err != nil || m.IPv6MAC.IsZero() || m.IPv6MAC.IsMulticast() {
			return Memory{}, errors.New("its MAC for IPv6 is none that a device can have")
		}
	}
	if m.Config, err = ParseConfig(w.Config); err != nil {
		return Memory{}, err
	}
	own := readEntry(w.Own.pair())
	if own.fault != "" {
		return Memory{}, fmt.Errorf("own lease: %s", own.fault)
	}
	if err := m.Config.checkOwn(own.Lease); err != nil {
		return Memory{}, fmt.Errorf("own lease: %w", err)
	}
	m.Own = own.Lease
	if w.Expires != nil {
		m.Own.Expires = *w.Expires
	}
	if m.Own.Expires.IsZero() && !m.Own.Reserved() {
		return Memory{}, errors.New("own lease: it does not say when it ends")
	}
	pairs := make([]Pair, len(w.Leases))
	for i, p := range w.Leases {
		pairs[i] = p.pair()
	}
	entries := readEntries(pairs)
	for i, e := range entries[min(1, len(entries)):] {
		if e.Key == entries[i].Key {
			return Memory{}, fmt.Errorf("the key %q is there twice", clip(e.Key))
		}
	}
	m.All = snapshot(entries, w.Revision)
	return m, nil
}

// checkOwn returns why l cannot be what Acquire returned in the network c.
func (c Config) checkOwn(l Lease) error {
	switch {
	case l.Attrs.BackendType != backendVXLAN:
		return fmt.Errorf("it is of the backend %q", l.Attrs.BackendType)
	case !c.fits(SubnetKey{l.Subnet, l.IPv6Subnet}):
		return fmt.Errorf("subnet %v does not fit the network %v", l.Subnet, c.Network)
	case c.Network.Contains(l.Attrs.PublicIP):
		return fmt.Errorf("PublicIP %v is inside the overlay network %v", l.Attrs.PublicIP, c.Network)
	}
	return nil
}
