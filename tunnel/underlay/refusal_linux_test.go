// SPDX-License-Identifier: Apache-2.0

package underlay

import (
	"bytes"
	"errors"
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"vxtap/tunnel"
)

// refusing makes every send that asks the kernel to cut fail with errno, and
// with all every other send too.
func refusing(m *mmsg, errno unix.Errno, all bool) {
	m.sendmmsg = func(fd int, first *mmsghdr, n int) (int, unix.Errno) {
		if first.hdr.Controllen > 0 || all {
			return 0, errno
		}
		return sendmmsg(fd, first, 1)
	}
}

// A refused run goes out singly, and so does all that follows; nothing is lost
// and nothing sent twice.
func TestRefusedSegmentation(t *testing.T) {
	for _, errno := range []unix.Errno{unix.EIO, unix.EINVAL} {
		t.Run(errno.Error(), func(t *testing.T) {
			a, b := pair(t, backends()["native with offloads"])
			m := a.Lane.(*mmsg)
			refusing(m, errno, false)
			segs, want := segments(14000, 1400)
			messages := []tunnel.Message{
				{To: netip.MustParseAddr("127.0.0.2"), Segments: segs[:5], Size: 1400},
				{To: netip.MustParseAddr("127.0.0.2"), Segments: segs[5:9], Size: 1400},
				{To: netip.MustParseAddr("127.0.0.2"), Segments: segs[9:], Size: 1400},
			}
			for range 2 {
				a.Send(messages)
				for i := range messages {
					if messages[i].Err != nil {
						t.Errorf("message %d: %v", i, messages[i].Err)
					}
				}
				if got, _ := receive(t, b, 14000); !slices.EqualFunc(got, want, bytes.Equal) {
					t.Errorf("got %d datagrams, want %d, or their contents differ", len(got), len(want))
				}
			}
			if got := a.MaxSegments(); got != 1 {
				t.Errorf("MaxSegments %d, want 1", got)
			}
			if got, want := a.Offloads(), []string{"udp-gro"}; !slices.Equal(got, want) {
				t.Errorf("offloads %v, want %v", got, want)
			}
		})
	}
}

// What does not go out singly either was not refused for being cut.
func TestRefusedDatagramsAreNoRefusedSegmentation(t *testing.T) {
	a, _ := pair(t, backends()["native with offloads"])
	refusing(a.Lane.(*mmsg), unix.EINVAL, true)
	segs, _ := segments(14000, 1400)
	messages := []tunnel.Message{{To: netip.MustParseAddr("127.0.0.2"), Segments: segs, Size: 1400}}
	a.Send(messages)
	if messages[0].Err == nil {
		t.Error("no error")
	}
	if got := a.MaxSegments(); got != maxSegments {
		t.Errorf("MaxSegments %d, want %d", got, maxSegments)
	}
}

// A full socket holds nobody up: what finds no room is lost, and told.
func TestFullSocketIsNotWaitedFor(t *testing.T) {
	a, _ := pair(t, backends()["native"])
	m, calls := a.Lane.(*mmsg), 0
	m.sendmmsg = func(int, *mmsghdr, int) (int, unix.Errno) { calls++; return 0, unix.EAGAIN }
	segs, _ := segments(2000, 100)
	messages := []tunnel.Message{{To: netip.MustParseAddr("127.0.0.2"), Segments: segs, Size: 100}}
	a.Send(messages)
	if !errors.Is(messages[0].Err, tunnel.ErrFull) || messages[0].Lost != 1<<20-1 {
		t.Errorf("got %v and lost %b, want %v and 20 segments", messages[0].Err, messages[0].Lost, tunnel.ErrFull)
	}
	if calls != len(segs) {
		t.Errorf("%d calls, want %d: one for each datagram", calls, len(segs))
	}
}

// Of a run that goes out singly, each segment is lost or not by itself.
func TestLostSegmentsAreTold(t *testing.T) {
	a, b := pair(t, backends()["native with offloads"])
	m, n := a.Lane.(*mmsg), 0
	m.sendmmsg = func(fd int, first *mmsghdr, _ int) (int, unix.Errno) {
		if first.hdr.Controllen > 0 {
			return 0, unix.EIO
		}
		if n++; n%3 == 0 {
			return 0, unix.ENOBUFS
		}
		return sendmmsg(fd, first, 1)
	}
	segs, _ := segments(1000, 100)
	messages := []tunnel.Message{{To: netip.MustParseAddr("127.0.0.2"), Segments: segs, Size: 100}}
	a.Send(messages)
	if want := uint64(0b0100100100); messages[0].Lost != want || !errors.Is(messages[0].Err, tunnel.ErrFull) {
		t.Errorf("lost %b and %v, want %b and %v", messages[0].Lost, messages[0].Err, want, tunnel.ErrFull)
	}
	if got, _ := receive(t, b, 700); len(got) != 7 {
		t.Errorf("%d datagrams arrived, want 7", len(got))
	}
}
