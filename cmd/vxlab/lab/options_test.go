// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"vxtap/lease"
)

func TestTheZeroOptionsAreTheDocumentedLab(t *testing.T) {
	o := Options{}.withDefaults()
	if err := o.check(); err != nil {
		t.Fatal(err)
	}
	if got, want := o.networkConfig(), `{"Network":"172.30.0.0/16","SubnetLen":24,"Backend":{"Type":"vxlan"}}`; got != want {
		t.Errorf("config: got %s, want %s", got, want)
	}
	if got, want := o.gateway().String()+" "+o.vtep(1).String()+" "+o.vtep(244).String(), "192.168.77.1 192.168.77.11 192.168.77.254"; got != want {
		t.Errorf("addresses: got %s, want %s", got, want)
	}
	if o.maxHosts() != 244 || o.device() != "flannel.1" || o.etcdURL() != "http://192.168.77.1:2379" {
		t.Errorf("got %d hosts, device %s, etcd %s", o.maxHosts(), o.device(), o.etcdURL())
	}
}

func TestTheNetworkConfigIsOneThatVxtapTakes(t *testing.T) {
	o := Options{VNI: 77, Port: 4789, Network: netip.MustParsePrefix("10.0.0.0/8"), SubnetLen: 20}.withDefaults()
	c, err := lease.ParseConfig([]byte(o.networkConfig()))
	if err != nil || c.Backend.VNI != 77 || c.Backend.Port != 4789 || c.Network != o.Network || c.SubnetLen != 20 {
		t.Errorf("got %+v, %v", c, err)
	}
}

func TestOptionsThatMakeNoLab(t *testing.T) {
	prefix := netip.MustParsePrefix
	for _, tt := range []struct {
		name string
		o    Options
		want string
	}{
		{"a name with a slash", Options{Name: "a/b"}, "name of a lab"},
		{"more hosts than addresses", Options{Hosts: 245}, "room for 1 to 244"},
		{"negative hosts", Options{Hosts: -1}, "room for"},
		{"an underlay without room", Options{Underlay: prefix("10.0.0.0/29")}, "room for 1 to 0"},
		{"no hosts' worth of MTU", Options{MTU: 575}, "underlay MTU 575"},
		{"an MTU beyond IP", Options{MTU: 70000}, "underlay MTU 70000"},
		{"host bits", Options{Network: prefix("172.30.1.0/16")}, "host bits"},
		{"overlap", Options{Network: prefix("192.168.0.0/16")}, "overlap"},
		{"IPv6", Options{Network: prefix("fd00::/48")}, "must be IPv4"},
		{"a subnet larger than the network", Options{SubnetLen: 12}, "subnet length 12"},
		{"a subnet without hosts", Options{SubnetLen: 31}, "subnet length 31"},
		{"a VNI of 25 bits", Options{VNI: 1 << 24}, "24 bits"},
		{"no daemon", Options{}, "no path of a vxtap"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := tt.o.Validate(); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func TestAFileThatCannotRunIsNoDaemon(t *testing.T) {
	path := filepath.Join(t.TempDir(), "vxtap")
	if err := checkProgram(path); err == nil || !strings.Contains(err.Error(), "make build") {
		t.Errorf("nothing there: got %v, want what to do", err)
	}
	if err := checkProgram(filepath.Dir(path)); err == nil {
		t.Error("a directory: got nil, want an error")
	}
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := checkProgram(path); err == nil {
		t.Error("got nil, want an error")
	}
	if err := os.Chmod(path, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := checkProgram(path); err != nil {
		t.Error(err)
	}
}
