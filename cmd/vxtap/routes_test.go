// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/time/rate"

	"vxtap/lease"
	"vxtap/tunnel/host"
)

// With DirectRouting what a peer sends may come another way than the answers go.
func TestStrictReversePathFilterIsNamed(t *testing.T) {
	const all, tap, eth0 = "net/ipv4/conf/all/rp_filter", "net/ipv4/conf/flannel.1/rp_filter", "net/ipv4/conf/eth0/rp_filter"
	tests := []struct {
		name    string
		direct  bool
		sysctls map[string]string
		want    []string // what the warnings set
	}{
		{"off", true, map[string]string{all: "0", tap: "0", eth0: "0"}, nil},
		{"strict for all", true, map[string]string{all: "1", tap: "0", eth0: "0"}, []string{tap + "=2", eth0 + "=2"}},
		{"strict for one", true, map[string]string{all: "0", tap: "1", eth0: "0"}, []string{tap + "=2"}},
		{"strict for all but one", true, map[string]string{all: "1", tap: "1", eth0: "2"}, []string{tap + "=2"}},
		{"loose for all", true, map[string]string{all: "2", tap: "1", eth0: "1"}, nil},
		{"another system", true, nil, nil},
		{"without DirectRouting", false, map[string]string{all: "1"}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := &side{
				segment: &segment{d: homeOn("eth0"), config: lease.Config{Network: netip.MustParsePrefix("10.5.0.0/16"), Backend: lease.Backend{DirectRouting: tt.direct}}},
				device:  "flannel.1",
			}
			var got []string
			for _, w := range s.routeWarnings(sysctlsIn(t, tt.sysctls)) {
				got = append(got, w[strings.LastIndex(w, " ")+1:])
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// Whoever sets a thousand routes does not get a thousand warnings.
func TestForeignRoutesAreNamed(t *testing.T) {
	s := &side{segment: &segment{d: &daemon{}}}
	if got := s.routeWarnings(t.TempDir()); len(got) != 0 {
		t.Errorf("before the first look: %q", got)
	}
	s.routes.report.Store(&host.RouteReport{Notes: []string{"1", "2", "3", "4", "5", "6", "7"}})
	want := []string{"1", "2", "3", "4", "5", "somebody else's routes lead to 2 peers more"}
	if got := s.routeWarnings(t.TempDir()); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestFirstOf(t *testing.T) {
	for want, all := range map[string][]string{
		"":                         nil,
		"a, b":                     {"a", "b"},
		"a, b, c, d, e":            {"a", "b", "c", "d", "e"},
		"a, b, c, d, e and 2 more": {"a", "b", "c", "d", "e", "f", "g"},
	} {
		if got := firstOf(all); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// What one look fails by is tried again soon, whichever look it is, and changes
// nothing of what is known.
func TestFailedLookAtRoutes(t *testing.T) {
	fails := errors.New("no buffer space available")
	direct := host.RouteReport{Direct: map[netip.Prefix]bool{netip.MustParsePrefix("10.5.3.0/24"): true}}
	for _, tt := range []struct {
		name         string
		update, sync bool // fail, the second time
	}{
		{name: "peers changed", update: true},
		{name: "the host changed", sync: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var log bytes.Buffer
				s := &side{segment: &segment{d: &daemon{}}, log: slog.New(slog.NewTextHandler(&log, nil)), routes: newRoutesState()}
				var updates, syncs atomic.Int32
				w := &routeWatch{side: s, say: rate.NewLimiter(rate.Inf, 1)}
				w.update = func(host.RoutePlan) (host.RouteReport, error) {
					if n := updates.Add(1); tt.update && n == 2 {
						return host.RouteReport{}, fails
					}
					return direct, nil
				}
				w.sync = func(host.RoutePlan) (host.RouteReport, error) {
					if n := syncs.Add(1); tt.sync && n == 1 {
						return host.RouteReport{}, fails
					}
					return direct, nil
				}
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				go w.run(ctx)
				poke(s.routes.peersNews)
				synctest.Wait()
				if tt.update {
					poke(s.routes.peersNews)
				} else {
					poke(s.routes.hostNews)
				}
				synctest.Wait()
				if !s.isDirect(netip.MustParsePrefix("10.5.3.0/24")) {
					t.Error("the routes that were there are taken for gone")
				}
				before := syncs.Load()
				time.Sleep(time.Second)
				synctest.Wait()
				if syncs.Load() == before {
					t.Error("not tried again within a second")
				}
				if strings.Contains(log.String(), "not reached directly any more") {
					t.Errorf("the log says what is not so:\n%s", &log)
				}
			})
		})
	}
}

// homeOn returns a daemon whose tunnel an interface carries.
func homeOn(name string) *daemon {
	d := &daemon{}
	d.home.Store(&home{uplink: host.Uplink{Name: name}})
	return d
}
