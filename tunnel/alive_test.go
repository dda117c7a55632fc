// SPDX-License-Identifier: Apache-2.0

package tunnel

import (
	"testing"
	"testing/synctest"

	"vxtap/encap/virtio"
)

// hangingPort is one whose reads stop returning, as in a broken driver.
type hangingPort struct {
	fakePort
	hang chan struct{} // closed: reads go on
}

func (p *hangingPort) ReadFrame(b []byte, h *virtio.Header, wait bool) (int, error) {
	<-p.hang
	return p.fakePort.ReadFrame(b, h, wait)
}

func TestAliveAsksSleepingLanes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFakeWaiter()
		s, stop := running(t, Lane{Port: &fakePort{}, Underlay: &polled{}, Waiter: w})
		for range 3 {
			waits := w.waits
			if err := s.Alive(); err != nil {
				t.Error(err)
			}
			synctest.Wait()
			if w.waits != waits+1 {
				t.Errorf("slept %d times, want the lane woken once from %d", w.waits, waits)
			}
		}
		stop()
	})
}

func TestAliveNoticesALaneThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &hangingPort{hang: make(chan struct{})}
		s, stop := running(t, Lane{Port: p, Underlay: &polled{}, Waiter: newFakeWaiter()})
		if err := s.Alive(); err != nil {
			t.Errorf("got %v before a sign was asked for", err) // its first turn gave one
		}
		synctest.Wait()
		for range 2 {
			if err := s.Alive(); err == nil || err.Error() != "lane 1 of 1 does not turn" {
				t.Errorf("got %v, want the lane named", err)
			}
		}
		close(p.hang)
		synctest.Wait()
		if err := s.Alive(); err != nil {
			t.Errorf("got %v after it went on", err)
		}
		stop()
	})
}

// The portable back end's lanes sleep in their reads.
func TestAliveTakesALaneThatCannotBeAsked(t *testing.T) {
	s, err := New(Config{
		VNI: testVNI, MAC: ownMAC, RouterMAC: routerMAC, Subnet: ownSubnet, MTU: testMTU,
		Lanes: []Lane{{Port: &fakePort{}, Underlay: &polled{}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := s.Alive(); err != nil {
			t.Error(err)
		}
	}
}
