// SPDX-License-Identifier: Apache-2.0

package lease

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"vxtap/encap/vxlan"
)

// Config is the network config, <prefix>/config, parsed and checked, with all
// defaults filled in (flannel, Documentation/configuration.md and
// pkg/subnet/config.go).
type Config struct {
	EnableIPv4, EnableIPv6, EnableNFTables bool

	Network              netip.Prefix // masked
	SubnetLen            int
	SubnetMin, SubnetMax netip.Addr // first and last subnet that may be leased

	// The IPv6 half; zero unless EnableIPv6.
	IPv6Network                  netip.Prefix
	IPv6SubnetLen                int
	IPv6SubnetMin, IPv6SubnetMax netip.Addr

	Backend Backend

	// Notes are remarks for the log, one sentence each, as on fields that nobody
	// knows.
	Notes []string
}

// Backend is the Backend object of a network config whose Type is vxlan.
type Backend struct {
	Type          string // "vxlan"
	VNI           vxlan.VNI
	Port          uint16 // UDP, 8472 where the config has none
	MTU           int    // of the outside interface, in bytes, before the overhead comes off; 0: the interface's own
	GBP           bool
	Learning      bool // of MACs by a kernel device; flannel's own default is not to
	DirectRouting bool // plain routes to peers on the same link
}

const (
	backendVXLAN = "vxlan"

	// minMTU is what every host of the underlay must be able to take (RFC 791,
	// section 3.1), and leaves the overlay far more than the 68 bytes that IPv4
	// needs. Less is a mistyped number.
	minMTU = 576
	maxMTU = 65535 // an IPv4 datagram is no longer

	// minMTUIPv6 leaves the overlay the 1280 bytes that IPv6 needs (RFC 8200,
	// section 5). Linux has no IPv6 on a device with less.
	minMTUIPv6 = 1280 + vxlan.OverheadIPv6
)

// Reading is what there is to say of a network config, whether it can be used
// or not.
type Reading struct {
	Config Config  // to be used only if there are no Faults; its Notes always
	Faults []error // each a sentence that says what is wrong and what to put instead
	given  map[string]bool
}

// ParseConfig reads a network config. Field names match in any case and
// unknown fields are ignored, as flanneld's do; the latter are named in Notes.
// What flanneld would refuse is refused, and what it forgot to check too. Every
// fault is reported, all in one line: each says what is wrong and what to put
// instead.
func ParseConfig(b []byte) (Config, error) {
	r := ReadConfig(b)
	if err := faults(r.Faults).err(); err != nil {
		return Config{}, err
	}
	return r.Config, nil
}

// ReadConfig is ParseConfig for somebody who wants to know more than whether it
// can be used.
func ReadConfig(b []byte) Reading {
	if len(b) > MaxValue {
		return Reading{Faults: []error{fmt.Errorf("network config is longer than %d bytes: put one of less", MaxValue)}}
	}
	o, err := readObject("network config", b,
		"EnableIPv4", "EnableIPv6", "EnableNFTables",
		"Network", "SubnetLen", "SubnetMin", "SubnetMax",
		"IPv6Network", "IPv6SubnetLen", "IPv6SubnetMin", "IPv6SubnetMax", "Backend",
		"Networks", "IPv6Networks") // the last two are flanneld's in Kubernetes
	if err != nil {
		return Reading{Faults: []error{err}}
	}
	c := o.config()
	c.Notes = o.notes
	return Reading{Config: c, Faults: o.faults, given: o.given()}
}

func (o *object) config() Config {
	c := Config{
		EnableIPv4:     field(o, "EnableIPv4", true, "true or false"),
		EnableIPv6:     field(o, "EnableIPv6", false, "true or false"),
		EnableNFTables: field(o, "EnableNFTables", false, "true or false"),
	}
	v4, v6 := readPlan(o, ipv4), readPlan(o, ipv6)
	c.Backend = readBackend(o)
	o.checkNetworks("Networks")
	o.checkNetworks("IPv6Networks")

	// What follows compares fields with each other, as far as they parsed: a
	// fault is told once, and hides no other.
	c.setIPv4(o, v4)
	c.setIPv6(o, v6)
	c.checkDeviceNames(o)
	return c
}

// checkNetworks looks at a list that flanneld reads, so that it must be one,
// and then forgets.
func (o *object) checkNetworks(name string) {
	const want = "a list of networks in quotes, or leave it out: nobody uses it here"
	for _, s := range field(o, name, []string(nil), want) {
		if _, err := netip.ParsePrefix(s); err != nil {
			o.fault("%s has %q, which is no network: put %s", name, clip(s), want)
			return
		}
	}
	if _, ok := o.fields[name]; ok {
		o.note("%s: field %q is for Kubernetes and ignored", o.name, name)
	}
}

// maxDeviceName is the longest name of a device (Linux, IFNAMSIZ less the zero
// at the end).
const maxDeviceName = 15

// checkDeviceNames refuses a VNI that gives flannel.<VNI>, the device that every
// host makes, a name that no kernel takes.
func (c Config) checkDeviceNames(o *object) {
	most := func(prefix string) int {
		n := 1
		for range maxDeviceName - len(prefix) {
			n *= 10
		}
		return n - 1
	}
	if most := most("flannel."); int(c.Backend.VNI) > most {
		o.fault("Backend: VNI is %d, and flannel.%d is too long for the name of a device: put at most %d", c.Backend.VNI, c.Backend.VNI, most)
		return
	}
	if most := most("flannel-v6."); c.EnableIPv6 && int(c.Backend.VNI) > most {
		o.fault("Backend: VNI is %d, and flannel-v6.%d, which flanneld makes for IPv6, is too long for the name of a device: put at most %d", c.Backend.VNI, c.Backend.VNI, most)
	}
}

func (c *Config) setIPv4(o *object, p plan) {
	if !c.EnableIPv4 {
		o.fault("EnableIPv4 is false: neither flanneld with etcd nor this program has an overlay without IPv4; set EnableIPv4 to true, or leave it out")
		return
	}
	p = p.check(o)
	c.Network, c.SubnetLen, c.SubnetMin, c.SubnetMax = p.network, p.len, p.min, p.max
	o.refuseOverlap("Network", c.Network, ipv4.networkFor, "0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/3")
}

func (c *Config) setIPv6(o *object, p plan) {
	if !c.EnableIPv6 {
		return
	}
	p = p.check(o)
	c.IPv6Network, c.IPv6SubnetLen, c.IPv6SubnetMin, c.IPv6SubnetMax = p.network, p.len, p.min, p.max
	o.refuseOverlap("IPv6Network", c.IPv6Network, ipv6.networkFor, "::/8", "fe80::/10", "ff00::/8")
	if mtu := c.Backend.MTU; mtu >= minMTU && mtu < minMTUIPv6 {
		o.fault("Backend: MTU %d leaves %d for IPv6 packets, which must be able to have %d bytes: put at least %d",
			mtu, mtu-vxlan.OverheadIPv6, minMTUIPv6-vxlan.OverheadIPv6, minMTUIPv6)
	}
}

// readBackend reads the Backend object. Its Type decides which of flannel's
// backends everybody runs, so a wrong one is a fault, however it got there.
func readBackend(o *object) Backend {
	raw, ok := o.fields["Backend"]
	if o.nulls["Backend"] {
		o.fault(`Backend is null: flanneld would exit with "unknown backend type"; put "Backend": {"Type": "vxlan"}`)
		return Backend{}
	}
	if !ok {
		o.fault(`there is no Backend: flanneld would run its udp backend; add "Backend": {"Type": "vxlan"}`)
		return Backend{}
	}
	b, err := readObject("Backend", raw,
		"Type", "VNI", "Port", "MTU", "GBP", "Learning", "DirectRouting",
		"Name", "MacPrefix") // the last two are for flannel on Windows
	if err != nil {
		o.faults = append(o.faults, err)
		return Backend{}
	}
	v := Backend{
		Type:          strings.ToLower(field(b, "Type", "", `a name in quotes, as "vxlan"`)),
		VNI:           vxlan.VNI(number(b, "VNI", 1, 1, int64(vxlan.MaxVNI))),
		Port:          uint16(number(b, "Port", 0, 0, 65535)),
		MTU:           int(number(b, "MTU", 0, 0, maxMTU)),
		GBP:           field(b, "GBP", false, "true or false"),
		Learning:      field(b, "Learning", false, "true or false"),
		DirectRouting: field(b, "DirectRouting", false, "true or false"),
	}
	if v.Port == 0 {
		v.Port = vxlan.PortFlannel
	}
	if v.MTU != 0 && v.MTU < minMTU {
		b.fault("MTU %d is too small: it is the outside interface's and must be at least %d; put 0, or leave it out, to take the interface's own", v.MTU, minMTU)
	}
	checkType(b, v.Type)
	o.faults = append(o.faults, b.faults...)
	o.notes = append(o.notes, b.notes...)
	o.backend = b
	return v
}

func checkType(b *object, typ string) {
	if len(b.faults) > 0 && typ == "" {
		return // Type itself may be what did not parse
	}
	switch typ {
	case backendVXLAN:
	case "":
		b.fault(`there is no Type: flanneld would exit with "unknown backend type"; put "Type": "vxlan"`)
	default:
		b.fault(`Type is %q: flanneld would run that backend or exit, this program speaks vxlan only; put "Type": "vxlan", for all hosts of the network`, clip(typ))
	}
}

// object is a JSON object on its way to checked values.
type object struct {
	name   string                     // for faults
	fields map[string]json.RawMessage // by the name that the reader asked for; never null
	nulls  map[string]bool            // names whose last value was null
	bad    map[string]bool            // names of fields with a fault of their own
	faults faults
	notes  []string

	backend *object // of a network config; nil if there is none that can be read
}

// given returns the names of the fields that were there, those of the Backend
// as "Backend.VNI".
func (o *object) given() map[string]bool {
	given := make(map[string]bool)
	for name := range o.fields {
		given[name] = true
	}
	if o.backend != nil {
		for name := range o.backend.fields {
			given["Backend."+name] = true
		}
	}
	return given
}

// readObject reads a JSON object. Names match in any case, and the last of
// several wins, as in encoding/json, through which flanneld reads them.
func readObject(name string, b []byte, known ...string) (*object, error) {
	var whole json.RawMessage
	if err := json.Unmarshal(b, &whole); err != nil {
		return nil, fmt.Errorf("%s is not JSON: %s", name, jsonFault(b, err))
	}
	dec := json.NewDecoder(strings.NewReader(string(whole)))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil, fmt.Errorf("%s is not a JSON object: put it in braces, {...}", name)
	}
	o := &object{name: name, fields: make(map[string]json.RawMessage), nulls: make(map[string]bool), bad: make(map[string]bool)}
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return nil, fmt.Errorf("%s is not JSON: %w", name, err)
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return nil, fmt.Errorf("%s is not JSON: %w", name, err)
		}
		o.set(key.(string), value, known) // an object's keys are strings
	}
	return o, nil
}

func (o *object) set(key string, value json.RawMessage, known []string) {
	for _, k := range known {
		if !strings.EqualFold(k, key) {
			continue
		}
		if _, twice := o.fields[k]; twice {
			o.note("%s: %s is there twice; the last one counts", o.name, k)
		}
		// A null leaves the field as it is, an earlier value of it included
		// (encoding/json). Where that is not so, readers ask for nulls.
		if o.nulls[k] = string(value) == "null"; !o.nulls[k] {
			o.fields[k] = value
		}
		return
	}
	o.note("%s: field %q is unknown and ignored", o.name, clip(key))
}

func (o *object) fault(format string, args ...any) {
	o.faults = append(o.faults, fmt.Errorf(o.name+": "+format, args...))
}

// faultIn is a fault of one field, whose value is of no use then.
func (o *object) faultIn(name, format string, args ...any) {
	o.bad[name] = true
	o.fault(format, args...)
}

// maxNotes bounds what a hostile config can make us log.
const maxNotes = 16

func (o *object) note(format string, args ...any) {
	if len(o.notes) < maxNotes {
		o.notes = append(o.notes, fmt.Sprintf(format, args...))
	}
}

// field returns the field called name, or def where there is none.
func field[T any](o *object, name string, def T, want string) T {
	raw, ok := o.fields[name]
	if !ok {
		return def
	}
	v := def
	if err := json.Unmarshal(raw, &v); err != nil {
		o.faultIn(name, "%s is %s: put %s", name, clip(string(raw)), want)
		return def
	}
	return v
}

// number returns the whole number called name, from least to most.
func number(o *object, name string, def, least, most int64) int64 {
	want := fmt.Sprintf("a whole number from %d to %d", least, most)
	v := field(o, name, def, want)
	if v < least || v > most {
		o.faultIn(name, "%s is %d: put %s", name, v, want)
		return def
	}
	return v
}

// jsonFault says where JSON went wrong.
func jsonFault(b []byte, err error) string {
	var s *json.SyntaxError
	if !errors.As(err, &s) {
		return err.Error()
	}
	if len(strings.TrimSpace(string(b))) == 0 {
		return "it is empty"
	}
	before := string(b[:min(int(s.Offset), len(b))])
	line := 1 + strings.Count(before, "\n")
	column := len(before) - (strings.LastIndexByte(before, '\n') + 1)
	return fmt.Sprintf("%v, at line %d, column %d", err, line, column)
}

// faults joins errors in one line.
type faults []error

func (f faults) Error() string {
	s := make([]string, len(f))
	for i, err := range f {
		s[i] = err.Error()
	}
	return strings.Join(s, "; ")
}

// Unwrap lets errors.Is and errors.As see each of them.
func (f faults) Unwrap() []error { return f }

func (f faults) err() error {
	if len(f) == 0 {
		return nil
	}
	return f
}

// clip shortens what a stranger wrote, for a message.
func clip(s string) string {
	const most = 64
	s = strings.ToValidUTF8(s, "?")
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "..."
}
