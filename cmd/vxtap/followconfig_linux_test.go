// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"
	"testing"
)

// The kind of rules changes with the config, and at no moment is there neither:
// what containers send out would leave with an address that nobody can answer.
func TestKindOfRulesChangesWithoutAGap(t *testing.T) {
	needTools(t, "nft", "iptables")
	h, p := newRunningHost(t, netConfig, "-ip-masq")
	const ofNFT, ofIPTables = "nft list table ip flannel-ipv4", "iptables-save -t nat"
	// has asks again where the program was disturbed: while a table changes that it
	// reads, it may see nothing of all.
	has := func(what string) bool {
		for range 20 {
			got := h.shell(what + " 2>&1; true")
			switch {
			case strings.Contains(strings.ToLower(got), "masquerade"):
				return true
			case strings.Contains(got, "No such file or directory"), strings.Contains(got, "# Completed"):
				return false
			}
		}
		t.Fatalf("%s says neither", what)
		return false
	}
	if !has(ofIPTables) || has(ofNFT) {
		t.Fatal("the rules are not iptables' at the start")
	}
	for i, change := range []struct{ name, config, old, next string }{
		{"to nftables", nftConfig, ofIPTables, ofNFT},
		{"back to iptables", netConfig, ofNFT, ofIPTables},
	} {
		h.etcdctl("put", "/coreos.com/network/config", change.config)
		h.eventually(change.name, func() error {
			// In this order: what replaces the old has to be there when that is gone.
			old, next := has(change.old), has(change.next)
			if !old && !next {
				t.Errorf("%s: there were rules of neither kind", change.name)
			}
			said := strings.Count(p.printed(), "rules are of another kind now")
			if old || !next || said != i+1 {
				return fmt.Errorf("old rules %v, new ones %v, said %d times", old, next, said)
			}
			return p.died()
		})
	}
	p.stop(h)
	h.nothingLeft()
}

// What the device is made of stays until the daemon is started again, and then is
// as the config says.
func TestDaemonFollowsWhatItCan(t *testing.T) {
	h, p := newRunningHost(t, netConfig)
	index := h.tapIndex()
	h.etcdctl("put", "/coreos.com/network/config", `{"Network": "10.5.0.0/16", "Backend": {"Type": "vxlan", "MTU": 1400, "VNI": 7}}`)
	h.eventually("the MTU is followed, the VNI waits", func() error {
		i, err := h.ns.Interface(hostDevice)
		if s := h.status(); err != nil || i.MTU != 1350 || s.MTU != 1350 || s.Config.State != configWaiting || len(s.Config.Waiting) != 1 || s.VNI != 1 {
			return fmt.Errorf("got %+v, %w, status %+v", i, err, s.Config)
		}
		return p.died()
	})
	if h.tapIndex() != index {
		t.Error("the device is another one")
	}
	metrics, err := h.get(healthURL + "/metrics")
	if err != nil || strings.Contains(metrics, "\nvxtap_warnings 0\n") {
		t.Errorf("vxtap_warnings is 0, %v", err)
	}
	_, table, _ := runVxtap(t, nil, "status", "-run-dir="+h.run)
	if !strings.Contains(table, "Backend.VNI is 7 in etcd, and this host still goes by 1: restart vxtap") {
		t.Errorf("got\n%s", table)
	}
	// The file of what was last known has the config in use.
	p.stop(h)
	h.nothingLeft()
	again := h.daemon(nil)
	h.ready(again)
	if s := h.status(); s.VNI != 7 || s.MTU != 1350 || s.Config.State == configWaiting {
		t.Errorf("after a restart: VNI %d, MTU %d, %+v", s.VNI, s.MTU, s.Config)
	}
	if strings.Contains(again.printed(), "of no use") {
		t.Error("what was remembered was of no use")
	}
	again.stop(h)
}
