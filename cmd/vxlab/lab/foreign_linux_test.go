// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"errors"
	"strings"
	"testing"
)

// With an etcd of somebody else's a lab is an underlay that hosts join.
func TestALabWithoutAnEtcd(t *testing.T) {
	o := options(t, "foreign", 0)
	o.EtcdURLs = "https://192.168.77.11:2379,https://192.168.77.12:2379"
	l := up(t, o)
	if l.EtcdRunning() || l.EtcdURL() != o.EtcdURLs || len(l.Hosts()) != 0 {
		t.Errorf("got etcd %v at %s, hosts %v", l.EtcdRunning(), l.EtcdURL(), l.Hosts())
	}
	for name, err := range map[string]error{"stop": l.StopEtcd(t.Context()), "start": l.StartEtcd(t.Context())} {
		if !errors.Is(err, errForeignEtcd) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	h, err := l.JoinBare(t.Context())
	if err != nil || h.VTEP.String() != "192.168.77.11" {
		t.Errorf("got %+v, %v", h, err)
	}
	again, err := Load(o.Name)
	if err != nil {
		t.Fatal(err)
	}
	if err := again.StopEtcd(t.Context()); !errors.Is(err, errForeignEtcd) {
		t.Errorf("loaded: got %v", err)
	}
	if got := (Options{EtcdURLs: "http://x", Hosts: 3, Vxtap: "x"}).withDefaults(); got.Hosts != 0 || !strings.HasPrefix(got.etcdURL(), "http://x") {
		t.Errorf("got %+v", got)
	}
}
