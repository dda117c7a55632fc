// SPDX-License-Identifier: Apache-2.0

package lease_test

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"vxtap/lease"
	"vxtap/lease/leasetest"
)

const (
	configA = `{"Network": "10.5.0.0/16", "Backend": {"Type": "vxlan"}}`
	configB = `{"Network": "10.5.0.0/16", "Backend": {"Type": "vxlan", "MTU": 1400}}`
)

// heard is what a WatchConfig has published.
type heard struct {
	mu  sync.Mutex
	all []lease.ConfigNews
}

// watchConfig runs r.WatchConfig until the test ends.
func watchConfig(t *testing.T, r *lease.Registry) *heard {
	t.Helper()
	h := &heard{}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		_ = r.WatchConfig(ctx, func(n lease.ConfigNews) {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.all = append(h.all, n)
		})
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
	return h
}

// want compares all that was heard: "A", "B", "broken" or "missing" each.
func (h *heard) want(t *testing.T, what string, want ...string) {
	t.Helper()
	synctest.Wait()
	h.mu.Lock()
	defer h.mu.Unlock()
	var got []string
	for _, n := range h.all {
		switch {
		case n.Missing:
			got = append(got, "missing")
		case n.Err != nil:
			got = append(got, "broken")
		case n.Config.Backend.MTU == 1400 && string(n.Value) == configB:
			got = append(got, "B")
		default:
			got = append(got, "A")
		}
	}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("%s: heard %v, want %v", what, got, want)
	}
}

func TestWatchConfigTellsOfValues(t *testing.T) {
	bubble(t, func(t *testing.T, s *leasetest.Store) {
		s.Force("config", configA, 0)
		h := watchConfig(t, lease.New(s, lease.Options{}))
		pass(10 * time.Second)
		h.want(t, "at the start", "A")
		s.Force("config", configA, 0)
		s.Force("config-old", configB, 0)
		pass(10 * time.Second)
		h.want(t, "the same value, and another key", "A")
		s.Force("config", configB, 0)
		h.want(t, "another value, at once", "A", "B")
		pass(10 * time.Second)
		s.Force("config", "{", 0)
		pass(10 * time.Second)
		s.Forget("config")
		pass(10 * time.Minute)
		s.Force("config", configB, 0)
		pass(10 * time.Second)
		h.want(t, "broken, forgotten, mended", "A", "B", "broken", "missing", "B")
	})
}

// Who may write to the store must not keep every host busy.
func TestWatchConfigIsBounded(t *testing.T) {
	bubble(t, func(t *testing.T, s *leasetest.Store) {
		s.Force("config", configA, 0)
		h := watchConfig(t, lease.New(s, lease.Options{}))
		pass(10 * time.Second)
		for range 5000 {
			s.Force("config", configB, 0)
			s.Force("config", configA, 0)
			time.Sleep(time.Millisecond)
		}
		pass(10 * time.Second)
		if n := len(h.all); n > 7 {
			t.Errorf("told %d times in 5 s, want once a second", n)
		}
		if last := h.all[len(h.all)-1]; string(last.Value) != configA {
			t.Errorf("the last that was told is %s, want what there is", last.Value)
		}
	})
}

// Whatever befalls the watch, the value that there is at the end is told.
func TestWatchConfigFindsWhatItMissed(t *testing.T) {
	for _, tt := range []struct {
		name  string
		harm  func(s *leasetest.Store)
		after time.Duration
	}{
		{"cut off", func(s *leasetest.Store) {
			s.Disconnect()
			s.Force("config", configB, 0)
			time.Sleep(time.Hour)
			s.Connect()
		}, 3 * time.Second},
		{"cut off and compacted", func(s *leasetest.Store) {
			s.Disconnect()
			s.Force("config", "{", 0)
			s.Force("config", configB, 0)
			s.Compact()
			s.Connect()
		}, 3 * time.Second},
		{"no watch to be had", func(s *leasetest.Store) {
			s.Hook(func(c leasetest.Call) error {
				if c.Op == "Watch" {
					return errors.New("no streams through this proxy")
				}
				return nil
			})
			s.Disconnect()
			s.Connect()
			time.Sleep(time.Minute)
			s.Force("config", configB, 0)
		}, 3 * time.Second},
		{"restored from a backup", func(s *leasetest.Store) {
			for range 9 {
				s.Force("other", "x", 0)
			}
			time.Sleep(6 * time.Minute)
			s.Restore(1)
			s.Force("config", configB, 0)
		}, 12 * time.Minute},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, s *leasetest.Store) {
				s.Force("config", configA, 0)
				r := lease.New(s, lease.Options{})
				h := watchConfig(t, r)
				pass(time.Second)
				tt.harm(s)
				pass(tt.after)
				h.want(t, tt.name, "A", "B")
				if err := r.Alive(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

func TestWhatAHostFollows(t *testing.T) {
	const before = `{"Network": "10.5.0.0/16", "Backend": {"Type": "vxlan"}}`
	own := lease.Lease{Subnet: netip.MustParsePrefix("10.5.7.0/24")}
	for _, tt := range []struct {
		name, after string
		follows     string // settings
		waits       string
	}{
		{"nothing", before, "", ""},
		{"MTU, DirectRouting, nftables", `{"Network": "10.5.0.0/16", "EnableNFTables": true, "Backend": {"Type": "vxlan", "MTU": 1400, "DirectRouting": true}}`,
			"EnableNFTables Backend.MTU Backend.DirectRouting", ""},
		{"what the device is made of", `{"Network": "10.5.0.0/16", "Backend": {"Type": "vxlan", "VNI": 7, "Port": 4789, "GBP": true, "MTU": 1400}}`,
			"Backend.MTU", "Backend.VNI Backend.Port Backend.GBP"},
		{"bounds that the lease fits", `{"Network": "10.5.0.0/16", "SubnetMin": "10.5.7.0", "SubnetMax": "10.5.9.0", "Backend": {"Type": "vxlan"}}`,
			"SubnetMin SubnetMax", ""},
		{"bounds that it does not fit", `{"Network": "10.5.0.0/16", "SubnetMin": "10.5.8.0", "Backend": {"Type": "vxlan"}}`,
			"", "SubnetMin"},
		{"another length", `{"Network": "10.5.0.0/16", "SubnetLen": 25, "Backend": {"Type": "vxlan"}}`,
			"", "SubnetLen SubnetMin SubnetMax"},
		{"another network", `{"Network": "10.6.0.0/16", "Backend": {"Type": "vxlan", "MTU": 1400}}`,
			"Backend.MTU", "Network SubnetMin SubnetMax"},
		{"IPv6", `{"Network": "10.5.0.0/16", "EnableIPv6": true, "IPv6Network": "fd00::/48", "Backend": {"Type": "vxlan"}}`,
			"", "EnableIPv6"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			from, to := parseConfig(t, before), parseConfig(t, tt.after)
			next := from.Follow(to, own)
			if got := names(from.Changes(next)); got != tt.follows {
				t.Errorf("follows %q, want %q", got, tt.follows)
			}
			if got := names(from.Waits(to, own)); !strings.HasPrefix(got, tt.waits) || (tt.waits == "") != (got == "") {
				t.Errorf("waits for %q, want %q", got, tt.waits)
			}
			if got := next.Waits(to, own); names(got) != names(from.Waits(to, own)) {
				t.Errorf("following changed what waits: %v", got)
			}
		})
	}
}

// One change of one setting is one thing to say: that the settings of IPv6 come and
// go with it is part of it.
func TestIPv6ThatWaitsIsSaidOnce(t *testing.T) {
	const (
		four    = `{"Network": "10.5.0.0/16", "Backend": {"Type": "vxlan"}}`
		dual    = `{"Network": "10.5.0.0/16", "EnableIPv6": true, "IPv6Network": "fd00::/48", "Backend": {"Type": "vxlan"}}`
		dualVNI = `{"Network": "10.5.0.0/16", "EnableIPv6": true, "IPv6Network": "fd00::/48", "Backend": {"Type": "vxlan", "VNI": 7}}`
		other   = `{"Network": "10.5.0.0/16", "EnableIPv6": true, "IPv6Network": "fd01::/48", "Backend": {"Type": "vxlan"}}`
	)
	one := lease.Lease{Subnet: netip.MustParsePrefix("10.5.7.0/24")}
	both := lease.Lease{Subnet: one.Subnet, IPv6Subnet: netip.MustParsePrefix("fd00:0:0:7::/64")}
	for _, tt := range []struct {
		name, before, after string
		own                 lease.Lease
		want                string
	}{
		{"on", four, dual, one, "EnableIPv6"},
		{"off", dual, four, both, "EnableIPv6"},
		{"off, on a host without IPv6", dual, four, one, "EnableIPv6"},
		{"on, and something else", four, dualVNI, one, "EnableIPv6 Backend.VNI"},
		{"another network, which no setting stands for", dual, other, both, "IPv6Network IPv6SubnetMin IPv6SubnetMax"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			from, to := parseConfig(t, tt.before), parseConfig(t, tt.after)
			if got := names(from.Waits(to, tt.own)); got != tt.want {
				t.Errorf("waits for %q, want %q", got, tt.want)
			}
			if len(from.Fixed(to)) == 0 {
				t.Error("nothing is fixed, so that a host would go on with it")
			}
		})
	}
}

func names(changes []lease.Change) string {
	var all []string
	for _, c := range changes {
		all = append(all, c.Name)
	}
	return strings.Join(all, " ")
}

func parseConfig(t *testing.T, value string) lease.Config {
	t.Helper()
	c, err := lease.ParseConfig([]byte(value))
	if err != nil {
		t.Fatal(err)
	}
	return c
}
