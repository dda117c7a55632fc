// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"

	"vxtap/encap/vxlan"
)

// Options say what lab to build. The zero value of a field means what its
// comment says.
type Options struct {
	Name      string       // "lab"
	Hosts     int          // 3
	MTU       int          // of the underlay in bytes: 1500
	Underlay  netip.Prefix // 192.168.77.0/24; etcd is on its first address, host N on its (10+N)th
	Network   netip.Prefix // of the overlay: 172.30.0.0/16
	SubnetLen int          // of the subnets that hosts lease: 24
	// IPv6Underlay gives the hosts IPv6 addresses, host N the (10+N)th of it: none.
	// IPv6Network makes the overlay one of both families: IPv4 alone.
	IPv6Underlay netip.Prefix `json:",omitzero"`
	IPv6Network  netip.Prefix `json:",omitzero"`
	VNI          vxlan.VNI    // left to vxtap, which takes 1 as flannel does
	Port         uint16       // left to vxtap, which takes 8472 as flannel does
	Vxtap        string       // path of the daemon: needed
	Vxlab        string       // path of a program that has the subcommand EtcdCommand: this very program
	Args         []string     // more flags for every daemon

	// EtcdURLs are those of an etcd that is not the lab's, separated by commas:
	// the lab starts none, and no hosts either, which come with Join and
	// JoinBare once that etcd is there. Hosts says nothing then.
	EtcdURLs string `json:",omitempty"`

	// Owned makes the lab one that its builder means to take down: if this
	// process is gone and the lab is not, the next Up of that name replaces it.
	Owned bool

	// Progress gets a line for each step; nil: nobody is told.
	Progress io.Writer `json:"-"`
}

// What the lab takes where Options say nothing.
const (
	DefaultName  = "lab"
	defaultHosts = 3
	defaultMTU   = 1500
	defaultLen   = 24
)

// firstHost is the distance from the underlay's network address to host 0.
const firstHost = 10

// minMTU is the least that vxtap takes in a network config.
const minMTU = 576

// etcdPort and healthPort are the same on every node of every lab: each node
// has its own namespace.
const (
	etcdPort   = 2379
	peerPort   = 2380
	healthPort = 8473
)

// EtcdPrefix is the -etcd-prefix of the daemons of every lab.
const EtcdPrefix = "/vxlab/network"

func (o Options) withDefaults() Options {
	if o.Name == "" {
		o.Name = DefaultName
	}
	if o.EtcdURLs != "" {
		o.Hosts = 0
	} else if o.Hosts == 0 {
		o.Hosts = defaultHosts
	}
	if o.MTU == 0 {
		o.MTU = defaultMTU
	}
	if !o.Underlay.IsValid() {
		o.Underlay = netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 168, 77, 0}), 24)
	}
	if !o.Network.IsValid() {
		o.Network = netip.PrefixFrom(netip.AddrFrom4([4]byte{172, 30, 0, 0}), 16)
	}
	if o.SubnetLen == 0 {
		o.SubnetLen = defaultLen
	}
	return o
}

// Validate reports every fault of the options at once, as they are after the
// defaults have been filled in. It does not look at the machine.
func (o Options) Validate() error {
	err := o.withDefaults().check()
	if o.Vxtap == "" {
		err = errors.Join(err, errors.New("no path of a vxtap is given"))
	}
	return err
}

// check is Validate for options with defaults, whatever their paths: records
// that are read back need none.
func (o Options) check() error {
	errs := []error{CheckName(o.Name), o.checkIPv6()}
	fault := func(wrong bool, format string, args ...any) {
		if wrong {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	fault(o.MTU < minMTU || o.MTU > 65535, "underlay MTU %d is not within %d and 65535", o.MTU, minMTU)
	fault(o.VNI > vxlan.MaxVNI, "VNI %d does not fit 24 bits", o.VNI)
	v4 := o.Underlay.Addr().Is4() && o.Network.Addr().Is4()
	fault(!v4, "underlay %s and network %s must be IPv4", o.Underlay, o.Network)
	if !v4 {
		return errors.Join(errs...)
	}
	fault(o.Underlay != o.Underlay.Masked() || o.Network != o.Network.Masked(), "underlay %s or network %s has host bits", o.Underlay, o.Network)
	fault(o.Underlay.Overlaps(o.Network), "underlay %s and network %s overlap", o.Underlay, o.Network)
	fault(o.Hosts < 1 && o.EtcdURLs == "" || o.Hosts > o.maxHosts(), "%d hosts: the underlay %s has room for 1 to %d", o.Hosts, o.Underlay, max(o.maxHosts(), 0))
	fault(o.SubnetLen < o.Network.Bits() || o.SubnetLen > 30, "subnet length %d is not within %d, of the network, and 30", o.SubnetLen, o.Network.Bits())
	return errors.Join(errs...)
}

// maxHosts is how many hosts the underlay has addresses for; the last address
// is the broadcast address. Node names have room for three digits.
func (o Options) maxHosts() int {
	return min(1<<(32-o.Underlay.Bits())-2-firstHost, 999)
}

// checkProgram says what to do when there is no program at path.
func checkProgram(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("no vxtap at %s (%w): build it with make build, or say where one is (vxlab -vxtap)", path, errors.Unwrap(err))
	}
	if !info.Mode().IsRegular() || info.Mode().Perm()&0o111 == 0 {
		return fmt.Errorf("%s is not a program", path)
	}
	return nil
}

// resolve makes the paths of the programs absolute, since they are kept for
// commands that run in other directories.
func (o Options) resolve() (Options, error) {
	if o.Vxlab == "" {
		self, err := os.Executable()
		if err != nil {
			return o, fmt.Errorf("find own program: %w", err)
		}
		o.Vxlab = self
	}
	var errs [2]error
	o.Vxtap, errs[0] = filepath.Abs(o.Vxtap)
	o.Vxlab, errs[1] = filepath.Abs(o.Vxlab)
	return o, errors.Join(errs[:]...)
}

// gateway is the underlay's first address, where etcd is.
func (o Options) gateway() netip.Addr { return o.Underlay.Addr().Next() }

// vtep is the underlay address of host n.
func (o Options) vtep(n int) netip.Addr {
	a := o.Underlay.Addr()
	for range firstHost + n {
		a = a.Next()
	}
	return a
}

// device is the name of vxtap's TAP device.
func (o Options) device() string {
	return fmt.Sprintf("flannel.%d", max(o.VNI, 1))
}

func (o Options) etcdURL() string {
	if o.EtcdURLs != "" {
		return o.EtcdURLs
	}
	return "http://" + netip.AddrPortFrom(o.gateway(), etcdPort).String()
}

// networkConfig is flannel's network configuration, the value of the key
// <prefix>/config.
func (o Options) networkConfig() string {
	type backend struct {
		Type string
		VNI  vxlan.VNI `json:",omitempty"`
		Port uint16    `json:",omitempty"`
	}
	b, err := json.Marshal(struct {
		Network     netip.Prefix
		SubnetLen   int
		EnableIPv6  bool         `json:",omitempty"`
		IPv6Network netip.Prefix `json:",omitzero"`
		Backend     backend
	}{o.Network, o.SubnetLen, o.IPv6Network.IsValid(), o.IPv6Network, backend{"vxlan", o.VNI, o.Port}})
	if err != nil {
		panic("lab: network config: " + err.Error()) // only invalid types can fail
	}
	return string(b)
}
