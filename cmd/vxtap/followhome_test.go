// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"vxtap/lease"
	"vxtap/tunnel/host"
)

// fakeHome is a host that the tests move about.
type fakeHome struct {
	mu sync.Mutex // where a daemon looks while the test changes it

	now     host.Uplink // what the flags choose; zero: nothing
	mine    host.Uplink // that has the tunnel's address; zero: none
	mineUp  bool
	refuses error // what following comes to
	log     bytes.Buffer
	went    []netip.Addr
	tried   netip.Addr // that a part of the tunnel is at, since following it failed
}

var (
	eth0 = host.Uplink{Name: "eth0", Index: 2, MTU: 1500, Addr: netip.MustParseAddr("192.0.2.1")}
	eth1 = host.Uplink{Name: "eth1", Index: 3, MTU: 1500, Addr: netip.MustParseAddr("192.0.2.9")}
	tun0 = host.Uplink{Name: "tun0", Index: 9, MTU: 1400, Addr: netip.MustParseAddr("198.51.100.7")}
)

func newMover(t *testing.T, publicIP string) (*mover, *fakeHome) {
	t.Helper()
	f := &fakeHome{now: eth0, mine: eth0, mineUp: true}
	config, err := lease.ParseConfig([]byte(netConfig))
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.NewTextHandler(&f.log, nil))
	d := &daemon{log: log}
	if publicIP != "" {
		d.publicIP = netip.MustParseAddr(publicIP)
	}
	d.home.Store(d.homeAt(eth0))
	s := &segment{d: d, log: log, config: config}
	s.ipv4 = s.addSide(ipv4, "flannel.1")
	s.ipv4.mtu.Store(1450)
	m := &mover{segment: s}
	m.find = func(c host.Choice) (host.Uplink, error) {
		up := f.now
		if len(c.Names) > 0 && c.Names[0] != f.now.Name {
			up = f.mine
		}
		if up == (host.Uplink{}) {
			return up, errors.New("no interface")
		}
		return up, nil
	}
	m.isUp = func(string) bool { return f.mineUp }
	m.follow = func(_ home, up host.Uplink) error {
		if f.tried = up.Addr; f.refuses != nil {
			return f.refuses
		}
		f.went = append(f.went, up.Addr)
		d.home.Store(d.homeAt(up))
		f.mine = up
		return nil
	}
	m.restore = func(at home) error {
		f.tried = at.uplink.Addr
		return nil
	}
	return m, f
}

// walk looks as followHome does, for so long, and returns when it went where.
func (m *mover) walk(from time.Time, long time.Duration) time.Time {
	now := from
	for now.Sub(from) < long {
		now = now.Add(max(m.look(now), lookAtMost))
	}
	return now
}

func TestWhenAHostIsFollowed(t *testing.T) {
	gone := host.Uplink{}
	for _, tt := range []struct {
		name     string
		publicIP string
		happens  func(f *fakeHome)
		went     []netip.Addr
		warns    string
		back     func(f *fakeHome)
	}{
		{name: "nothing happens", happens: func(*fakeHome) {}},
		{name: "another address in place of it", happens: func(f *fakeHome) { f.now, f.mine = eth1, gone }, went: []netip.Addr{eth1.Addr}},
		{name: "another way out, and the address stays", happens: func(f *fakeHome) { f.now = tun0 }},
		{name: "another way out, and the link of the address is down", happens: func(f *fakeHome) { f.now, f.mineUp = eth1, false }, went: []netip.Addr{eth1.Addr}},
		{name: "the flags name nothing any more, and the address stays", happens: func(f *fakeHome) { f.now = gone }},
		{
			name: "gone, and back", happens: func(f *fakeHome) { f.now, f.mine = gone, gone }, warns: "the tunnel's address 192.0.2.1 is gone",
			back: func(f *fakeHome) { f.now, f.mine = eth0, eth0 },
		},
		{name: "a public IP that was on the interface", publicIP: "192.0.2.1", happens: func(f *fakeHome) { f.now, f.mine = eth1, gone }, warns: "-public-ip=192.0.2.1 is on no interface any more"},
		{name: "a public IP of a NAT", publicIP: "203.0.113.5", happens: func(f *fakeHome) { f.now, f.mine = eth1, gone }, went: []netip.Addr{eth1.Addr}},
		{
			name: "an address inside the overlay", warns: "inside the overlay's Network", happens: func(f *fakeHome) {
				f.now, f.mine = host.Uplink{Name: "cni0", MTU: 1450, Addr: netip.MustParseAddr("10.5.7.1")}, gone
			},
		},
		{
			name: "somebody has the port there", warns: "address already in use",
			happens: func(f *fakeHome) { f.now, f.mine, f.refuses = eth1, gone, errors.New("address already in use") },
			back:    func(f *fakeHome) { f.refuses = nil }, went: []netip.Addr{eth1.Addr},
		},
		{
			name: "somebody has the port there, and the address comes back", warns: "address already in use",
			happens: func(f *fakeHome) { f.now, f.mine, f.refuses = eth1, gone, errors.New("address already in use") },
			back:    func(f *fakeHome) { f.now, f.mine = eth0, eth0 },
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m, f := newMover(t, tt.publicIP)
			now := m.walk(time.Unix(1000, 0), time.Minute)
			tt.happens(f)
			now = m.walk(now, time.Minute)
			notices := strings.Join(m.notices(), " ")
			if (tt.warns != "") != (notices != "") || !strings.Contains(notices, tt.warns) {
				t.Errorf("status warns %q, want %q", notices, tt.warns)
			}
			if n := strings.Count(f.log.String(), "level=ERROR"); (tt.warns != "") != (n == 1) {
				t.Errorf("the log says it %d times:\n%s", n, &f.log)
			}
			if tt.back != nil {
				tt.back(f)
				m.walk(now, time.Minute)
				if m.notices() != nil || !strings.Contains(f.log.String(), "has an address again") {
					t.Errorf("after it is mended: %q\n%s", m.notices(), &f.log)
				}
			}
			if len(f.went) != len(tt.went) || len(tt.went) > 0 && f.went[0] != tt.went[0] {
				t.Errorf("went to %v, want %v", f.went, tt.went)
			}
			want := eth0.Addr
			switch {
			case tt.publicIP != "":
				want = netip.MustParseAddr(tt.publicIP)
			case len(tt.went) > 0:
				want = tt.went[0]
			}
			if got := m.d.at().vtep; got != want {
				t.Errorf("published %s, want %s", got, want)
			}
			if at := m.d.at().uplink.Addr; tt.back != nil && f.tried != at {
				t.Errorf("a part of the tunnel is at %s, the rest at %s", f.tried, at)
			}
		})
	}
}

// A DHCP client that renews may take the address away for a moment, and bring
// another before it: half a second is no reason to move, a second is.
func TestAddressThatFlaps(t *testing.T) {
	m, f := newMover(t, "")
	now := time.Unix(1000, 0)
	for range 100 {
		f.now, f.mine = eth1, host.Uplink{}
		now = m.walk(now, settleFor/2)
		f.now, f.mine = eth0, eth0
		now = m.walk(now, time.Second)
	}
	if len(f.went) > 0 || f.log.Len() > 0 {
		t.Errorf("went to %v\n%s", f.went, &f.log)
	}
	f.now, f.mine = eth1, host.Uplink{}
	m.walk(now, settleFor+2*lookAtMost)
	if len(f.went) != 1 {
		t.Errorf("went to %v after %s", f.went, settleFor)
	}
}

// The address is kept, and what else the interface is changes.
func TestInterfaceThatChanges(t *testing.T) {
	m, f := newMover(t, "")
	other := host.Uplink{Name: "bond0", Index: 12, MTU: 1500, Addr: eth0.Addr}
	f.now, f.mine = other, other
	m.walk(time.Unix(1000, 0), time.Second)
	if got := m.d.at().uplink; got != other || len(f.went) > 0 {
		t.Errorf("goes by %+v, went to %v", got, f.went)
	}
	if !strings.Contains(f.log.String(), "interface=bond0 before=eth0") {
		t.Errorf("the log does not say it:\n%s", &f.log)
	}
}
