// SPDX-License-Identifier: Apache-2.0

package tunnel

import (
	"encoding/binary"
	"slices"
	"testing"
)

// withPort gives a UDP frame another source port, which makes it another flow.
func withPort(port uint16) func([]byte) {
	return func(b []byte) {
		old := binary.BigEndian.Uint16(b[34:])
		binary.BigEndian.PutUint16(b[34:], port)
		check := ^fold(uint32(^binary.BigEndian.Uint16(b[40:])) + uint32(^old) + uint32(port))
		binary.BigEndian.PutUint16(b[40:], check)
	}
}

// Datagrams of one flow and one length share a message, so that the kernel
// takes them for one; all else starts another.
func TestRunsShareAMessage(t *testing.T) {
	to := func(dst string, n int, edit func([]byte)) []byte {
		return frame(routerMAC, ownMAC, "10.5.1.5", dst, n, edit)
	}
	repeat := func(f []byte, n int) (all [][]byte) {
		for range n {
			all = append(all, slices.Clone(f))
		}
		return all
	}
	tests := []struct {
		name   string
		frames [][]byte
		most   int
		want   []int // segments of each message
	}{
		{"one flow, one length", repeat(to("10.5.2.9", 100, nil), 40), 63, []int{40}},
		{"a shorter one ends the run", slices.Concat(repeat(to("10.5.2.9", 100, nil), 3), repeat(to("10.5.2.9", 50, nil), 3)), 63, []int{4, 2}},
		{"a longer one starts another", slices.Concat(repeat(to("10.5.2.9", 50, nil), 2), repeat(to("10.5.2.9", 100, nil), 2)), 63, []int{2, 2}},
		{"another flow", slices.Concat(repeat(to("10.5.2.9", 100, nil), 2), repeat(to("10.5.2.9", 100, withPort(7)), 2)), 63, []int{2, 2}},
		{"another peer", slices.Concat(repeat(to("10.5.2.9", 100, nil), 2), repeat(to("10.5.3.9", 100, nil), 2)), 63, []int{2, 2}},
		{"another congestion mark", slices.Concat(repeat(to("10.5.2.9", 100, nil), 2), repeat(to("10.5.2.9", 100, withTOS(3)), 2)), 63, []int{2, 2}},
		{"as many as the kernel takes", repeat(to("10.5.2.9", 100, nil), 64), 63, []int{63, 1}},
		{"as much as a datagram may hold", repeat(to("10.5.2.9", 1400, nil), 46), 63, []int{45, 1}},
		{"a kernel that cuts nothing", repeat(to("10.5.2.9", 100, nil), 3), 1, []int{1, 1, 1}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			u := &messageSizes{fakeUnderlay: fakeUnderlay{maxSegments: tt.most}}
			p := &fakePort{reads: tt.frames}
			n := len(tt.frames)
			stats := run(t, p, &u.fakeUnderlay, func(c *Config) { c.Lanes[0].Underlay = u })
			if !slices.Equal(u.sizes, tt.want) {
				t.Errorf("messages of %v, want %v", u.sizes, tt.want)
			}
			if len(u.sent) != n || stats.Out.Delivered != uint64(n) {
				t.Errorf("%d datagrams and %d delivered, want %d", len(u.sent), stats.Out.Delivered, n)
			}
		})
	}
}

// messageSizes notes how many segments each message has, and loses those that
// lost has a bit for.
type messageSizes struct {
	fakeUnderlay
	sizes []int
	lost  uint64
}

func (u *messageSizes) Send(messages []Message) {
	for i := range messages {
		u.sizes = append(u.sizes, len(messages[i].Segments))
	}
	u.fakeUnderlay.Send(messages)
	if u.lost != 0 {
		for i := range messages {
			messages[i].Lost, messages[i].Err = u.lost, ErrFull
		}
	}
}

// Of a run that is lost in part, each frame counts for itself.
func TestLossInARunCountsFrames(t *testing.T) {
	p := &fakePort{}
	for range 5 {
		p.reads = append(p.reads, frame(routerMAC, ownMAC, "10.5.1.5", "10.5.2.9", 100, nil))
	}
	u := &messageSizes{lost: 0b01010}
	stats := run(t, p, &u.fakeUnderlay, func(c *Config) { c.Lanes[0].Underlay = u })
	if d := stats.Out; d.Delivered != 3 || d.Drops[UnderlayFull] != 2 {
		t.Errorf("delivered %d, dropped %v", d.Delivered, drops(d))
	}
}

// A super-frame and datagrams of the same flow never share a message, whatever
// their sizes.
func TestSuperFramesAreNoRuns(t *testing.T) {
	p := &fakePort{}
	for i := range 4 {
		p.reads = append(p.reads, tcpFrame(routerMAC, ownMAC, "10.5.1.5", "10.5.2.9", 1398*(1+i%2), uint32(i), i%2 == 1))
		p.headers = append(p.headers, superHeader(1398))
		if i%2 == 0 {
			p.headers[i].Flags, p.headers[i].GSOType = 0, 0
		}
	}
	u := &messageSizes{}
	stats := run(t, p, &u.fakeUnderlay, func(c *Config) { c.Lanes[0].Underlay = u })
	if want := []int{1, 2, 1, 2}; !slices.Equal(u.sizes, want) || stats.Out.Delivered != 4 {
		t.Errorf("messages of %v, want %v; delivered %d", u.sizes, want, stats.Out.Delivered)
	}
}
