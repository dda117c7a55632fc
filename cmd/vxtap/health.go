// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"net"
	"net/http"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// listenHealth opens the health port; nil if there is to be none. flanneld
// panics where the port is taken.
func (d *daemon) listenHealth(ctx context.Context) (net.Listener, error) {
	if !d.health.IsValid() {
		return nil, nil
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", d.health.String())
	if err != nil {
		return nil, fmt.Errorf("open the health port, see -healthz-ip and -healthz-port: %w", err)
	}
	return l, nil
}

// handleHealth adds flanneld's two paths, with its statuses, and the metrics.
// /healthz means that the process lives, whatever it waits for: restarting it
// would not bring etcd back. /readyz means that frames are being forwarded.
func (d *daemon) handleHealth(mux *http.ServeMux) {
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "vxtap is running")
	})
	mux.HandleFunc("/readyz", func(w http.ResponseWriter, _ *http.Request) {
		if p := d.phase.Load().(phase); p != phaseReady {
			http.Error(w, "vxtap is not ready: "+string(p), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "vxtap is ready")
	})
	mux.Handle("/metrics", promhttp.HandlerFor(newMetrics(d.status), promhttp.HandlerOpts{}))
}
