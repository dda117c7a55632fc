// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"vxtap/lease"
	"vxtap/lease/leasetest"
	"vxtap/tunnel/host"
)

// waiting returns a daemon that has not had a segment, on a host that the test moves
// about.
func waiting(t *testing.T, s *segment, publicIP string) (*daemon, *fakeHome) {
	t.Helper()
	d := onDisk(t, s)
	f := &fakeHome{now: eth0, mine: eth0, mineUp: true}
	if publicIP != "" {
		d.publicIP = netip.MustParseAddr(publicIP)
	}
	d.home.Store(d.homeAt(eth0))
	d.find = func(c host.Choice) (host.Uplink, error) {
		f.mu.Lock()
		defer f.mu.Unlock()
		up := f.now
		if len(c.Names) > 0 {
			up = f.mine
		}
		if up == (host.Uplink{}) {
			return up, errors.New("no interface")
		}
		return up, nil
	}
	d.isUp = func(string) bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.mineUp
	}
	d.redial = func() { f.went = append(f.went, d.at().uplink.Addr) }
	return d, f
}

// change changes the host under a daemon that looks at it.
func (f *fakeHome) change(how func(*fakeHome)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	how(f)
}

// A host that boots gets its address when its network has come up, which may be
// after vxtap has started to wait for etcd.
func TestHostIsFollowedBeforeItsFirstSegment(t *testing.T) {
	gone := host.Uplink{}
	wide := eth0
	wide.Name, wide.Index, wide.MTU = "bond0", 12, 9000
	for _, tt := range []struct {
		name     string
		publicIP string
		happens  func(f *fakeHome) // a minute after the start
		then     func(f *fakeHome) // right before etcd answers, an hour after the start
		later    func(f *fakeHome) // two seconds after that
		at       host.Uplink
		err      string
	}{
		{name: "nothing happens", at: eth0},
		{name: "another address while it waits", happens: func(f *fakeHome) { f.now, f.mine = eth1, gone }, at: eth1},
		{name: "another address when etcd answers", then: func(f *fakeHome) { f.now, f.mine = eth1, gone }, at: eth1},
		{name: "an address later than etcd", then: func(f *fakeHome) { f.now, f.mine = gone, gone }, later: func(f *fakeHome) { f.now = eth1 }, at: eth1},
		{name: "gone, and back when etcd answers", happens: func(f *fakeHome) { f.now, f.mine = gone, gone }, then: func(f *fakeHome) { f.now, f.mine = eth0, eth0 }, at: eth0},
		{name: "gone for good", happens: func(f *fakeHome) { f.now, f.mine = gone, gone }, at: eth0, err: "no interface"},
		{name: "the address on another link, with another MTU", happens: func(f *fakeHome) { f.now, f.mine = wide, wide }, at: wide},
		{name: "the same when etcd answers", then: func(f *fakeHome) { f.now, f.mine = wide, wide }, at: wide},
		{name: "another way out, and the address stays", happens: func(f *fakeHome) { f.now = tun0 }, at: eth0},
		{name: "another way out, and the link of the address is down", happens: func(f *fakeHome) { f.now, f.mineUp = eth1, false }, at: eth1},
		{name: "two moves", happens: func(f *fakeHome) { f.now, f.mine = eth1, gone }, then: func(f *fakeHome) { f.now, f.mine = tun0, gone }, at: tun0},
		{name: "a public IP of a NAT", publicIP: "203.0.113.5", happens: func(f *fakeHome) { f.now, f.mine = eth1, gone }, at: eth1},
		{
			name: "a public IP that was on the interface", publicIP: "192.0.2.1", at: eth0,
			happens: func(f *fakeHome) { f.now, f.mine = eth1, gone }, err: "-public-ip=192.0.2.1 is on no interface any more",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, store *leasetest.Store, log *bytes.Buffer) {
				d, f := waiting(t, knowing(t, store, log, leasetest.Config), tt.publicIP)
				d.stateDir = ""
				store.Disconnect()
				at, done := beginning(t, d)
				for _, step := range []struct {
					f     func(*fakeHome)
					after time.Duration
				}{{nil, time.Minute}, {tt.happens, time.Hour}, {tt.then, 0}} {
					if step.f != nil {
						synctest.Wait()
						f.change(step.f)
					}
					time.Sleep(step.after)
				}
				store.Connect()
				time.Sleep(4 * time.Second) // when etcd is asked next
				synctest.Wait()
				if tt.later != nil {
					if len(done) > 0 {
						t.Error("it does not wait for an address")
					}
					f.change(tt.later)
				}
				time.Sleep(time.Minute)
				synctest.Wait()
				err := <-done
				if tt.err == "" && (err != nil || at.config.Network.String() != "10.5.0.0/16") || tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) {
					t.Errorf("got %+v, %v, want an error that says %q", *at, err, tt.err)
				}
				want := tt.at.Addr
				if tt.publicIP != "" {
					want = d.publicIP
				}
				if got := d.at(); got.uplink != tt.at || got.vtep != want {
					t.Errorf("it is at %+v, want %+v and VTEP %s", got, tt.at, want)
				}
				if moved := tt.at.Addr != eth0.Addr; moved != strings.Contains(log.String(), "is another one now, following") || moved != (len(f.went) > 0) {
					t.Errorf("etcd was asked anew from %v; the log says\n%s", f.went, log)
				}
			})
		})
	}
}

// beginning has d begin while the test goes on. The place is there when the channel
// has told.
func beginning(t *testing.T, d *daemon) (*place, <-chan error) {
	t.Helper()
	var at place
	done := make(chan error, 1)
	go func() {
		var err error
		at, err = d.begin(t.Context())
		done <- err
	}()
	return &at, done
}

// What is known of the other address counts there, etcd or not; and what a copied
// machine finds at the address of the one that it was copied from does not come
// along.
func TestWhatIsKnownWhereTheHostIsFollowedTo(t *testing.T) {
	for _, known := range []bool{true, false} {
		inBubble(t, func(t *testing.T, store *leasetest.Store, log *bytes.Buffer) {
			s := knowing(t, store, log, leasetest.Config)
			if known {
				s.d.home.Store(s.d.homeAt(eth1))
				own := *s.own.Load()
				own.Attrs.PublicIP = eth1.Addr
				s.own.Store(&own)
			}
			d, f := waiting(t, s, "")
			if !known { // too old to forward by
				time.Sleep(24 * time.Hour)
			}
			store.Disconnect()
			at, done := beginning(t, d)
			time.Sleep(time.Minute)
			synctest.Wait()
			if len(done) > 0 || (d.before.Key == "") != known {
				t.Fatalf("it does not wait at %v, with %+v", d.at(), d.before)
			}
			f.change(func(f *fakeHome) { f.now, f.mine = eth1, host.Uplink{} })
			time.Sleep(time.Minute)
			synctest.Wait()
			if !known {
				if len(done) > 0 || d.before != (lease.Lease{}) {
					t.Errorf("%d, and %+v came along", len(done), d.before)
				}
				store.Connect()
			}
			if err := <-done; err != nil || (at.known != nil) != known {
				t.Errorf("got %+v, %v, want it to go by what was known: %v\n%s", *at, err, known, log)
			}
		})
	}
}

// A segment that cannot be opened where the host was is opened where it is: whoever
// opens one waits for etcd as well.
func TestSegmentThatCannotBeOpenedWhereTheHostWas(t *testing.T) {
	for _, moved := range []bool{true, false} {
		inBubble(t, func(t *testing.T, store *leasetest.Store, log *bytes.Buffer) {
			d, f := waiting(t, knowing(t, store, log, leasetest.Config), "")
			inside := host.Uplink{Name: "eth0", Index: 2, MTU: 1500, Addr: netip.MustParseAddr("10.5.7.1")} // which no segment is opened with
			d.home.Store(d.homeAt(inside))
			f.now, f.mine = inside, inside
			at, err := d.begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if moved {
				f.now, f.mine = eth1, host.Uplink{}
			}
			err = d.runSegment(t.Context(), at)
			next, again := errors.AsType[*movedError](err)
			if again != moved || !moved && !strings.Contains(err.Error(), "inside the overlay") {
				t.Errorf("got %v, want it to be opened again: %v", err, moved)
			}
			if moved && (d.at().uplink != eth1 || next.config.Network != at.config.Network) {
				t.Errorf("it is opened again at %+v for %+v", d.at(), next)
			}
		})
	}
}
