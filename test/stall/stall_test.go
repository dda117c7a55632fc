// SPDX-License-Identifier: Apache-2.0

package stall

import (
	"testing"
	"time"
)

func TestParse(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		want       time.Duration
	}{
		{"as the kernel has it", "some avg10=18.62 avg60=16.70 avg300=14.49 total=10758158564\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=7\n", 10758158564 * time.Microsecond},
		{"before Linux 5.13", "some avg10=0.00 avg60=0.00 avg300=0.00 total=12\n", 12 * time.Microsecond},
		{"another line", "full avg10=0.00 avg60=0.00 avg300=0.00 total=7\n", 0},
		{"no number", "some avg10=0.00 avg60=0.00 avg300=0.00 total=x\n", 0},
		{"nothing", "", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := parse([]byte(tt.text)); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

func TestLess(t *testing.T) {
	const s = time.Second
	for _, tt := range []struct {
		name                string
		took, stalled, want time.Duration
	}{
		{"an idle machine", 2 * s, 0, 2 * s},
		{"one that was busy for half of it", 2 * s, s, s},
		{"one that was busy all of the time", 8 * s, 8 * s, 2 * s},
		{"a count that went back", 2 * s, -s, 2 * s},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := less(tt.took, tt.stalled); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}
