// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// listenHealth opens the health port; nil if there is to be none. flanneld
// panics where the port is taken.
func (d *daemon) listenHealth(ctx context.Context) (net.Listener, error) {
	if !d.health.IsValid() {
		return nil, nil
	}
	var lc net.ListenConfig
	var l net.Listener
	err := d.onceFree(ctx, func() (err error) {
		l, err = lc.Listen(ctx, "tcp", d.health.String())
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("open the health port, see -healthz-ip and -healthz-port: %w", err)
	}
	return l, nil
}

// handleHealth adds flanneld's two paths, with its statuses, and the metrics.
// /healthz means that the process lives, whatever it waits for: restarting it
// would not bring etcd back. /readyz means that frames are being forwarded and
// that the lease is ours.
func (d *daemon) handleHealth(mux *http.ServeMux) {
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "vxtap is running")
	})
	mux.HandleFunc("/readyz", func(w http.ResponseWriter, _ *http.Request) {
		if p := d.state(); p != phaseReady {
			http.Error(w, "vxtap is not ready: "+string(p), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "vxtap is ready"+d.note())
	})
	mux.Handle("/metrics", metricsHandler(d.status))
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "there are /healthz, /readyz and /metrics", http.StatusNotFound)
	})
}

const (
	// maxScrapes is how many clients get the metrics at a time; others get 503
	// at once. A scrape of a large network is megabytes in memory until the
	// client has read it, and nobody makes it read.
	maxScrapes = 4
	// statusEvery is how old the status in a scrape may be.
	statusEvery = 200 * time.Millisecond
)

func metricsHandler(status func(time.Time) Status) http.Handler {
	metrics := newMetrics(atMostEvery(statusEvery, status))
	return promhttp.HandlerFor(metrics, promhttp.HandlerOpts{MaxRequestsInFlight: maxScrapes})
}

// atMostEvery returns status, computed at most once in d by the clock of those
// who ask: it copies the counters of every peer. They share what it returns and
// must not change it.
func atMostEvery(d time.Duration, status func(time.Time) Status) func(time.Time) Status {
	var mu sync.Mutex
	var at time.Time
	var last Status
	return func(now time.Time) Status {
		mu.Lock()
		defer mu.Unlock()
		if age := now.Sub(at); at.IsZero() || age < 0 || age >= d {
			at, last = now, status(now)
		}
		return last
	}
}
