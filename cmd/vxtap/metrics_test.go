// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"vxtap/tunnel"
)

func TestMetricsLint(t *testing.T) {
	problems, err := testutil.GatherAndLint(newMetrics(func(time.Time) Status { return busyStatus() }))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, "vxtap_") {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
}

func TestMetrics(t *testing.T) {
	c := newStatusCollector(func(time.Time) Status { return busyStatus() })
	want := `
# HELP vxtap_drops_total Frames that the switch dropped.
# TYPE vxtap_drops_total counter
`
	for _, direction := range []string{"in", "out"} {
		for r := range tunnel.NumReasons {
			if !occurs(r, direction) {
				continue
			}
			n := map[string]string{"out no-peer": "7", "out broadcast": "3", "in not-a-peer": "1"}[direction+" "+r.String()]
			if n == "" {
				n = "0"
			}
			want += `vxtap_drops_total{direction="` + direction + `",reason="` + r.String() + `"} ` + n + "\n"
		}
	}
	want += `
# HELP vxtap_cut_peers Peers to which super-frames are cut although they leave whole to others, or would.
# TYPE vxtap_cut_peers gauge
vxtap_cut_peers 3
# HELP vxtap_flagged_total Frames that passed only because a check is set to log.
# TYPE vxtap_flagged_total counter
vxtap_flagged_total{direction="in",reason="foreign-source"} 2
vxtap_flagged_total{direction="in",reason="no-peers-yet"} 0
vxtap_flagged_total{direction="in",reason="not-a-peer"} 0
# HELP vxtap_frames_received_total Frames that the switch took in. Always the sum of those delivered and dropped.
# TYPE vxtap_frames_received_total counter
vxtap_frames_received_total{direction="in"} 5
vxtap_frames_received_total{direction="out"} 1000
# HELP vxtap_ipv6_frames_received_total The same for the IPv6 half of a dual-stack network, whose other metrics are of IPv4: Frames that the switch took in. Always the sum of those delivered and dropped.
# TYPE vxtap_ipv6_frames_received_total counter
vxtap_ipv6_frames_received_total{direction="in"} 0
vxtap_ipv6_frames_received_total{direction="out"} 9
# HELP vxtap_ipv6_peers The same for the IPv6 half of a dual-stack network, whose other metrics are of IPv4: Hosts that frames can go to.
# TYPE vxtap_ipv6_peers gauge
vxtap_ipv6_peers 1
# HELP vxtap_lease_expiry_seconds Seconds until this host's lease ends unless it is renewed.
# TYPE vxtap_lease_expiry_seconds gauge
vxtap_lease_expiry_seconds 83520
# HELP vxtap_peer_bytes_total Bytes of the frames delivered to (out) and from (in) a peer.
# TYPE vxtap_peer_bytes_total counter
vxtap_peer_bytes_total{direction="in",peer="10.5.100.0/24"} 0
vxtap_peer_bytes_total{direction="in",peer="10.5.9.0/24"} 900
vxtap_peer_bytes_total{direction="out",peer="10.5.100.0/24"} 0
vxtap_peer_bytes_total{direction="out",peer="10.5.9.0/24"} 6.3999e+07
# HELP vxtap_peers Hosts that frames can go to.
# TYPE vxtap_peers gauge
vxtap_peers 2
# HELP vxtap_tap_overflows_total Frames that found the TAP's queue full. A super-frame is one.
# TYPE vxtap_tap_overflows_total counter
vxtap_tap_overflows_total 4
# HELP vxtap_tx_path_uplink Whether super-frames leave whole. 0: they are cut here.
# TYPE vxtap_tx_path_uplink gauge
vxtap_tx_path_uplink 1
# HELP vxtap_warnings What keeps containers from the overlay, or waits for somebody to do something; vxtap status names it.
# TYPE vxtap_warnings gauge
vxtap_warnings 1
`
	err := testutil.CollectAndCompare(c, strings.NewReader(want), metricDrops, metricFlagged, metricReceived,
		ipv6Name(metricReceived), ipv6Name(metricPeers), metricLeaseExpiry, metricPeerBytes, metricPeers, metricTAPOverflows, metricUplink, metricCutPeers, metricWarnings)
	if err != nil {
		t.Error(err)
	}
}

// docs/drops.md says which reasons there are in which direction, and so do the
// metrics.
func TestReasonsOccurWhereTheDocumentHasThem(t *testing.T) {
	text, err := os.ReadFile("../../docs/drops.md")
	if err != nil {
		t.Fatal(err)
	}
	for section := range strings.SplitSeq(string(text), "\n## ") {
		title, body, _ := strings.Cut(section, "\n")
		out, in := strings.HasPrefix(title, "Both") || strings.HasPrefix(title, "Out"), strings.HasPrefix(title, "Both") || strings.HasPrefix(title, "In:")
		if !out && !in {
			continue
		}
		for r := range tunnel.NumReasons {
			if !strings.Contains(body, "\n| `"+r.String()+"` |") {
				continue
			}
			if got := [2]bool{occurs(r, directionOut), occurs(r, directionIn)}; got != [2]bool{out, in} {
				t.Errorf("%s: got out and in %v, the document says %v", r, got, [2]bool{out, in})
			}
		}
	}
}

// Before there is a switch there is nothing to count, and a reservation has no
// end: neither is a zero.
func TestMetricsWhileWaiting(t *testing.T) {
	c := newStatusCollector(func(time.Time) Status { return Status{State: string(phaseWaiting)} })
	for name, want := range map[string]int{metricBuildInfo: 1, metricEtcdConnected: 1, metricReady: 1, metricLeaseExpiry: 0, metricDrops: 0, metricPeers: 0} {
		if got := testutil.CollectAndCount(c, name); got != want {
			t.Errorf("got %d of %s, want %d", got, name, want)
		}
	}
	if err := prometheus.NewPedanticRegistry().Register(c); err != nil {
		t.Error(err)
	}
}

func TestHealth(t *testing.T) {
	d := &daemon{}
	mux := http.NewServeMux()
	d.handleHealth(mux)
	tests := []struct {
		name   string
		phase  phase
		path   string
		status int
		body   string
	}{
		{"waiting lives", phaseWaiting, "/healthz", 200, "vxtap is running\n"},
		{"waiting is not ready", phaseWaiting, "/readyz", 503, "vxtap is not ready: waiting for etcd and the network config\n"},
		{"ready", phaseReady, "/readyz", 200, "vxtap is ready\n"},
		{"stopping is not ready", phaseStopping, "/readyz", 503, "vxtap is not ready: stopping\n"},
		{"another path", phaseReady, "/", 404, "there are /healthz, /readyz and /metrics\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d.phase.Store(tt.phase)
			w := httptest.NewRecorder()
			mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, tt.path, nil))
			if w.Code != tt.status || w.Body.String() != tt.body {
				t.Errorf("got %d %q, want %d %q", w.Code, w.Body, tt.status, tt.body)
			}
		})
	}
}

// stuckWriter is a client that does not read.
type stuckWriter struct {
	http.ResponseWriter
	writing chan<- struct{}
	release <-chan struct{}
}

func (w *stuckWriter) Write(b []byte) (int, error) {
	select {
	case w.writing <- struct{}{}:
	default:
	}
	<-w.release
	return w.ResponseWriter.Write(b)
}

// Answers that nobody reads must not pile up in memory.
func TestMetricsOfClientsThatDoNotReadAreFew(t *testing.T) {
	h := metricsHandler(func(time.Time) Status { return busyStatus() })
	release := make(chan struct{})
	var g sync.WaitGroup
	for range maxScrapes {
		writing := make(chan struct{}, 1)
		g.Go(func() {
			w := &stuckWriter{httptest.NewRecorder(), writing, release}
			h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
		})
		<-writing
	}
	scrape := func() int {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
		return w.Code
	}
	if got := scrape(); got != http.StatusServiceUnavailable {
		t.Errorf("got %d for one scrape more than %d, want 503", got, maxScrapes)
	}
	close(release)
	g.Wait()
	if got := scrape(); got != http.StatusOK {
		t.Errorf("got %d after the others ended, want 200", got)
	}
}

func TestMetricsComputeOneStatusForManyScrapes(t *testing.T) {
	n := 0
	status := atMostEvery(statusEvery, func(time.Time) Status { n++; return Status{PID: n} })
	for _, tt := range []struct {
		name  string
		after time.Duration
		want  int
	}{
		{"the first", 0, 1},
		{"at the same time", 0, 1},
		{"just before it is too old", statusEvery - 1, 1},
		{"too old", statusEvery, 2},
		{"a clock that went back", 0, 3},
	} {
		if got := status(showTime.Add(tt.after)).PID; got != tt.want {
			t.Errorf("%s: got status number %d, want %d", tt.name, got, tt.want)
		}
	}
}

func TestMetricsOfALostLease(t *testing.T) {
	s := busyStatus()
	s.State, s.Lease = string(phaseLost), LeaseStatus{State: leaseLost}
	c := newStatusCollector(func(time.Time) Status { return s })
	want := `
# HELP vxtap_ready Whether frames are being forwarded and the lease is held.
# TYPE vxtap_ready gauge
vxtap_ready 0
`
	if err := testutil.CollectAndCompare(c, strings.NewReader(want), metricReady, metricLeaseExpiry); err != nil {
		t.Error(err)
	}
}

func TestHealthOfALostLease(t *testing.T) {
	d := &daemon{segment: new(segment)}
	d.phase.Store(phaseReady)
	d.segment.lost.Store(true)
	mux := http.NewServeMux()
	d.handleHealth(mux)
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/readyz", nil))
	if want := "vxtap is not ready: lease lost, asking again\n"; w.Code != http.StatusServiceUnavailable || w.Body.String() != want {
		t.Errorf("got %d %q, want 503 %q", w.Code, w.Body, want)
	}
}

// People look the metrics up; each must be there to be found.
func TestEveryMetricIsDocumented(t *testing.T) {
	text, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	for name := range newStatusCollector(nil).descs {
		if !bytes.Contains(text, []byte("`"+name)) {
			t.Errorf("docs/operations.md does not have %s", name)
		}
	}
}
