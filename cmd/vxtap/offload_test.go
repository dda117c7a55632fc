// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"testing"
)

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

// What a flag does not do because of another is said, and nothing else is.
func TestOffloadsLack(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		queues     int
		want       []string // parts of a note each
	}{
		{"everything", "auto", 64, nil},
		{"nothing, and the queues are ours to choose", "off", 0, nil},
		{"nothing, but queues", "off", 4, []string{"-queues=4: it is one, since -offload=off"}},
		{"nothing, and one queue", "off", 1, nil},
		{"all but checksums", "-csum", 0, []string{"tso, uso and coalesce are off too"}},
		{"all but checksums, many queues", "-csum", 64, []string{"coalesce are off too", "-queues=64: it is one, since -offload=-csum"}},
		{"all but something else", "-uso,-udp-gro", 64, nil},
		{"joining for nobody", "udp-gro,coalesce", 0, []string{"coalesce makes super-frames"}},
		{"joining TCP", "csum,tso,coalesce", 2, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o, err := parseOffloads(tt.text)
			if err != nil {
				t.Fatal(err)
			}
			got := o.lacks(tt.text, tt.queues)
			if len(got) != len(tt.want) {
				t.Fatalf("got %q, want %q", got, tt.want)
			}
			for i := range got {
				if !strings.Contains(got[i], tt.want[i]) {
					t.Errorf("got %q, want %q in it", got[i], tt.want[i])
				}
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
