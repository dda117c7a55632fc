// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"testing"
	"time"
)

func TestMedian(t *testing.T) {
	tests := []struct {
		name string
		in   []float64
		want float64
	}{
		{"nothing", nil, 0},
		{"one", []float64{3}, 3},
		{"odd, unsorted", []float64{9, 1, 5}, 5},
		{"even", []float64{4, 1, 2, 9}, 3},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := median(tt.in); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

func TestParseIperf(t *testing.T) {
	tests := []struct {
		name, in string
		want     float64
		err      string
	}{
		{"a rate", `{"end":{"sum_received":{"bits_per_second":5e9}}}`, 5e9, ""},
		{"an error", `{"error":"unable to connect to server: Connection refused"}`, 0, "refused"},
		{"nothing arrived", `{"end":{"sum_received":{"bits_per_second":0}}}`, 0, "nothing"},
		{"no JSON", `iperf3: usage`, 0, "output of iperf3"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := parseIperf([]byte(tt.in))
			if got != tt.want || (err == nil) != (tt.err == "") || (err != nil && !strings.Contains(err.Error(), tt.err)) {
				t.Errorf("got %v and %v, want %v and %q", got, err, tt.want, tt.err)
			}
		})
	}
}

func TestReport(t *testing.T) {
	var out strings.Builder
	report(&out, settings{rounds: 3, time: time.Second}, []result{{
		work{"1 TCP stream", containers, 1, false},
		map[string][]float64{kernelName: {10e9, 12e9, 11e9}, vxtapName: {5.5e9, 5e9, 6e9}},
	}})
	for _, want := range []string{"11.00", "5.50", "0.50", "medians of 3"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the table lacks %s:\n%s", want, out.String())
		}
	}
}
