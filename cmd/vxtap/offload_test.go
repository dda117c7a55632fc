// SPDX-License-Identifier: Apache-2.0

package main

import "testing"

func TestParseOffloads(t *testing.T) {
	without := func(change func(*offloads)) offloads {
		o := allOffloads()
		change(&o)
		return o
	}
	tests := []struct {
		in   string
		want offloads
		bad  bool
	}{
		{in: "auto", want: allOffloads()},
		{in: "off"},
		{in: "csum", want: offloads{csum: true}},
		{in: "csum, tso,udp-segment", want: offloads{csum: true, tso: true, segment: true}},
		{in: "udp-gro,coalesce", want: offloads{gro: true, coalesce: true}},
		{in: "-uso", want: without(func(o *offloads) { o.uso = false })},
		{in: "-udp-gro,-udp-segment,-coalesce", want: without(func(o *offloads) { o.gro, o.segment, o.coalesce = false, false, false })},
		{in: "-csum", want: offloads{segment: true, gro: true, coalesce: true}}, // takes the super-frames with it
		{in: "", bad: true},
		{in: "auto,csum", bad: true},
		{in: "csum,,tso", bad: true},
		{in: "-csum,tso", bad: true},
		{in: "uso", bad: true},
		{in: "CSUM", bad: true},
	}
	for _, tt := range tests {
		t.Run(tt.in, func(t *testing.T) {
			got, err := parseOffloads(tt.in)
			if (err != nil) != tt.bad || !tt.bad && got != tt.want {
				t.Errorf("got %+v and %v, want %+v", got, err, tt.want)
			}
		})
	}
}

func TestDefaultQueues(t *testing.T) {
	for cores, want := range map[int]int{1: 1, 2: 2, 3: 2, 4: 2, 6: 3, 16: 8, 128: 8} {
		if got := defaultQueues(cores); got != want {
			t.Errorf("%d cores: %d queues, want %d", cores, got, want)
		}
	}
}
