// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"vxtap/lease"
	"vxtap/lease/leasetest"
)

// What is in etcd and what the host goes by may differ: status says how, the log
// says it once, and what is on the disk is what the host goes by.
func TestHearConfig(t *testing.T) {
	const (
		usual  = leasetest.Config
		nft    = `{"Network": "10.5.0.0/16", "EnableNFTables": true, "Backend": {"Type": "vxlan"}}`
		vni    = `{"Network": "10.5.0.0/16", "EnableNFTables": true, "Backend": {"Type": "vxlan", "VNI": 7}}`
		narrow = `{"Network": "10.5.0.0/16", "SubnetLen": 25, "Backend": {"Type": "vxlan"}}`
	)
	for _, tt := range []struct {
		name   string
		values []string // "": deleted
		state  string
		nft    bool
		waits  string
		warns  string
		onDisk string
	}{
		{"as it was", []string{usual}, configInUse, false, "", "", usual},
		{"what can be followed", []string{nft}, configInUse, true, "", "", nft},
		{"what waits, and what can be followed", []string{vni}, configWaiting, true, "Backend.VNI 1 7",
			"network config: Backend.VNI is 7 in etcd, and this host still goes by 1: restart vxtap to follow", usual},
		{"what waits, taken back", []string{vni, usual}, configInUse, false, "", "", usual},
		{"a lease that no longer fits", []string{narrow}, configWaiting, false, "SubnetLen 24 25", "SubnetLen is 25 in etcd", usual},
		{"broken", []string{"{"}, configBroken, false, "", "none that a host starts with", usual},
		{"hostile", []string{"{\x1b[2J\n"}, configBroken, false, "", "none that a host starts with", usual},
		{"deleted", []string{""}, configMissing, false, "", "gone from etcd", usual},
		{"deleted while something waits", []string{vni, ""}, configMissing, true, "", "gone from etcd", usual},
		{"broken, and mended", []string{"{", nft}, configInUse, true, "", "", nft},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, store *leasetest.Store, log *bytes.Buffer) {
				s := knowing(t, store, log, usual)
				fresh := s.fresh
				s.live, s.fresh = newLive(), fresh
				s.d.home.Store(&home{uplink: eth0, vtep: s.d.at().vtep})
				s.ipv4.mtu.Store(1450)
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan error, 1)
				go func() { done <- s.d.registry.WatchConfig(ctx, s.hearConfig) }()
				time.Sleep(time.Minute)
				for _, v := range tt.values {
					if v == "" {
						store.Forget("config")
					} else {
						store.Force("config", v, 0)
					}
					time.Sleep(6 * time.Minute) // found by the next look, if not by the watch
				}
				synctest.Wait()
				st := configStatus(s.notice.Load())
				var waits []string
				for _, w := range st.Waiting {
					waits = append(waits, w.Setting+" "+w.InUse+" "+w.Stored)
				}
				if st.State != tt.state || s.current().EnableNFTables != tt.nft || !strings.HasPrefix(strings.Join(waits, ", "), tt.waits) || (tt.waits == "") != (len(waits) == 0) {
					t.Errorf("got %+v, nftables %v, want %s, %v, %q", st, s.current().EnableNFTables, tt.state, tt.nft, tt.waits)
				}
				warns := strings.Join(s.notices(), "\n")
				if !strings.Contains(warns, tt.warns) || (tt.warns == "") != (warns == "") || strings.ContainsAny(st.Reason, "\x1b\n") {
					t.Errorf("got warnings %q, want %q", warns, tt.warns)
				}
				if said := strings.Count(log.String(), "level=WARN") + strings.Count(log.String(), "level=ERROR"); said > len(tt.values)+len(waits) {
					t.Errorf("said too often:\n%s", log)
				}
				if w := (&rememberer{segment: s}); !w.write() {
					t.Error("nothing is remembered")
				}
				if m := onlyThis(t, s); string(m.ConfigValue) != compact(tt.onDisk) {
					t.Errorf("on the disk is %s, want %s", m.ConfigValue, tt.onDisk)
				}
				cancel()
				if err := <-done; err != nil {
					t.Errorf("the watch ended with %v", err)
				}
			})
		})
	}
}

// A config that comes while confirm goes by the one before is heard all the same.
func TestConfigThatComesWhileConfirming(t *testing.T) {
	inBubble(t, func(t *testing.T, store *leasetest.Store, log *bytes.Buffer) {
		s := knowing(t, store, log, leasetest.Config)
		s.known, s.live = s.knows(), newLive()
		s.d.home.Store(s.d.homeAt(eth0))
		s.ipv4.mtu.Store(1450)
		const later = `{"Network": "10.5.0.0/16", "EnableNFTables": true, "Backend": {"Type": "vxlan", "VNI": 7}}`
		config, err := lease.ParseConfig([]byte(later))
		if err != nil {
			t.Fatal(err)
		}
		store.Hook(func(c leasetest.Call) error {
			if c.Op == "KeepAlive" && c.Done { // the config has been read
				s.hearConfig(lease.ConfigNews{Config: config, Value: []byte(later), Revision: 99})
			}
			return nil
		})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		if err := s.confirm(ctx); err != nil || !s.confirmed.Load() {
			t.Fatalf("confirmed %v, %v", s.confirmed.Load(), err)
		}
		if st := configStatus(s.notice.Load()); st.State != configWaiting || !s.current().EnableNFTables {
			t.Errorf("got %+v, nftables %v, want what waits and what is followed", st, s.current().EnableNFTables)
		}
	})
}

// compact is how JSON in JSON is written.
func compact(s string) string { return strings.ReplaceAll(s, " ", "") }
