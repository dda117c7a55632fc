// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Two networks on one host are two daemons, each with a prefix, a VNI, a port, a
// subnet file and a run directory of its own, as two flannelds have them.
func TestTwoNetworksOnOneHost(t *testing.T) {
	h := newTestHost(t)
	h.startEtcd(netConfig)
	h.etcdctl("put", "/second/config", `{"Network":"10.6.0.0/16","Backend":{"Type":"vxlan","VNI":2,"Port":8473}}`)
	first := h.daemon(nil)
	h.ready(first)
	dir := filepath.Join(filepath.Dir(h.run), "second")
	second := h.daemon(nil, "-etcd-prefix=/second", "-run-dir="+dir, "-subnet-file="+dir+".env", "-healthz-port=0")
	h.eventually("both forward", func() error {
		_, err := askDaemon(t.Context(), dir, "")
		if err == nil {
			_, err = os.Stat(dir + ".env")
		}
		if died := second.died(); died != nil {
			return died
		}
		return err
	})
	one := h.status()
	two, err := askDaemon(t.Context(), dir, "")
	if err != nil {
		t.Fatal(err)
	}
	if one.Device != "flannel.1" || two.Device != "flannel.2" || !strings.HasPrefix(two.Subnet.String(), "10.6.") {
		t.Errorf("got %s with %s and %s with %s", one.Device, one.Subnet, two.Device, two.Subnet)
	}
	routes := h.shell("ip route show")
	for _, want := range []string{"10.5.0.0/16 via ", "10.6.0.0/16 via "} {
		if !strings.Contains(routes, want) {
			t.Errorf("there is no route %q:\n%s", want, routes)
		}
	}
	second.stop(h)
	if s := h.status(); s.State != string(phaseReady) {
		t.Errorf("got %s when the other one ended, want ready", s.State)
	}
	first.stop(h)
}
