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
		want     received
		err      string
	}{
		{"a rate", `{"end":{"sum_received":{"bits_per_second":5e9,"bytes":1e9,"seconds":1.6}}}`, received{BitsPerSecond: 5e9, Bytes: 1e9, Seconds: 1.6}, ""},
		{
			"datagrams, of which a sum has no length", `{"end":{"sum_received":{"bits_per_second":8000,"bytes":2000,"packets":30,"lost_packets":10}}}`,
			received{BitsPerSecond: 8000, Bytes: 2000, Seconds: 2, Packets: 30, Lost: 10}, "",
		},
		{"an error", `{"error":"unable to connect to server: Connection refused"}`, received{}, "refused"},
		{"nothing arrived", `{"end":{"sum_received":{"bits_per_second":0}}}`, received{}, "nothing"},
		{"no JSON", `iperf3: usage`, received{}, "output of iperf3"},
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

func TestParseSockperf(t *testing.T) {
	text := `sockperf: [Total Run] RunTime=1.001 sec; Warm up time=400 msec; SentMessages=22689; ReceivedMessages=22688
sockperf: [Valid Duration] RunTime=0.500 sec; SentMessages=10087; ReceivedMessages=10000
sockperf: ---> percentile 99.900 =   55.266
sockperf: ---> percentile 99.000 =   37.635
sockperf: ---> percentile 50.000 =   26.328
`
	tests := []struct {
		name, in string
		want     exchange
		err      string
	}{
		{"all of it", text, exchange{26.328, 37.635, 20000, 22689}, ""},
		{"cut short", text[:300], exchange{}, "output of sockperf"},
		{"no answer", "Test ended\nNo messages were received from the server. Is the server down?\n", exchange{}, "No messages"},
		{"nothing", "", exchange{}, "output of sockperf"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := parseSockperf(tt.in)
			if got != tt.want || (err == nil) != (tt.err == "") || (err != nil && !strings.Contains(err.Error(), tt.err)) {
				t.Errorf("got %v and %v, want %v and %q", got, err, tt.want, tt.err)
			}
		})
	}
}

func TestReport(t *testing.T) {
	var out strings.Builder
	w := work{name: "1 TCP stream", place: containers}
	report(&out, settings{rounds: 3, time: time.Second}, []string{kernelName, vxtapName, otherName}, []*row{{
		w, rate, map[string][]float64{kernelName: {10, 12, 11}, vxtapName: {5.5, 5, 6}},
	}})
	for _, want := range []string{"11.0", "5.50 (0.50)", " - ", "medians of 3"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the table lacks %s:\n%s", want, out.String())
		}
	}
}
