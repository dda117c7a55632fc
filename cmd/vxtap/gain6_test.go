// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"vxtap/lease"
	"vxtap/lease/leasetest"
	"vxtap/tunnel/host"
)

const gainConfig = `{"EnableIPv6": true, "Network": "10.5.0.0/16", "IPv6Network": "fd00:5::/48", "IPv6SubnetLen": 64%s, "Backend": {"Type": "vxlan"}}`

func TestWhenAFirstIPv6AddressIsTaken(t *testing.T) {
	global := netip.MustParseAddr("2001:db8::1")
	for _, tt := range []struct {
		name    string
		up      host.Uplink
		addr    netip.Addr
		config  string
		refused netip.Addr
		want    bool
	}{
		{"there is none", eth0, netip.Addr{}, gainConfig, netip.Addr{}, false},
		{"a global one", eth0, global, gainConfig, netip.Addr{}, true},
		{"a link-local one, which is there first", eth0, netip.MustParseAddr("fe80::1"), gainConfig, netip.Addr{}, false},
		{"inside the overlay", eth0, netip.MustParseAddr("fd00:5::7"), gainConfig, netip.Addr{}, false},
		{"of another interface", tun0, global, gainConfig, netip.Addr{}, false},
		{"in a network of IPv4", eth0, global, netConfig, netip.Addr{}, false},
		{"one that no segment could be opened with", eth0, global, gainConfig, global, false},
		{"another than that", eth0, global, gainConfig, netip.MustParseAddr("2001:db8::2"), true},
		{"on a link too small for IPv6", host.Uplink{Name: "eth0", Index: 2, MTU: 1349, Addr: eth0.Addr}, global, gainConfig, netip.Addr{}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m, f := newMover(t, "")
			config, err := lease.ParseConfig([]byte(strings.Replace(tt.config, "%s", "", 1)))
			if err != nil {
				t.Fatal(err)
			}
			m.config = config
			m.live = newLive()
			m.ipv4.mtu.Store(int32(m.ipv4.wantedMTU()))
			m.follow = func(home, host.Uplink) error { return errors.New("it is there") }
			if tt.refused.IsValid() {
				m.d.refused6.Store(&refused6{addr: tt.refused})
			}
			at := tt.up
			if tt.up == tun0 {
				at = eth0
			}
			m.d.home.Store(m.d.homeAt(at))
			m.ipv4.mtu.Store(int32(m.ipv4.wantedMTU()))
			f.mine, f.now = at, tt.up
			f.now.Addr6 = tt.addr

			now := m.walk(time.Unix(1000, 0), settleFor/2)
			if m.gains.Load() != nil {
				t.Error("taken before it has settled")
			}
			now = m.walk(now, 2*settleFor)
			got := m.gains.Swap(nil)
			if (got != nil) != tt.want || got != nil && *got != tt.addr {
				t.Fatalf("got %v, want %v taken: %v", got, tt.addr, tt.want)
			}
			now = m.walk(now, gainEvery/2)
			if m.gains.Load() != nil {
				t.Error("tried again at once")
			}
			m.walk(now, gainEvery)
			if got := m.gains.Load(); (got != nil) != tt.want {
				t.Errorf("tried again: %v, want %v", got != nil, tt.want)
			}
		})
	}
}

// The lease gets its IPv6 half under the same IPv4 subnet, and the host starts
// afresh; where there is no IPv6 subnet it goes on with what it has.
func TestHoldGainsIPv6(t *testing.T) {
	const others = `{"PublicIP":"192.0.2.%d","PublicIPv6":"2001:db8::%d","BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"02:00:00:00:00:%02d"},"BackendV6Data":{"VNI":1,"VtepMAC":"02:00:00:00:06:%02d"}}`
	for _, tt := range []struct {
		name   string
		bounds string
		full   bool
	}{
		{"there is room", "", false},
		{"there is none", `, "IPv6SubnetMin": "fd00:5:0:1::", "IPv6SubnetMax": "fd00:5:0:1::"`, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, store *leasetest.Store, log *bytes.Buffer) {
				s := knowing(t, store, log, fmt.Sprintf(gainConfig, tt.bounds))
				s.live = newLive()
				s.d.home.Store(s.d.homeAt(eth0))
				own, addr := *s.own.Load(), netip.MustParseAddr("2001:db8::1")
				if tt.full {
					store.Force("subnets/10.5.80.0-24&fd00:5:0:1::-64", fmt.Sprintf(others, 9, 9, 9, 9), 0)
				}
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan error, 1)
				go func() { done <- s.hold(ctx) }()
				time.Sleep(time.Minute)
				s.gains.Store(&addr)
				poke(s.moved)
				time.Sleep(time.Minute)
				synctest.Wait()
				if tt.full {
					time.Sleep(48 * time.Hour) // it is renewed all the same
					if st := s.own.Load(); s.lost.Load() || st.Key != own.Key || !strings.Contains(log.String(), "gets no IPv6 subnet") {
						t.Errorf("lost %v, the log says\n%s", s.lost.Load(), log)
					}
					if p, ok := leasetest.Get(t, store, own.Key); !ok {
						t.Errorf("the lease is gone, the key has %+v", p)
					}
					cancel()
				}
				defer cancel()
				moved, ok := errors.AsType[*movedError](<-done)
				if ok == tt.full {
					t.Fatalf("got %+v", moved)
				}
				if tt.full {
					return
				}
				if !moved.gains || moved.made.Key != "" || s.d.at().vtep6 != addr {
					t.Errorf("got %+v at %+v, want one that gains and owns what it has", moved.place, s.d.at())
				}
				now, held, err := s.d.registry.Own(t.Context(), s.d.at().vtep)
				if err != nil || !held || now.Subnet != own.Subnet || !now.IPv6Subnet.IsValid() || now.Attrs.PublicIPv6 != addr || now.Attrs.MAC != own.Attrs.MAC {
					t.Errorf("holds %+v, %v, %v; had %+v", now, held, err, own)
				}
			})
		})
	}
}

// That somebody announces an IPv6 address must not end a host that it does not work on.
func TestIPv6AddressThatCannotBeUsed(t *testing.T) {
	m, f := newMover(t, "")
	at := eth0
	at.Addr6 = netip.MustParseAddr("2001:db8::1")
	m.d.home.Store(m.d.homeAt(at))
	moved, ok := errors.AsType[*movedError](m.d.withoutGain(place{gains: true}, errors.New("no such device")))
	if !ok || moved.gains || m.d.at().uplink.Addr6.IsValid() || m.d.at().vtep6.IsValid() {
		t.Errorf("got %+v at %+v, want IPv4 alone", moved, m.d.at())
	}
	if why := m.d.withoutIPv6(m.config.Backend); !strings.Contains(why, "2001:db8::1 of the interface cannot be used: no such device") {
		t.Errorf("status says %q", why)
	}
	m.noIPv6 = m.d.withoutIPv6(m.config.Backend)
	if got := m.notices(); len(got) != 1 || got[0] != m.noIPv6 {
		t.Errorf("got the notices %q, want %q", got, m.noIPv6)
	}
	if n := strings.Count(f.log.String(), "level=ERROR"); n != 1 {
		t.Errorf("said %d times:\n%s", n, &f.log)
	}
}
